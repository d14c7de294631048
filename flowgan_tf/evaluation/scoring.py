"""The network behind a run's sample scores, from the cache or made anew."""

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
from flowgan_tf.metrics.scorers import Scorer

__all__ = ['cache_dir', 'make_scorer']

_LOG = logging.getLogger(__name__)


def cache_dir(config: config_dict.ConfigDict) -> pathlib.Path:
  """Folder in which trained classifiers and reference features are kept."""
  return pathlib.Path(config.cache_dir or '~/.cache/flowgan_tf').expanduser()


def make_scorer(config: config_dict.ConfigDict, dataset: data.Dataset, *, required: bool = False) -> Scorer | None:
  """What scores the samples of a run: FID and KID are against the training images, as is the custom.

  A classifier that the cache does not hold is trained now; reference features that it does not hold are computed. Where
  the cache cannot be written, a warning says so before that work.

  Args:
    config: A training configuration; `scorer`, `inception_weights` and `cache_dir` count.
    dataset: The data.
    required: Whether the user has asked for the scorer by name, so that there is an error in place of None.

  Returns:
    None if the scorer is a classifier and the data have no labels.

  Raises:
    UsageError: If `required` and the data have no labels, no training image has one of the labels, there are fewer than
      2 training images, or there are no weights of Inception-v3.
  """
  by_classifier = config.scorer == 'classifier'
  if by_classifier and dataset.num_classes is None:
    if required:
      raise UsageError(
        f"`scorer` must be 'inception', or left out for no scores, as {config.dataset} has no labels to train a "
        "classifier on. Got: 'classifier'."
      )
    return None
  if len(dataset.train) < 2:  # What a covariance takes.
    raise UsageError(
      f'{config.dataset}: must have at least 2 training images for FID and KID, or go without scores: `score_samples` '
      f'0 in training, `samples` 0 in evaluation. Got: {len(dataset.train)}.'
    )
  if by_classifier:
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    if not counts.all():
      raise UsageError(
        f'{config.dataset}: must have training images of each label from 0 to {dataset.num_classes - 1}, or no labels. '
        f'Got: none of {counts.argmin()}.'
      )
  folder = cache_dir(config)
  try:
    make_writable(folder)
  except OSError as error:
    _LOG.warning(
      '%s: cannot be written (%s); what it does not hold is made anew each time.',
      folder,
      error.strerror,
    )
  if by_classifier:
    network = classifiers.load_or_train(dataset, folder)
  else:
    network = load_inception(config.inception_weights or None)
  return Scorer(network, load_or_compute(dataset, 'train', network, folder))
