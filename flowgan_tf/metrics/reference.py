"""Features of the real images that FID and KID compare samples with, computed once and kept in a cache."""

from __future__ import annotations

import logging
import math
import os
import re
from typing import NamedTuple

import numpy as np

from flowgan_tf.data import Dataset, dequantize
from flowgan_tf.files import save_arrays
from flowgan_tf.metrics.frechet import FeatureStatistics, feature_statistics
from flowgan_tf.metrics.predictions import ScoreNetwork

__all__ = ['Reference', 'load_or_compute']

_LOG = logging.getLogger(__name__)

# Part of the cache file's name, beside the split, the data's fingerprint and the network's hash. It must be raised with
# every change that makes a different reference of the same three: to what is kept here, to the statistics of
# `frechet.py`, to what a network's `predict` does before and after its weights, or to the dequantisation in
# `data/pipeline.py`.
_VERSION = 1
_KERNEL_FEATURES = 10_000
_SEED = 0
_CHUNK_VALUES = 2**25  # 128 MiB of float32 images, of which a network makes a few copies


class Reference(NamedTuple):
  """Features of the real images of a split.

  Attributes:
    statistics: Mean and covariance of the features of all images, for FID.
    features: Features of the first m images, at most 10,000, for KID, float32 `[m, d]`.
  """

  statistics: FeatureStatistics
  features: np.ndarray


def load_or_compute(dataset: Dataset, split: str, network: ScoreNetwork, cache_dir: str | os.PathLike) -> Reference:
  """Returns the reference of a split, from the cache if it is there and newly computed otherwise.

  The images are dequantised, to look like a flow's samples, with noise that is always the same.

  Args:
    dataset: The data set.
    split: One of 'train', 'validation' and 'test'.
    network: Network that gives the features. Its name and hash are part of the cache file's name.
    cache_dir: Folder of the cache, made if there is none. A file in it that cannot be read is replaced. If the folder
      cannot be written to, a warning says so and the reference is not kept.

  Returns:
    The `Reference`.

  Raises:
    ValueError: If there is no such split.
  """
  if split not in ('train', 'validation', 'test'):
    raise ValueError(f"`split` must be 'train', 'validation' or 'test'. Got: {split!r}.")
  name = re.sub(r'[^A-Za-z0-9_-]+', '-', dataset.name)
  path = os.path.join(
    cache_dir,
    f'reference-{name}-{split}-{dataset.fingerprint[:12]}-{network.name}-{network.hash}-v{_VERSION}.npz',
  )
  reference = _load(path)
  if reference is None:
    images = getattr(dataset, split).images
    _LOG.info('Computing %s features of the %d %s images of %s.', network.name, len(images), split, dataset.name)
    features = _features(images, dataset.levels, network)
    reference = Reference(feature_statistics(features), features[:_KERNEL_FEATURES])
    _save(reference, path)
  return reference


def _features(images, levels, network):
  chunk = max(1, _CHUNK_VALUES // math.prod(images.shape[1:]))
  return np.concatenate(
    [
      # Each chunk has a seed of its own, or all of them would get the same noise.
      network.predict(dequantize(images[start : start + chunk], levels, _SEED + start)).features
      for start in range(0, len(images), chunk)
    ]
  )


def _save(reference, path):
  try:
    save_arrays(path, features=reference.features, **reference.statistics._asdict())
  except OSError as error:
    _LOG.warning('%s: the reference features cannot be kept in the cache (%s).', path, error.strerror)


def _load(path):
  """Returns the reference, or None if there is no intact cache file."""
  try:
    with np.load(path, allow_pickle=False) as saved:
      statistics = FeatureStatistics(saved['mean'], saved['covariance'], int(saved['n']))
      return Reference(statistics, saved['features'])
  except (FileNotFoundError, NotADirectoryError):
    return None
  except Exception as error:  # A damaged zip file raises almost anything, from EOFError to NotImplementedError.
    _LOG.warning(
      '%s: the cached reference features are damaged (%s: %s) and are computed again.',
      path,
      type(error).__name__,
      error,
    )
    return None
