"""Measures of a generator's samples: scores by a network, which compares them with real images, and their health."""

import dataclasses
import logging
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from flowgan_tf.base.cache import cached
from flowgan_tf.base.progress import Task
from flowgan_tf.data import Dataset, dequantize
from flowgan_tf.metrics.conditional import class_distances, label_agreement
from flowgan_tf.metrics.scores import (
  FeatureStatistics,
  feature_statistics,
  frechet_distance,
  inception_score,
  kernel_distance,
  mode_score,
)
from flowgan_tf.metrics.variety import FEWEST_HELD_OUT, near_copies, nearest_distances, prdc

_LOG = logging.getLogger(__name__)

_SUBSETS_PER_SPLIT = 10  # for KID: 100 subsets for the usual 10 splits
# In dequantised real images one pixel in thousands comes this close to 0 or 1. If a generator has blown up, nearly all
# pixels of its samples do.
_SATURATION_MARGIN = 1e-6
# Part of the name of a reference's file, beside the data's fingerprint and the network's hash. Raise it with every
# change that makes another reference from the same two: to what is kept, to `feature_statistics`, to what a network's
# `predict` does before and after its weights, or to the dequantisation in `data/pipeline.py`.
_VERSION = 3
_REFERENCE_SEED = 0
_MOST_IMAGES = 250_000  # Inception-v3's features of that many images take 2 GB.
_KEPT_FEATURES = 50_000  # These take 400 MB.
_KERNEL_FEATURES = 10_000
_HELD_OUT = 5000
_MOST_OF_PRDC = 10_000
_NEIGHBORS = 5
_CHUNK_VALUES = 2**25  # 128 MiB of float32 images; a network makes a few copies of them


class ScoreNetwork(Protocol):
  """The network behind the scores: the data set's own `Classifier`, or `Inception`."""

  @property
  def name(self) -> str:
    """'classifier', 'resnet' or 'inception_v3'."""

  @property
  def hash(self) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the weights.

    Scores are comparable only if they have the same hash, number of samples and number of splits.
    """

  @property
  def label_distribution(self) -> np.ndarray | None:
    """p*(y) of the data set, float64 `[k]`; None if the network does not know its classes."""

  @property
  def test_accuracy(self) -> float | None:
    """Fraction of its test images that are classified correctly; None if the network does not know them."""

  def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns features, float32 `[n, d]`, and p(y|x), float64 `[n, k]`, of images, floats `[n, height, width, c]`."""


class Reference(NamedTuple):
  """Features of the training images, with which the features of samples are compared."""

  #: For FID: mean and covariance of the features of all images, or of 250,000 of them drawn at random.
  statistics: FeatureStatistics
  #: Features of 50,000 of these images, drawn at random, or of all, in random order: float32 `[m, d]`.
  features: np.ndarray
  class_features: Sequence[np.ndarray] = ()  #: The same features by class, for FID within classes.
  #: Distances of the features of up to 5,000 test images to the nearest of `features`, float64 `[h]`.
  held_out_distances: np.ndarray = np.zeros(0)


