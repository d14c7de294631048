"""Pictures of images and of a run: grids, samples, interpolations, and samples beside the nearest training images."""

import math
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.errors import UsageError, check, check_memory
from flowgan_tf.evaluation.evaluate import IMAGES_PER_CALL
from flowgan_tf.files import write_atomically
from flowgan_tf.flows.prior import MixturePrior, sample_noise, tempered
from flowgan_tf.metrics.arrays import map_batches
from flowgan_tf.metrics.neighbors import nearest_neighbors
from flowgan_tf.runs.run import Run, load_data

_BACKGROUND = 110  # Grey that stands out from white, black and most photographs.
_LINE = 2
# Space around the groups of a picture.
_PAPER = 255
_GAP = 10
_STEPS = 10  # images from one sample to another
_NEIGHBORS = 5
_TEST_IMAGES = 500  # test images whose distance to the training images is measured
_LARGEST_GRID = 1024
_ROWS = 8  # of samples for the conditions of images


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
    column = np.concatenate([_pad(sample, 0, _GAP), nearest], axis=1)
    columns.append(_pad(column, len(columns[0]) - len(column) if columns else 0, 4 * _GAP))
  return np.concatenate(columns, axis=1)[:, : -4 * _GAP]


def _pad(pixels: np.ndarray, below: int, right: int) -> np.ndarray:
  return np.pad(pixels, ((0, below), (0, right), (0, 0)), constant_values=_PAPER)


def save_png(pixels: np.ndarray, path: str | os.PathLike) -> None:
  """Writes a uint8 picture `[height, width, channels]` as a PNG file, whole or not at all.

  Raises:
    UsageError: If the file cannot be written.
  """
  write_atomically(pathlib.Path(path), tf.io.encode_png(pixels).numpy())


class Picture(NamedTuple):
  """A picture and the numbers behind it.

  The arrays are `images`, float `[n, height, width, channels]`, or `rows` of a table, float `[n, d]`, and their
  `noise`. A conditional run adds `labels` or `conditions`, one for each image, and perhaps `test_indices`, the
  positions of the test images that they belong to.
  """

  grid: np.ndarray | None  # uint8 `[height, width, channels]`; None for the rows of a table
  arrays: dict[str, np.ndarray]
  note: str = ''  # A line that explains the picture.


