"""Rows of a picture of samples, each with a condition of its own."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowgan_tf import data
from flowgan_tf.base.errors import check
from flowgan_tf.data.conditions import kind_of
from flowgan_tf.data.images import read_images
from flowgan_tf.data.pipeline import bin_centers
from flowgan_tf.data.split import Split, take
from flowgan_tf.display.grids import enlarged, image_grid, side_by_side
from flowgan_tf.runs.folder import read_description
from flowgan_tf.runs.run import Run, load_data

LARGEST_GRID = 1024
_ROWS = 8  # of samples for test images


class Rows(NamedTuple):
  """The rows of a picture, which show samples for one condition each; by default a single row without a condition."""

  conditions: np.ndarray | None = None  # one for each row: ints `[rows]` for labels, otherwise float `[rows, ...]`
  indices: np.ndarray | None = None  # positions of the images in their split that these belong to
  originals: np.ndarray | None = None  # these images, float `[rows, height, width, channels]` in [0, 1]

  @property
  def number(self) -> int:
    """The number of rows."""
    return 1 if self.conditions is None else len(self.conditions)

  def each(self, columns: int) -> 'Rows':
    """Returns each row `columns` times, for its samples."""
    return Rows(*(take(part, np.arange(columns * self.number) // columns) for part in self))

  def first(self, rows: int) -> 'Rows':
    """Returns as many rows, starting again if there are fewer."""
    return Rows(*(take(part, np.arange(rows) % self.number) for part in self))

  def draw(self, images: np.ndarray, columns: int) -> np.ndarray:
    """Lays out samples in rows: on their left the condition, if it is an image, and on their right the original."""
    if self.conditions is None:
      return image_grid(images[:LARGEST_GRID], columns)
    rows = min(self.number, LARGEST_GRID)
    shown = min(columns, max(1, LARGEST_GRID // rows))
    in_rows = images.reshape(-1, columns, *images.shape[1:])[:rows, :shown]
    groups = [in_rows.reshape(-1, *images.shape[1:])]
    if self.originals is not None:
      groups.append(self.originals[:rows])
      if self.conditions.ndim == 4 and self.conditions.shape[3] in (1, 3):
        groups.insert(0, enlarged(self.conditions[:rows], images.shape[1:3]))
    channels = max(group.shape[3] for group in groups)
    groups = [np.broadcast_to(group, (*group.shape[:3], channels)) for group in groups]
    return side_by_side([image_grid(group, columns=len(group) // rows) for group in groups])


PLAIN = Rows()


def rows_of(dataset: data.Dataset, part: str, most: int) -> Rows:
  """Returns a row for each class, at most `most`, or for each of 8 images of a part of the data; otherwise one row."""
  kind, split = dataset.condition, getattr(dataset, part)
  if kind.classes is not None:
    return Rows(evenly_spaced(kind.classes, most).astype(np.int32))
  if not kind:
    return PLAIN
  indices = evenly_spaced(len(split), _ROWS)
  return Rows(kind.of_rows(split, indices), indices, bin_centers(split.images[indices], dataset.levels))


def rows_of_run(run: Run, label: int | str | None = None, vector: Sequence[float] | None = None) -> Rows:
  """Returns the rows of a picture of a run.

  There is one row with a label or a vector, or if the run is not conditional. Otherwise there is a row for each class,
  or for each of 8 test images.

  Raises:
    UsageError: If there is no such class, the vector is of another length or not finite, the run is given nothing of
      that kind, or the data are needed and cannot be read or have changed.
  """
  classes, shape = run.generator.classes or 0, run.generator.condition_shape or ()
  if label is not None:
    check('label', label, f'left out, as {run.workdir} has no labels', classes > 0)
    return Rows(np.array([run.generator.label_of(label)], np.int32))
  if vector is not None:
    said = f'left out, as {run.workdir} is not conditioned on vectors'
    check('condition', vector, said, len(shape) == 1)
    with np.errstate(over='ignore'):
      condition = np.array(vector, np.float32)
    said = f'{shape[0]} finite numbers, as in the vectors that {run.workdir} is conditioned on'
    check('condition', vector, said, condition.shape == shape and np.isfinite(condition).all())
    return Rows(condition[np.newaxis])
  if not shape:
    return Rows(np.arange(classes, dtype=np.int32)) if classes else PLAIN
  return rows_of(load_data(run), 'test', _ROWS)


def row_of_file(run: Run, path: str) -> Rows:
  """Returns a row whose condition is an image file: a small image to enlarge, or one whose hidden part does not count.

  Raises:
    UsageError: If the run is not conditioned on parts of images, or the file is not an image of the right shape.
  """
  kind, shape, description = kind_of(run.config.condition), run.generator.condition_shape, read_description(run.workdir)
  expected = f'left out, as {run.workdir} is not conditioned on parts of images'
  check('condition', path, expected, kind.comes_from_image)
  assert shape is not None and description is not None
  levels, factor = description.data['levels'], run.image_shape[0] // shape[0]
  _, images = read_images(path, shape, levels)
  whole = images.repeat(factor, axis=1).repeat(factor, axis=2)  # `low_resolution` makes the small image of this.
  condition = kind(run.config.condition, levels, run.image_shape)
  return Rows(condition.of_rows(Split(whole, None), np.arange(1)))


def evenly_spaced(n, most):
  """Returns positions below n, at most `most`, at equal distances."""
  return np.linspace(0, n - 1, min(n, most)).round().astype(np.int64)
