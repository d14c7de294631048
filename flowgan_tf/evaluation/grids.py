"""The grids of samples that a training draws, and the real images beside them."""

import pathlib

import numpy as np

from flowgan_tf import data
from flowgan_tf.data.pipeline import bin_centers
from flowgan_tf.display import image_grid, save_png
from flowgan_tf.evaluation.evaluate import Evaluator
from flowgan_tf.evaluation.rows import evenly_spaced, rows_of
from flowgan_tf.runs.seeds import Purpose

_IMAGES = 64
_COLUMNS, _CLASSES = 8, 10  # if the rows have conditions


class SampleGrids:
  """Grids of samples, always with the same noise and the same conditions."""

  def __init__(self, evaluator: Evaluator, dataset: data.Dataset):
    """Chooses what the samples are given."""
    self._evaluator, self._split, self._levels = evaluator, dataset.validation, dataset.levels
    self._rows = rows_of(dataset, 'validation', _CLASSES)

  def draw(self) -> np.ndarray:
    """Draws samples, and lays them out: uint8 `[height, width, channels]`."""
    conditions = self._rows.each(_COLUMNS).conditions
    n = _IMAGES if conditions is None else len(conditions)
    return self._rows.draw(self._evaluator.sample(n, Purpose.GRID, condition=conditions), _COLUMNS)

  def save(self, grid: np.ndarray, workdir: pathlib.Path, step: int) -> None:
    """Writes a grid into the folder `samples` of a run, and a grid of real images if that is not there yet."""
    folder = workdir / 'samples'
    folder.mkdir(exist_ok=True)
    save_png(grid, folder / f'step_{step:07d}.png')
    if not (path := folder / 'real.png').exists() and (real := self._real()) is not None:
      save_png(real, path)

  def _real(self):
    """Lays out validation images as samples are: images from all over the split, or a row of each class.

    It returns None if the originals stand beside the samples already, or if a class has no image.
    """
    split, rows = self._split, self._rows
    chosen = evenly_spaced(len(split), _IMAGES)
    if rows.conditions is not None:
      found = [] if split.labels is None or rows.originals is not None else [split.labels == c for c in rows.conditions]
      if not found or not all(part.any() for part in found):
        return None
      chosen = np.concatenate([np.resize(np.flatnonzero(part), _COLUMNS) for part in found])
    return image_grid(bin_centers(split.images[chosen], self._levels), None if rows.conditions is None else _COLUMNS)
