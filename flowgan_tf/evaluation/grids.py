"""Grids of images as PNG files."""

from __future__ import annotations

import math
import os
import pathlib

import numpy as np
import tensorflow as tf

from flowgan_tf.files import write_atomically

__all__ = ['image_grid', 'neighbor_grid', 'save_png']

_BACKGROUND = 110  # Grey that stands out from white, black and most photographs.
_LINE = 2
# Space around the groups of a picture.
_PAPER = 255
_GAP = 10


def image_grid(images: np.ndarray, columns: int | None = None, tile: int = 64) -> np.ndarray:
  """Lays images out in rows, with thin lines between them.

  Args:
    images: Float `[n, height, width, channels]`. Values outside [0, 1] are clipped; non-finite ones become mid-grey.
    columns: Number of images per row. The default makes the number of rows about the same.
    tile: Small images are enlarged by a whole factor, without smoothing, to about this height in pixels.

  Returns:
    The grid, uint8 `[grid height, grid width, channels]`.
  """
  images = np.nan_to_num(np.asarray(images, np.float32), nan=0.5, posinf=0.5, neginf=0.5)
  n, height, width, channels = images.shape
  columns = columns or math.ceil(math.sqrt(n))
  rows = math.ceil(n / columns)
  factor = max(1, tile // height)
  pixels = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8).repeat(factor, axis=1).repeat(factor, axis=2)
  step_y, step_x = height * factor + _LINE, width * factor + _LINE
  grid = np.full((rows * step_y + _LINE, columns * step_x + _LINE, channels), _BACKGROUND, np.uint8)
  for i, image in enumerate(pixels):
    y, x = _LINE + (i // columns) * step_y, _LINE + (i % columns) * step_x
    grid[y : y + height * factor, x : x + width * factor] = image
  return grid


def neighbor_grid(images: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
  """Lays out samples, each with its nearest training images on its right, nearest first.

  Samples run down the picture. Many samples fill several columns from left to right, so that the picture is about 1.5
  times as wide as it is high.

  Args:
    images: Samples, float `[n, height, width, channels]`, drawn as in `image_grid`.
    neighbors: Neighbours of each sample, float `[n, k, height, width, channels]`.

  Returns:
    The picture, uint8 `[picture height, picture width, channels]`.

  Raises:
    ValueError: If the shapes of samples and neighbours do not match.
  """
  n, k = neighbors.shape[:2]
  if images.shape != (n, *neighbors.shape[2:]):
    raise ValueError(
      '`neighbors` must have shape [n, k, height, width, channels] for `images` of [n, height, width, channels]. '
      f'Got: {neighbors.shape} and {images.shape}.'
    )
  rows = math.ceil(n / max(1, round(math.sqrt(1.5 * n / (1 + k)))))
  columns = []
  for start in range(0, n, rows):
    sample = image_grid(images[start : start + rows], columns=1)
    nearest = image_grid(neighbors[start : start + rows].reshape(-1, *images.shape[1:]), columns=k)
    column = np.concatenate([_pad(sample, 0, _GAP), nearest], axis=1)
    below = len(columns[0]) - len(column) if columns else 0
    columns.append(_pad(column, below, 4 * _GAP))
  return np.concatenate(columns, axis=1)[:, : -4 * _GAP]


def _pad(pixels: np.ndarray, below: int, right: int) -> np.ndarray:
  return np.pad(pixels, ((0, below), (0, right), (0, 0)), constant_values=_PAPER)


def save_png(pixels: np.ndarray, path: str | os.PathLike) -> None:
  """Writes a uint8 picture `[height, width, channels]` as a PNG file, whole or not at all.

  Raises:
    UsageError: If the file cannot be written.
  """
  write_atomically(pathlib.Path(path), tf.io.encode_png(pixels).numpy())
