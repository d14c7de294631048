"""Features of the real images that FID and KID compare samples with, computed once and kept in a cache."""

from __future__ import annotations

import logging
import math
import os
from typing import NamedTuple

import numpy as np

from flowgan_tf.data import Dataset, dequantize
from flowgan_tf.metrics.cache import cached
from flowgan_tf.metrics.frechet import FeatureStatistics, feature_statistics
from flowgan_tf.metrics.predictions import ScoreNetwork

__all__ = ['Reference', 'load_or_compute']

_LOG = logging.getLogger(__name__)

# Part of the cache file's name, beside the data's fingerprint and the network's hash. It must be raised with
# every change that makes a different reference of the same two: to what is kept here, to the statistics of
# `frechet.py`, to what a network's `predict` does before and after its weights, or to the dequantisation in
# `data/pipeline.py`.
_VERSION = 1
_KERNEL_FEATURES = 10_000
_SEED = 0
_MOST_IMAGES = 250_000  # Inception-v3's features of so many take 2 GB.
_CHUNK_VALUES = 2**25  # 128 MiB of float32 images, of which a network makes a few copies


class Reference(NamedTuple):
  """Features of the training images.

  Attributes:
    statistics: Mean and covariance of the features of all images, or of 250,000 of them drawn at random, for FID.
    features: Features of the first m of the images behind the statistics, at most 10,000, for KID, float32 `[m, d]`.
  """

  statistics: FeatureStatistics
  features: np.ndarray


def load_or_compute(dataset: Dataset, network: ScoreNetwork, cache_dir: str | os.PathLike) -> Reference:
  """Returns the reference of a data set, from the cache if it is there and newly computed otherwise.

  The training images are dequantised, to look like a flow's samples, with noise that is always the same.

  Args:
    dataset: The data set.
    network: Network that gives the features. Its name and hash are part of the cache file's name.
    cache_dir: Folder of the cache, made if there is none. A file in it that cannot be read is replaced. If the folder
      cannot be written to, a warning says so and the reference is not kept.

  Returns:
    The `Reference`.
  """

  def compute():
    n = len(dataset.train)
    order = np.arange(n) if n <= _MOST_IMAGES else np.random.default_rng(_SEED).permutation(n)[:_MOST_IMAGES]
    count = f'the {n}' if len(order) == n else f'{len(order)} of the {n}'
    _LOG.info('Computing %s features of %s train images of %s.', network.name, count, dataset.name)
    features = _features(dataset.train.images, order, dataset.levels, network)
    return {'features': features[:_KERNEL_FEATURES], **feature_statistics(features)._asdict()}

  def read(saved):
    return Reference(FeatureStatistics(saved['mean'], saved['covariance'], int(saved['n'])), saved['features'])

  train = 'train' if len(dataset.train) <= _MOST_IMAGES else f'train{_MOST_IMAGES}'
  name = f'reference-{dataset.name}-{train}-{dataset.fingerprint[:12]}-{network.name}-{network.hash}-v{_VERSION}'
  return cached(cache_dir, name, compute, read)


def _features(images, order, levels, network):
  chunk = max(1, _CHUNK_VALUES // math.prod(images.shape[1:]))
  return np.concatenate(
    [
      # Each chunk has a seed of its own, or all of them would get the same noise.
      network.predict(dequantize(images[order[start : start + chunk]], levels, _SEED + start)).features
      for start in range(0, len(order), chunk)
    ]
  )
