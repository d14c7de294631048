"""Scores of samples against a data set, with the network behind them."""

from __future__ import annotations

import numpy as np

from flowgan_tf.metrics.frechet import feature_statistics, frechet_distance
from flowgan_tf.metrics.mmd import kernel_distance
from flowgan_tf.metrics.predictions import ScoreNetwork
from flowgan_tf.metrics.reference import Reference
from flowgan_tf.metrics.scores import inception_score, mode_score

__all__ = ['Scorer']

_SUBSETS_PER_SPLIT = 10  # of KID: 100 for the usual 10 splits


class Scorer:
  """Inception score, FID and KID of samples; with a network that knows the data set's labels also the MODE score.

  Attributes:
    selection: Name of the score that chooses the best checkpoint: 'mode_score' where there is one, as in the paper's
      MNIST table, else 'inception_score', as in its CIFAR-10 table.
  """

  def __init__(self, network: ScoreNetwork, reference: Reference):
    """Prepares the scores.

    Args:
      network: Predicts features and classes.
      reference: Its features of real images, for FID and KID.
    """
    self._network, self._reference = network, reference
    self.selection = 'inception_score' if network.label_distribution is None else 'mode_score'

  def __call__(self, images: np.ndarray, splits: int = 1) -> dict[str, float | int | str]:
    """Scores samples.

    Args:
      images: float `[n, height, width, channels]`, finite.
      splits: Parts of the samples for Inception and MODE score, which are mean and standard deviation over them.

    Returns:
      The scores, `NAME` and `NAME_std`, and what they rest on: network and hash, numbers of samples, splits and
      reference images.
    """
    features, probabilities = self._network.predict(images)
    inception = inception_score(probabilities, splits)
    kid = kernel_distance(features, self._reference.features, subsets=_SUBSETS_PER_SPLIT * splits)
    record = {
      'inception_score': inception.mean,
      'inception_score_std': inception.std,
      'fid': frechet_distance(feature_statistics(features), self._reference.statistics),
      'kid': kid.mean,
      'kid_std': kid.std,
    }
    if self._network.label_distribution is not None:
      mode = mode_score(probabilities, self._network.label_distribution, splits)
      record |= {'mode_score': mode.mean, 'mode_score_std': mode.std}
    if self._network.test_accuracy is not None:
      record['classifier_accuracy'] = self._network.test_accuracy
    return record | {
      'score_samples': len(images),
      'score_splits': splits,
      'scorer': self._network.name,
      'scorer_hash': self._network.hash,
      'reference_images': self._reference.statistics.n,
    }
