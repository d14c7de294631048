"""Scores of a run's samples, with a cache of classifiers and reference features."""

from __future__ import annotations

import logging
import pathlib

import numpy as np
from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.files import make_writable
from flowgan_tf.metrics import classifier as classifiers
from flowgan_tf.metrics.inception import load_inception
from flowgan_tf.metrics.reference import load_or_compute
from flowgan_tf.metrics.samples import sample_health
from flowgan_tf.metrics.scorers import Scorer

__all__ = ['make_scorer', 'score_samples']

_LOG = logging.getLogger(__name__)


def make_scorer(config: config_dict.ConfigDict, dataset: data.Dataset, *, required: bool = False) -> Scorer | None:
  """Makes the scorer for the samples of a run. FID and KID compare with the training images, as is customary.

  A classifier or reference features that are not in the cache are made now. If the cache cannot be written, a warning
  says so before that work.

  Args:
    config: A training configuration, of which `scorer`, `inception_weights` and `cache_dir` are used.
    dataset: The data.
    required: Whether the user named the scorer, so that data without labels are an error.

  Returns:
    The scorer; None if it would be a classifier and the data have no labels.

  Raises:
    UsageError: If `required` and the data have no labels, a label has no training image, there are fewer than 2
      training images, or the weights of Inception-v3 are missing.
  """
  by_classifier = config.scorer == 'classifier'
  if by_classifier and dataset.num_classes is None:
    if required:
      raise UsageError(
        f"`scorer` must be 'inception', or left out for no scores, because {config.dataset} has no labels to train a "
        "classifier on. Got: 'classifier'."
      )
    return None
  if len(dataset.train) < 2:  # A covariance needs two.
    raise UsageError(
      f'{config.dataset}: must have at least 2 training images for FID and KID; for no scores, set `score_samples` in '
      f'training or `samples` in evaluation to 0. Got: {len(dataset.train)}.'
    )
  if by_classifier:
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    if not counts.all():
      raise UsageError(
        f'{config.dataset}: must have training images of each label from 0 to {dataset.num_classes - 1}, or no labels. '
        f'Got: none of {counts.argmin()}.'
      )
  folder = pathlib.Path(config.cache_dir or '~/.cache/flowgan_tf').expanduser()
  try:
    make_writable(folder)
  except UsageError as error:
    _LOG.warning('%s; what is not in it will be computed every time.', error)
  if by_classifier:
    network = classifiers.load_or_train(dataset, folder)
  else:
    network = load_inception(config.inception_weights or None)
  return Scorer(network, load_or_compute(dataset, network, folder))


def score_samples(images: np.ndarray, scorer: Scorer | None, splits: int = 1) -> dict[str, float | int | str]:
  """Measures the health of samples and, if there is a scorer and all pixels are finite, their scores.

  Args:
    images: Samples, float `[n, height, width, channels]`.
    scorer: Scores the samples; None for no scores.
    splits: Number of parts that are scored separately; see `Scorer`.
  """
  health = sample_health(images)
  if scorer is None or health['non_finite']:
    return health
  return health | scorer(images, splits)
