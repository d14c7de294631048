"""The scorer of a run's samples, from its settings and its data."""

import logging

import numpy as np
from ml_collections import config_dict

from flowgan_tf.base.cache import cache_folder
from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.base.files import make_writable
from flowgan_tf.data import Dataset
from flowgan_tf.flows.classes import class_name
from flowgan_tf.metrics.classifier import load_classifier
from flowgan_tf.metrics.inception import load_inception
from flowgan_tf.metrics.samples import ScoreNetwork, Scorer, load_reference

_LOG = logging.getLogger(__name__)


def make_scorer(
  config: config_dict.ConfigDict, dataset: Dataset, *, required: bool = False, thorough: bool = False
) -> Scorer | None:
  """Makes the scorer for the samples of a run. FID and KID compare with the training images, as is customary.

  A classifier or reference features that are not in the cache are made now. If the cache cannot be written, a warning
  says so before that work.

  Args:
    config: A training configuration with `scorer`, `inception_weights`, `cache_dir` and `condition`.
    dataset: The data. A table has no scorer. A classifier needs at least two classes, and training images of each;
      without them there is no scorer, and a warning says so if a class has no images.
    required: Whether the user named the scorer, so that data without such labels are an error.
    thorough: As for a `Scorer`.

  Raises:
    UsageError: If `required` and the data have no such labels or are a table, or the weights of Inception-v3 are
      missing.
  """
  if dataset.is_table:
    check('scorer', config.scorer, f'left out, as {dataset.name} is a table, which has no scores', not required)
    return None
  by_classifier, by_label = config.scorer != 'inception', config.condition == 'label'
  if by_classifier and (why := _unsuited(dataset)):
    if required:
      raise UsageError(
        f"`scorer` must be 'inception', or left out for no scores, because {config.dataset} has {why} "
        f"to train a classifier on. Got: '{config.scorer}'.",
        'scorer',
      )
    if (dataset.num_classes or 1) > 1:
      _LOG.warning('%s has %s to train a classifier on, so samples get no scores.', config.dataset, why)
    return None
  folder = cache_folder(config.cache_dir)
  try:
    make_writable(folder)
  except UsageError as error:
    _LOG.warning('%s; what is not in it will be computed every time.', error)
  network: ScoreNetwork
  if by_classifier:
    network = load_classifier(dataset, folder, name=config.scorer)
  else:
    network = load_inception(config.inception_weights or None)
  labeller = load_classifier(dataset, folder) if by_label and not by_classifier else None
  reference = load_reference(dataset, network, folder, by_class=by_label)
  return Scorer(network, reference, labeller, thorough)


def _unsuited(dataset):
  """Returns what the data lack for a classifier, in words; '' if they lack nothing."""
  if (dataset.num_classes or 1) == 1:
    return 'no labels of at least two classes'
  counts = np.bincount(np.asarray(dataset.train.labels), minlength=dataset.num_classes)
  return '' if counts.all() else f'no training images of class {class_name(counts.argmin(), dataset.class_names)}'