def load_reference(
  dataset: Dataset, network: ScoreNetwork, cache_dir: str | os.PathLike, by_class: bool = False
) -> Reference:
  """Returns the reference of a data set, from the cache if it is there and newly computed otherwise.

  The images are dequantised, to look like a flow's samples, with noise that is always the same. With `by_class` the
  features are also divided by class.
  """
  n = len(dataset.train)
  used = min(n, _MOST_IMAGES)
  order = _drawn(n, used)
  kept = np.random.default_rng(_REFERENCE_SEED).permutation(used)[:_KEPT_FEATURES]

  def features_of(images, order, seed):
    chunk = max(1, _CHUNK_VALUES // math.prod(dataset.image_shape))
    features = []
    with Task('reference features', len(order)) as task:
      for start in range(0, len(order), chunk):
        # Each chunk has a seed of its own, or all of them would get the same noise.
        chunk_of_images = dequantize(images[order[start : start + chunk]], dataset.levels, seed + start)
        features.append(network.predict(chunk_of_images)[0])
        task.advance(chunk)
    return np.concatenate(features)

  def compute():
    count = f'the {n}' if used == n else f'{used} of the {n}'
    _LOG.info('Computing %s features of %s train images of %s.', network.name, count, dataset.name)
    features, held_out = features_of(dataset.train.images, order, _REFERENCE_SEED), np.zeros(0)
    if test := min(len(dataset.test), _HELD_OUT):
      of_test = features_of(dataset.test.images, _drawn(len(dataset.test), test), _REFERENCE_SEED + used)
      held_out = nearest_distances(of_test, features[kept])
    return {'features': features[kept], 'held_out': held_out, **feature_statistics(features)._asdict()}

  train = 'train' if used == n else f'train{used}'
  name = f'reference-{dataset.name}-{train}-{dataset.fingerprint[:12]}-{network.name}-{network.hash}-v{_VERSION}'
  saved = cached(cache_dir, name, compute)
  features, of_classes = saved['features'], ()
  if by_class:
    assert dataset.train.labels is not None and dataset.num_classes is not None
    labels = dataset.train.labels[order[kept]]
    of_classes = tuple(features[labels == label] for label in range(dataset.num_classes))
  statistics = FeatureStatistics(saved['mean'], saved['covariance'], int(saved['n']))
  return Reference(statistics, features, of_classes, saved['held_out'])


def _drawn(n, count):
  """Returns the indices of `count` of `n` images, drawn at random; all in order if there are no more."""
  return np.arange(n) if count == n else np.random.default_rng(_REFERENCE_SEED).permutation(n)[:count]


@dataclasses.dataclass(frozen=True)
class Scorer:
  """Inception score, FID and KID of samples, and the MODE score if the network knows the data set's classes."""

  network: ScoreNetwork  #: Network that predicts features and classes.
  reference: Reference  #: Features of real images from the same network, for FID and KID.
  #: Network that assigns samples to classes of the data set, if samples are drawn for classes and `network` cannot.
  labeller: ScoreNetwork | None = None
  #: Whether to measure also what takes seconds: precision, recall, density, coverage, near copies and, if samples are
  #: drawn for classes, FID within classes.
  thorough: bool = False

  @property
  def selection(self) -> str:
    """The score that chooses the best checkpoint: as in the paper's tables, the MODE score if there is one."""
    return 'inception_score' if self.network.label_distribution is None else 'mode_score'

  def __call__(self, images: np.ndarray, splits: int = 1, labels: np.ndarray | None = None) -> dict[str, Any]:
    """Scores samples.

    Args:
      images: Samples, finite floats `[n, height, width, channels]`.
      splits: Number of parts into which the samples are divided. Inception and MODE score are given as mean and
        standard deviation over the parts, or with one part its standard error.
      labels: The classes that the samples were drawn for, ints `[n]`, if any.

    Returns:
      A dictionary of the scores, `NAME` and `NAME_std`, with the network's name and hash and the numbers of samples,
      splits and reference images. With labels it has what `label_agreement` says, the accuracy of that classifier on
      test images as `labeller_accuracy` and, if the reference has classes, what `class_distances` says.

      If `thorough`, it has what `prdc` says of the first samples and as many training images, up to 10,000, their
      number as `prdc_images`, and what `near_copies` says of all samples: `near_copies` and `near_copies_error`, with
      the numbers of training and test images as `copied_from` and `held_out_images`.
    """
    with Task(f'scores of {len(images):,} images'):
      return self._scores(images, splits, labels)

  def _scores(self, images, splits, labels):
    network = self.network
    features, probabilities = network.predict(images)
    scores = {
      'inception_score': inception_score(probabilities, splits),
      'kid': kernel_distance(features, self.reference.features[:_KERNEL_FEATURES], subsets=_SUBSETS_PER_SPLIT * splits),
    }
    if network.label_distribution is not None:
      scores['mode_score'] = mode_score(probabilities, network.label_distribution, splits)
    record = {'fid': frechet_distance(feature_statistics(features), self.reference.statistics)}
    for name, score in scores.items():
      record |= {name: score.mean, f'{name}_std': score.std}
    if network.test_accuracy is not None:
      record['classifier_accuracy'] = network.test_accuracy
    if labels is not None:
      record |= self._by_label(images, features, probabilities, labels)
    if self.thorough:
      record |= self._variety(features)
    return record | {
      'score_samples': len(images),
      'score_splits': splits,
      'scorer': network.name,
      'scorer_hash': network.hash,
      'reference_images': self.reference.statistics.n,
    }

  def _by_label(self, images, features, probabilities, labels):
    record, labeller = {}, self.labeller or self.network
    if self.labeller:
      probabilities = self.labeller.predict(images)[1]
    if labeller.label_distribution is not None:
      record = label_agreement(probabilities.argmax(axis=1), labels, probabilities.shape[1])
      record['labeller_accuracy'] = labeller.test_accuracy
    if self.thorough and self.reference.class_features:
      record |= class_distances(features, labels, self.reference.class_features)
    return record

  def _variety(self, features):
    references, held_out = self.reference.features, self.reference.held_out_distances
    record, n = {}, min(len(features), len(references), _MOST_OF_PRDC)
    if n > _NEIGHBORS:
      record = prdc(features[:n], references[:n], _NEIGHBORS)._asdict() | {'prdc_images': n}
    if len(held_out) >= FEWEST_HELD_OUT:
      share, error = near_copies(nearest_distances(features, references), held_out)
      record |= {'near_copies': share, 'near_copies_error': error}
      record |= {'copied_from': len(references), 'held_out_images': len(held_out)}
    return record


def score_samples(
  images: np.ndarray, scorer: Scorer | None, splits: int = 1, labels: np.ndarray | None = None
) -> dict[str, Any]:
  """Returns the health of samples and, if there is a scorer and all pixels are finite, their scores.

  Their health shows signs of a collapse that the likelihood does not show.

  Args:
    images: Samples, float `[n, height, width, channels]`.
    scorer: Scores the samples; None for no scores.
    splits: As for `Scorer`.
    labels: As for `Scorer`.

  Returns:
    A dictionary of `saturated`, the share of pixels that are beyond 0 or 1 or within 1e-6 of them; `non_finite`, the
    share of pixels that are NaN or infinite; and `sample_std`, the standard deviation over samples, averaged over
    pixels, which is near 0 if all samples are alike. The scores are added to it.
  """
  finite = np.isfinite(images)
  values = np.where(finite, images, 0.5)
  saturated = (values < _SATURATION_MARGIN) | (values > 1 - _SATURATION_MARGIN)
  health = {
    'saturated': float(saturated.mean()),
    'non_finite': float(1 - finite.mean()),
    'sample_std': float(values.std(axis=0).mean()),
  }
  if scorer is None or health['non_finite']:
    return health
  return health | (scorer(images, splits) if labels is None else scorer(images, splits, labels))
