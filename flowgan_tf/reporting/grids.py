"""Grids of images as PNG files."""

from __future__ import annotations

import math
import os

import numpy as np
import tensorflow as tf

__all__ = ['image_grid', 'save_png']


def image_grid(images: np.ndarray, columns: int | None = None, tile: int = 56) -> np.ndarray:
  """Lays images out in rows, with a thin line between them.

  Args:
    images: float `[n, height, width, channels]`; values outside [0, 1] are clipped, and non-finite ones are drawn as
      mid-grey.
    columns: Images in a row; by default about as many as rows.
    tile: Small images are enlarged by a whole factor, without smoothing, to about this height in pixels.

  Returns:
    uint8 `[grid height, grid width, channels]`.
  """
  images = np.nan_to_num(np.asarray(images, np.float32), nan=0.5, posinf=0.5, neginf=0.5)
  n, height, width, channels = images.shape
  columns = columns or math.ceil(math.sqrt(n))
  rows = math.ceil(n / columns)
  factor = max(1, tile // height)
  pixels = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8).repeat(factor, axis=1).repeat(factor, axis=2)
  line = 2
  step_y, step_x = height * factor + line, width * factor + line
  grid = np.full((rows * step_y + line, columns * step_x + line, channels), 110, np.uint8)
  for i, image in enumerate(pixels):
    y, x = line + (i // columns) * step_y, line + (i % columns) * step_x
    grid[y : y + height * factor, x : x + width * factor] = image
  return grid


def save_png(pixels: np.ndarray, path: str | os.PathLike) -> None:
  """Writes uint8 `[height, width, channels]` as a PNG file."""
  tf.io.write_file(os.fspath(path), tf.io.encode_png(pixels))
