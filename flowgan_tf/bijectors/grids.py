"""Which pixels each network of a `HistogramLogit` predicts, and which it sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Grid(NamedTuple):
  """The pixels that one network predicts, and what it sees of the others.

  Attributes:
    distance: How far its pixels are from the nearest one that it sees.
    seen: Whether it sees a pixel, bools `[height, width]`.
    pixels: Slices of an image, which take its pixels out of it.
  """

  distance: int
  seen: np.ndarray
  pixels: tuple[slice, ...]


def grids(event_shape: Sequence[int], networks: int | None = None) -> list[Grid]:
  """Returns the grids of the first networks, by default of as many as an image has pixels for.

  Events that are not images have no grids.
  """
  return list(_all(event_shape))[:networks]


def _all(event_shape: Sequence[int]) -> Iterator[Grid]:
  if len(event_shape) != 3:
    return
  left, distance = np.ones(event_shape[:2], bool), 1
  while np.count_nonzero(left) > 1:
    for offsets in ((0, distance), (distance, 0), (distance, distance)):
      pixels = tuple(slice(offset, None, 2 * distance) for offset in offsets)
      if left[pixels].any():
        left = left.copy()
        left[pixels] = False
        yield Grid(distance, left, pixels)
    distance *= 2


def turns(event_shape: Sequence[int], order: Sequence[Grid]) -> list[np.ndarray]:
  """Returns which entries of a flat event each turn finds: first those that no network predicts, then each grid's."""
  index = np.arange(np.prod(event_shape, dtype=int)).reshape(event_shape)
  entries = [index[grid.pixels].ravel() for grid in order]
  return [np.setdiff1d(index, np.concatenate([*entries, []])), *entries]
