"""Pictures of images and of a run: grids, samples, interpolations, and samples beside the nearest training images."""

import math
import os
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.errors import UsageError, check_memory
from flowgan_tf.evaluation.evaluate import IMAGES_PER_CALL
from flowgan_tf.files import write_atomically
from flowgan_tf.flows.prior import MixturePrior, tempered
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
  """A picture and the numbers behind it."""

  grid: np.ndarray  # uint8 `[height, width, channels]`
  arrays: dict[str, np.ndarray]  # always `images`, float `[n, height, width, channels]`, and their `noise`
  note: str = ''  # A line that explains the picture.


def samples(run: Run, n: int, seed: int, temperature: float = 1.0) -> Picture:
  """Draws samples `G(t z)`, `z ~ prior`. For a mixture, the temperature `t` scales the noise around each mean.

  The grid shows the first 1,024.
  """
  check_memory('samples and their noise', 2 * 4 * n * run.generator.event_shape.num_elements())
  return _decoded(run, tempered(run.generator.distribution, temperature).sample(n, seed=[seed, 0]))


def interpolations(run: Run, n: int, seed: int, temperature: float = 1.0) -> Picture:
  """Draws `n` rows of images from one sample to another, `G(t (cos(a) z1 + sin(a) z2))` with `a` from 0 to pi / 2.

  For every `a` the combination of `z1, z2 ~ prior` has the variance of the prior. If that is a mixture, `z1` and `z2`
  are the noise around two means, to which `(1 - u) m1 + u m2` with `u = 2 a / pi` is added.
  """
  check_memory('samples and their noise', 2 * 4 * _STEPS * n * run.generator.event_shape.num_elements())
  prior = tempered(run.generator.distribution, temperature)
  if isinstance(prior, MixturePrior):
    means, noise = (tf.split(part, 2) for part in prior.sample_parts(2 * n, seed=[seed, 0]))
  else:
    noise = tf.split(prior.sample(2 * n, seed=[seed, 0]), 2)
    means = [tf.zeros_like(part) for part in noise]

  def rows(parts, first_weights, last_weights):
    weights = [np.reshape(w, (-1, 1, 1, 1)).astype(prior.dtype.as_numpy_dtype) for w in (first_weights, last_weights)]
    return tf.concat([weights[0] * a + weights[1] * b for a, b in zip(*parts, strict=True)], axis=0)

  way = np.linspace(0, 1, _STEPS)
  angles = way * math.pi / 2
  return _decoded(run, rows(noise, np.cos(angles), np.sin(angles)) + rows(means, 1 - way, way), _STEPS)


def neighbors(run: Run, n: int, seed: int, temperature: float = 1.0) -> Picture:
  """Draws samples, each beside the 5 training images nearest to it, which would reveal copies.

  Distances are root mean squares over pixels. The note gives the median distance to the nearest training image, from
  samples and from test images, which no model has seen. If the model memorises, the first is far lower.

  Raises:
    UsageError: If the run's data cannot be read or have changed, or a sample is not finite.
  """
  dataset = load_data(run)
  arrays = samples(run, n, seed, temperature).arrays
  if bad := np.count_nonzero(~np.isfinite(arrays['images']).all(axis=(1, 2, 3))):
    raise UsageError(
      f'{run.workdir}: {bad} of {n} samples are not finite and have no neighbours; try another `checkpoint`',
      'checkpoint',
    )
  training, levels = dataset.train.images, dataset.levels
  found = nearest_neighbors(np.clip(arrays['images'], 0, 1), training, levels, min(_NEIGHBORS, len(training)))
  nearest = (training[found.indices] + 0.5) / levels
  test_images = data.dequantize(dataset.test.images[:_TEST_IMAGES], levels, seed)
  of_test = nearest_neighbors(test_images, training, levels, 1).distances
  return Picture(
    neighbor_grid(arrays['images'], nearest),
    arrays | {'neighbor_indices': found.indices, 'neighbor_distances': found.distances},
    f'distance to the nearest training image: {np.median(found.distances[:, 0]):.4f} for samples, '
    f'{np.median(of_test):.4f} for {len(test_images):,} test images (medians of the root mean square over pixels)',
  )


def _decoded(run, noise, columns=None):
  images = map_batches(run.generator.decode, noise.numpy(), min(len(noise), IMAGES_PER_CALL))
  return Picture(image_grid(images[:_LARGEST_GRID], columns), {'images': images, 'noise': noise.numpy()})
