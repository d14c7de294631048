"""Grids of images: rows and columns with lines between them."""

import math
from collections.abc import Sequence

import numpy as np

_BACKGROUND = 110  # Grey that stands out from white, black and most photographs.
_LINE = 2
# Space around the groups of a picture.
_PAPER = 255
_GAP = 10


def image_grid(images: np.ndarray, columns: int | None = None, tile: int = 64) -> np.ndarray:
  """Lays images out in rows, with thin lines between them.

  Args:
    images: Float `[n, height, width, channels]`. Values outside [0, 1] are clipped; non-finite ones become mid-grey.
    columns: Number of images per row. By default there are about as many rows.
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
  # Each tile has its lines above and on the left.
  tile_shape = (height * factor + _LINE, width * factor + _LINE, channels)
  tiles = np.full((rows * columns, *tile_shape), _BACKGROUND, np.uint8)
  tiles[:n, _LINE:, _LINE:] = pixels
  grid = tiles.reshape(rows, columns, *tile_shape).swapaxes(1, 2).reshape(rows * tile_shape[0], -1, channels)
  return np.pad(grid, ((0, _LINE), (0, _LINE), (0, 0)), constant_values=_BACKGROUND)


def neighbor_grid(images: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
  """Lays out samples `[n, height, width, channels]`, with neighbours `[n, k, height, width, channels]` on their right.

  Samples run down the picture. Many samples fill several columns from left to right, so that the picture is about 1.5
  times as wide as it is high.
  """
  n, k = neighbors.shape[:2]
  rows = math.ceil(n / max(1, round(math.sqrt(1.5 * n / (1 + k)))))
  columns = []
  for start in range(0, n, rows):
    sample = image_grid(images[start : start + rows], columns=1)
    nearest = image_grid(neighbors[start : start + rows].reshape(-1, *images.shape[1:]), columns=k)
    columns.append(side_by_side([sample, nearest]))
  return side_by_side(columns, 4 * _GAP)


def side_by_side(grids: Sequence[np.ndarray], gap: int = _GAP) -> np.ndarray:
  """Puts grids beside each other, with white space between them and below those that are lower than the first."""
  height = len(grids[0])
  right = [((0, height - len(grid)), (0, gap), (0, 0)) for grid in grids]
  padded = [np.pad(grid, space, constant_values=_PAPER) for grid, space in zip(grids, right, strict=True)]
  return np.concatenate(padded, axis=1)[:, :-gap]


def enlarged(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Returns images at another size, without smoothing, and with values moved into [0, 1]."""
  low, high = images.min(), images.max()
  if low < 0 or high > 1:
    images = (images - low) / max(high - low, 1e-30)
  (height, width), (above, left) = images.shape[1:3], (np.arange(n) for n in size)
  return images[:, above * height // size[0]][:, :, left * width // size[1]]
