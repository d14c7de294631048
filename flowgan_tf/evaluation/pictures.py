"""Pictures of a run: samples, interpolations, and samples beside the nearest training images."""

import logging
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.base.errors import UsageError
from flowgan_tf.data.pipeline import bin_centers
from flowgan_tf.display.grids import image_grid, neighbor_grid
from flowgan_tf.evaluation.evaluate import IMAGES_PER_CALL, check_room_for_samples
from flowgan_tf.evaluation.rows import LARGEST_GRID, PLAIN, Rows, evenly_spaced
from flowgan_tf.flows.classes import class_name
from flowgan_tf.flows.prior import MixturePrior, tempered
from flowgan_tf.metrics.arrays import map_batches
from flowgan_tf.metrics.neighbors import nearest_neighbors
from flowgan_tf.runs.run import Run, load_data

_LOG = logging.getLogger(__name__)
_STEPS = 10  # images from one sample to another
_NEIGHBORS = 5
_SHOWN = LARGEST_GRID // (1 + _NEIGHBORS)  # samples in the picture of neighbours
_TEST_IMAGES = 500  # test images whose distance to the training images is measured


class Picture(NamedTuple):
  """A picture and the numbers behind it.

  The arrays are `images`, float `[n, height, width, channels]`, or `rows` of a table, float `[n, d]`, and their
  `noise`. A conditional run adds `labels` or `conditions`, one for each image, and perhaps `test_indices`, the
  positions of the test images that they belong to.
  """

  grid: np.ndarray | None  # uint8 `[height, width, channels]`; None for the rows of a table
  arrays: dict[str, np.ndarray]
  note: str = ''  # A line that explains the picture.


def samples(run: Run, n: int, seed: int, temperature: float = 1.0, rows: Rows = PLAIN) -> Picture:
  """Draws samples `G(t z)`, `z ~ prior`. For a mixture, the temperature `t` scales the noise around each mean.

  The grid shows the first 1,024, or as many in each row. With several `rows`, each has `n` samples.
  """
  total = n * rows.number
  check_room_for_samples(total, run.generator)
  noise = run.generator.given(rows.each(n).conditions).sample_noise(total, [seed, 0], temperature)
  is_one = rows.number == 1 and rows.originals is None
  return _decoded(run, noise, rows.first(total) if is_one else rows, None if is_one else n)


def interpolations(run: Run, n: int, seed: int, temperature: float = 1.0, rows: Rows = PLAIN) -> Picture:
  """Draws `n` rows of images from one sample to another, `G(t (cos(a) z1 + sin(a) z2))` with `a` from 0 to pi / 2.

  For every `a` the combination of `z1, z2 ~ prior` has the variance of the prior. If that is a mixture, `z1` and `z2`
  are the noise around two means, to which `(1 - u) m1 + u m2` with `u = 2 a / pi` is added. All images of a row have
  the same condition.
  """
  check_room_for_samples(_STEPS * n, run.generator)
  prior, rows = tempered(run.generator.distribution, temperature), rows.first(n)
  if isinstance(prior, MixturePrior):
    label = rows.first(2 * n).conditions if prior.classes else None
    means, noise = (tf.split(part, 2) for part in prior.sample_parts(2 * n, [seed, 0], label))
  else:
    noise = tf.split(prior.sample(2 * n, seed=[seed, 0]), 2)
    means = [tf.zeros_like(part) for part in noise]

  def between(parts, first_weights, last_weights):
    shape = (-1, *[1] * prior.event_shape.rank)
    weights = [np.reshape(w, shape).astype(prior.dtype.as_numpy_dtype) for w in (first_weights, last_weights)]
    return tf.concat([weights[0] * a + weights[1] * b for a, b in zip(*parts, strict=True)], axis=0)

  way = np.linspace(0, 1, _STEPS)
  angles = way * math.pi / 2
  noise = between(noise, np.cos(angles), np.sin(angles)) + between(means, 1 - way, way)
  return _decoded(run, noise, rows, _STEPS)


def neighbors(run: Run, n: int, seed: int, temperature: float = 1.0, rows: Rows = PLAIN) -> Picture:
  """Draws samples, each beside the 5 training images nearest to it, which would reveal copies.

  Distances are root mean squares over pixels. The note gives the median distance to the nearest training image, from
  samples and from test images, which no model has seen. If the model memorises, the first is far lower. With a single
  label, only images of that class count.

  Raises:
    UsageError: If the run's data cannot be read or have changed, or a sample is not finite.
  """
  dataset, shown = load_data(run), rows.first(n)
  arrays = samples(run, n // shown.number, seed, temperature, shown).arrays
  if bad := np.count_nonzero(~np.isfinite(arrays['images']).all(axis=(1, 2, 3))):
    raise UsageError(
      f'{run.workdir}: {bad} of {n} samples are not finite and have no neighbours; try another `checkpoint`',
      'checkpoint',
    )
  training, test, levels = dataset.train.images, dataset.test.images, dataset.levels
  assert levels is not None
  positions, of_class = np.arange(len(training)), ''
  if run.generator.classes and rows.conditions is not None and rows.number == 1:
    label = rows.conditions[0]
    positions = np.flatnonzero(dataset.train.labels == label)
    of_class = f' of class {class_name(label, run.generator.class_names)}'
    training, test = training[positions], test[dataset.test.labels == label]
  found = nearest_neighbors(np.clip(arrays['images'], 0, 1), training, levels, min(_NEIGHBORS, len(training)))
  nearest = bin_centers(training[found.indices], levels)
  test_images = data.dequantize(test[evenly_spaced(len(test), _TEST_IMAGES)], levels, seed)
  of_test = ''
  if len(test_images):
    distance = np.median(nearest_neighbors(test_images, training, levels, 1).distances)
    of_test = f', {distance:.4f} for {len(test_images):,} test images{of_class}'
  return Picture(
    neighbor_grid(arrays['images'][:_SHOWN], nearest[:_SHOWN]),
    arrays | {'neighbor_indices': positions[found.indices], 'neighbor_distances': found.distances},
    f'distance to the nearest training image{of_class}: {np.median(found.distances[:, 0]):.4f} for samples{of_test} '
    f'(medians of the root mean square over pixels)',
  )


def _decoded(run, noise, rows, columns):
  """Decodes noise; without `columns`, rows are conditions of one sample each, and the grid is square."""
  conditions, indices, _ = rows.each(columns or 1)
  decode = run.generator.on_batches(lambda given, noise: given.decode(noise))
  images = map_batches(decode, noise.numpy(), min(len(noise), IMAGES_PER_CALL), conditions, what='sampling')
  if bad := np.count_nonzero(~np.isfinite(images).all(axis=tuple(range(1, images.ndim)))):
    _LOG.warning('%s: %s of %s samples are not finite numbers.', run.workdir, f'{bad:,}', f'{len(images):,}')
  what, kind = 'rows' if images.ndim == 2 else 'images', 'conditions' if run.generator.classes is None else 'labels'
  arrays = {what: images, 'noise': noise.numpy(), kind: conditions, 'test_indices': indices}
  arrays = {name: array for name, array in arrays.items() if array is not None}
  if images.ndim == 2:
    return Picture(None, arrays)
  return Picture(rows.draw(images, columns) if columns else image_grid(images[:LARGEST_GRID]), arrays)
