"""A run and its data, as the analyses use them."""

from __future__ import annotations

import functools
import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from flowgan_tf.errors import UsageError
from flowgan_tf.lazy import later

if TYPE_CHECKING:
  from flowgan_tf.evaluation.evaluate import Evaluator
  from flowgan_tf.metrics import Scorer
  from flowgan_tf.runs.run import Run

__all__ = ['Subject']

tf = later('tensorflow')
arrays = later('flowgan_tf.metrics.arrays')
data = later('flowgan_tf.data')
evaluate = later('flowgan_tf.evaluation.evaluate')
metrics = later('flowgan_tf.metrics')
runs = later('flowgan_tf.runs.run')
seeds = later('flowgan_tf.runs.seeds')

_LOG = logging.getLogger(__name__)
_IMAGES_PER_CALL = 100
_MOST_VALUES = 2**29  # of images that stay in files: 2 GiB in float32


class Subject:
  """A run with its data, and with what several analyses need. It is computed on first use.

  Attributes:
    run: The run.
    dataset: The data that it was trained on.
  """

  def __init__(self, run: Run):
    """Loads the run's data.

    Raises:
      UsageError: If the data cannot be read or have changed.
    """
    self.run = run
    self.dataset = runs.load_data(run)
    self._samples: dict[tuple[int, int], np.ndarray] = {}
    self._log_prob = tf.function(run.generator.log_prob, autograph=False)

  @functools.cached_property
  def evaluator(self) -> Evaluator:
    """Measures the likelihood, as in `bin/evaluate`."""
    return evaluate.Evaluator(self.run.generator, self.dataset, self.run.config)

  @functools.cached_property
  def scorer(self) -> Scorer | None:
    """Scores samples, as in `bin/evaluate`; None if the data have no labels for a classifier."""
    return metrics.make_scorer(self.run.config, self.dataset)

  def samples(self, n: int, seed: int) -> np.ndarray:
    """Draws samples of the generator, float `[n, height, width, channels]`.

    Raises:
      UsageError: If a sample is not finite.
    """
    if (n, seed) in self._samples:
      return self._samples[n, seed]
    images = self._samples[n, seed] = self.evaluator.sample(n, seeds.Purpose.ANALYSIS, seed)
    if bad := np.count_nonzero(~np.isfinite(images).all(axis=(1, 2, 3))):
      raise UsageError(
        f'{self.run.workdir}: {bad} of {n} samples are not finite; try another `checkpoint`', 'checkpoint'
      )
    return images

  def images(self, split: str, n: int | None = None, seed: int = 0, dataset: data.Dataset | None = None) -> np.ndarray:
    """Returns dequantised images of a split.

    Args:
      split: 'train', 'validation' or 'test'.
      n: Number of images, drawn at random; all if None or if there are no more. At most 2 GiB in float32 are drawn from
        images that stay in files, and a line of the log says so.
      seed: Seed of the draw.
      dataset: A data set; by default the run's own.
    """
    dataset = dataset or self.dataset
    levels = self.grey_levels(split, n, seed, dataset)
    return data.dequantize(levels, dataset.levels, self.run.config.seed + seeds.Purpose.EVALUATION)

  def grey_levels(
    self, split: str, n: int | None = None, seed: int = 0, dataset: data.Dataset | None = None
  ) -> np.ndarray:
    """Returns the images of a split as the data hold them, uint8, for the arguments of `images`."""
    dataset = dataset or self.dataset
    return getattr(dataset, split).images[_chosen(dataset, split, n, seed)]

  def labels(self, split: str) -> np.ndarray:
    """Returns the labels of `images(split)`."""
    return getattr(self.dataset, split).labels[_chosen(self.dataset, split, None, 0)]

  def log_prob(self, images: np.ndarray) -> np.ndarray:
    """Computes exact log-densities of images in nats, float64 `[n]`."""
    return arrays.map_batches(self._log_prob, images, _IMAGES_PER_CALL).astype(np.float64)

  def exact(self, images: np.ndarray) -> dict:
    """Computes the exact NLL of images in nats, to compare with an estimate; empty if there is no density."""
    if not self.run.generator.has_density:
      return {}
    values = self.log_prob(images)
    return {'exact_nll': -values.mean(), 'exact_standard_error': arrays.standard_error(values), 'exact_n': len(values)}


def _chosen(dataset: data.Dataset, split: str, n: int | None, seed: int) -> np.ndarray | slice:
  """Returns the positions of the images of a split that are used, in order."""
  images = getattr(dataset, split).images
  total = len(images)
  if isinstance(images, data.StoredImages):
    most = max(1, _MOST_VALUES // math.prod(dataset.image_shape))
    if most < min(total, n or total):
      _LOG.info('%s: %d of its %d %s images are used, drawn at random.', dataset.name, most, total, split)
      n = most
  if n is None or n >= total:
    return slice(None)
  return np.sort(np.random.default_rng(seed).permutation(total)[:n])