class Rows(NamedTuple):
  """The conditions of the rows of a picture, in which each row shows samples for one condition."""

  conditions: np.ndarray  # one for each row: ints `[rows]` for labels, otherwise float `[rows, ...]`
  indices: np.ndarray | None = None  # positions of the images in their split that the conditions belong to
  originals: np.ndarray | None = None  # these images, float `[rows, height, width, channels]` in [0, 1]

  def each(self, columns: int) -> np.ndarray:
    """Returns the conditions of all samples, row by row."""
    return np.repeat(self.conditions, columns, axis=0)

  def first(self, rows: int) -> 'Rows':
    """Returns as many rows, starting again if there are fewer."""
    chosen = np.arange(rows) % len(self.conditions)
    return Rows(*(None if part is None else part[chosen] for part in self))

  def draw(self, images: np.ndarray, columns: int) -> np.ndarray:
    """Lays out samples in rows: on their left the condition, if it is an image, and on their right the original."""
    rows = min(len(self.conditions), _LARGEST_GRID)
    shown = min(columns, max(1, _LARGEST_GRID // rows))
    in_rows = images.reshape(-1, columns, *images.shape[1:])[:rows, :shown]
    groups = [in_rows.reshape(-1, *images.shape[1:])]
    if self.originals is not None:
      groups.append(self.originals[:rows])
      if self.conditions.ndim == 4 and self.conditions.shape[3] in (1, 3):
        groups.insert(0, _enlarged(self.conditions[:rows], images.shape[1:3]))
    channels = max(group.shape[3] for group in groups)
    parts = []
    for group in groups:
      grid = image_grid(np.broadcast_to(group, (*group.shape[:3], channels)), columns=len(group) // rows)
      parts.append(_pad(grid, 0, _GAP))
    return np.concatenate(parts, axis=1)[:, :-_GAP]


def rows_of_classes(classes: int, most: int | None = None) -> Rows:
  """Returns a row for each class, or for `most` classes from the first to the last."""
  return Rows(_evenly_spaced(classes, most or classes).astype(np.int32))


def rows_of_images(condition: data.Condition, split: data.Split) -> Rows:
  """Returns a row for each of 8 images from all over a split."""
  indices = _evenly_spaced(len(split), _ROWS)
  images, conditions = split.images[indices], split.conditions
  conditions = condition.of_split(data.Split(images, None, None if conditions is None else conditions[indices]))
  originals = images if condition.levels is None else ((images + 0.5) / condition.levels).astype(np.float32)
  return Rows(conditions, indices, originals)


def real_grid(split: data.Split, levels: int, n: int, rows: Rows | None, columns: int) -> np.ndarray | None:
  """Lays out images of a split as samples are: `n` from all over it, or a row of each class.

  It returns None if the originals stand beside the samples already, or if a class has no image.
  """
  chosen = _evenly_spaced(len(split), n)
  if rows is not None:
    found = [] if split.labels is None or rows.originals is not None else [split.labels == c for c in rows.conditions]
    if not found or not all(part.any() for part in found):
      return None
    chosen = np.concatenate([np.resize(np.flatnonzero(part), columns) for part in found])
  return image_grid((split.images[chosen] + 0.5) / levels, columns if rows is not None else None)


def rows_of_run(run: Run, label: int | None = None, vector: Sequence[float] | None = None) -> Rows | None:
  """Returns the rows of a picture of a run, or None for a run without conditions.

  With a label or a vector, there is one row. Otherwise there is a row for each class, or for each of 8 test images.

  Raises:
    UsageError: If there is no such class, the vector is of another length or not finite, the run has no conditions of
      that kind, or the data are needed and cannot be read or have changed.
  """
  classes, shape = run.generator.classes, run.generator.condition_shape
  if label is not None:
    check('label', label, f'left out, as {run.workdir} has no labels', classes is not None)
    check('label', label, f'from 0 to {classes - 1}, as {run.workdir} has {classes} classes', 0 <= label < classes)
    return Rows(np.array([label], np.int32))
  if vector is not None:
    said = f'left out, as {run.workdir} is not conditioned on vectors'
    check('condition', vector, said, shape is not None and len(shape) == 1)
    given = np.array(vector, np.float32)
    said = f'{shape[0]} finite numbers, as in the vectors that {run.workdir} is conditioned on'
    check('condition', vector, said, given.shape == shape and np.isfinite(given).all())
    return Rows(given[np.newaxis])
  if classes is not None:
    return rows_of_classes(classes)
  if shape is None:
    return None
  dataset = load_data(run)
  return rows_of_images(data.make_condition(run.config.condition, dataset), dataset.test)


def samples(run: Run, n: int, seed: int, temperature: float = 1.0, rows: Rows | None = None) -> Picture:
  """Draws samples `G(t z)`, `z ~ prior`. For a mixture, the temperature `t` scales the noise around each mean.

  The grid shows the first 1,024, or as many in each row. With several `rows`, each has `n` samples.
  """
  total = n * len(rows.conditions) if rows else n
  check_memory('samples and their noise', 2 * 4 * total * run.generator.event_shape.num_elements())
  if rows is None:
    return _decoded(run, tempered(run.generator.distribution, temperature).sample(n, seed=[seed, 0]))
  noise = sample_noise(run.generator.distribution, total, [seed, 0], temperature, _labels(rows.each(n)))
  is_one = len(rows.conditions) == 1 and rows.originals is None
  return _decoded(run, noise, None if is_one else n, rows.first(total) if is_one else rows)


def interpolations(run: Run, n: int, seed: int, temperature: float = 1.0, rows: Rows | None = None) -> Picture:
  """Draws `n` rows of images from one sample to another, `G(t (cos(a) z1 + sin(a) z2))` with `a` from 0 to pi / 2.

  For every `a` the combination of `z1, z2 ~ prior` has the variance of the prior. If that is a mixture, `z1` and `z2`
  are the noise around two means, to which `(1 - u) m1 + u m2` with `u = 2 a / pi` is added. All images of a row have
  the same condition.
  """
  check_memory('samples and their noise', 2 * 4 * _STEPS * n * run.generator.event_shape.num_elements())
  prior, rows = tempered(run.generator.distribution, temperature), rows and rows.first(n)
  if isinstance(prior, MixturePrior):
    label = _labels(np.concatenate([rows.conditions] * 2)) if rows and prior.classes else None
    means, noise = (tf.split(part, 2) for part in prior.sample_parts(2 * n, [seed, 0], label))
  else:
    noise = tf.split(prior.sample(2 * n, seed=[seed, 0]), 2)
    means = [tf.zeros_like(part) for part in noise]

  def between(parts, first_weights, last_weights):
    weights = [np.reshape(w, (-1, 1, 1, 1)).astype(prior.dtype.as_numpy_dtype) for w in (first_weights, last_weights)]
    return tf.concat([weights[0] * a + weights[1] * b for a, b in zip(*parts, strict=True)], axis=0)

  way = np.linspace(0, 1, _STEPS)
  angles = way * math.pi / 2
  noise = between(noise, np.cos(angles), np.sin(angles)) + between(means, 1 - way, way)
  return _decoded(run, noise, _STEPS, rows)


def neighbors(run: Run, n: int, seed: int, temperature: float = 1.0, rows: Rows | None = None) -> Picture:
  """Draws samples, each beside the 5 training images nearest to it, which would reveal copies.

  Distances are root mean squares over pixels. The note gives the median distance to the nearest training image, from
  samples and from test images, which no model has seen. If the model memorises, the first is far lower. With a single
  label, only images of that class count.

  Raises:
    UsageError: If the run's data cannot be read or have changed, or a sample is not finite.
  """
  dataset = load_data(run)
  arrays = samples(run, n if rows is None else 1, seed, temperature, rows and rows.first(n)).arrays
  if bad := np.count_nonzero(~np.isfinite(arrays['images']).all(axis=(1, 2, 3))):
    raise UsageError(
      f'{run.workdir}: {bad} of {n} samples are not finite and have no neighbours; try another `checkpoint`',
      'checkpoint',
    )
  training, test, levels = dataset.train.images, dataset.test.images, dataset.levels
  positions, of_class = np.arange(len(training)), ''
  if rows and run.generator.classes and len(rows.conditions) == 1:
    label = rows.conditions[0]
    positions, of_class = np.flatnonzero(dataset.train.labels == label), f' of class {label}'
    training, test = training[positions], test[dataset.test.labels == label]
  found = nearest_neighbors(np.clip(arrays['images'], 0, 1), training, levels, min(_NEIGHBORS, len(training)))
  nearest = (training[found.indices] + 0.5) / levels
  test_images = data.dequantize(test[_evenly_spaced(len(test), _TEST_IMAGES)], levels, seed)
  of_test = 'nan'
  if len(test_images):
    of_test = f'{np.median(nearest_neighbors(test_images, training, levels, 1).distances):.4f}'
  return Picture(
    neighbor_grid(arrays['images'], nearest),
    arrays | {'neighbor_indices': positions[found.indices], 'neighbor_distances': found.distances},
    f'distance to the nearest training image{of_class}: {np.median(found.distances[:, 0]):.4f} for samples, {of_test} '
    f'for {len(test_images):,} test images{of_class} (medians of the root mean square over pixels)',
  )


def _decoded(run, noise, columns=None, rows=None):
  """Decodes noise; without `columns`, rows are conditions of one sample each, and the grid is square."""
  generator, noise, given = run.generator, noise.numpy(), {}
  if rows is not None:
    given['conditions' if generator.classes is None else 'labels'] = rows.each(columns or 1)
    if rows.indices is not None:
      given['test_indices'] = np.repeat(rows.indices, columns or 1)
  conditions = [array for name, array in given.items() if name != 'test_indices']

  def decode(noise, *condition):
    return generator.decode(noise, condition=condition[0]) if condition else generator.decode(noise)

  images = map_batches(decode, noise, min(len(noise), IMAGES_PER_CALL), *conditions, what='sampling')
  if images.ndim == 2:
    return Picture(None, {'rows': images, 'noise': noise} | given)
  is_drawn_in_rows = rows is not None and columns is not None
  grid = rows.draw(images, columns) if is_drawn_in_rows else image_grid(images[:_LARGEST_GRID], columns)
  return Picture(grid, {'images': images, 'noise': noise} | given)


def _labels(conditions):
  return tf.constant(conditions) if conditions.ndim == 1 else None


def _evenly_spaced(n, most):
  """Returns positions below n, at most `most`, at equal distances."""
  return np.linspace(0, n - 1, min(n, most)).round().astype(np.int64)


def _enlarged(images, size):
  """Returns conditions that are images at another size, without smoothing, and with values moved into [0, 1]."""
  low, high = images.min(), images.max()
  if low < 0 or high > 1:
    images = (images - low) / max(high - low, 1e-30)
  (height, width), (above, left) = images.shape[1:3], (np.arange(n) for n in size)
  return images[:, above * height // size[0]][:, :, left * width // size[1]]
