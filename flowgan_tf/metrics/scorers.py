"""The scores of samples, from one network and the features of real images."""

from __future__ import annotations

import numpy as np

from flowgan_tf.metrics.frechet import feature_statistics, frechet_distance
from flowgan_tf.metrics.mmd import kernel_distance
from flowgan_tf.metrics.predictions import ScoreNetwork
from flowgan_tf.metrics.reference import Reference
from flowgan_tf.metrics.scores import inception_score, mode_score

__all__ = ['Scorer']

_SUBSETS_PER_SPLIT = 10  # for KID: 100 subsets for the usual 10 splits


class Scorer:
  """Inception score, FID and KID of samples, and the MODE score if the network knows the data set's classes.

  Attributes:
    selection: Name of the score that chooses the best checkpoint: 'mode_score' if there is one, as in the paper's MNIST
      table, and otherwise 'inception_score', as in its CIFAR-10 table.
  """

  def __init__(self, network: ScoreNetwork, reference: Reference):
    """Prepares the scores.

    Args:
      network: Network that predicts features and classes.
      reference: Features of real images from the same network, for FID and KID.
    """
    self._network, self._reference = network, reference
    self.selection = 'inception_score' if network.label_distribution is None else 'mode_score'

  def __call__(self, images: np.ndarray, splits: int = 1) -> dict[str, float | int | str]:
    """Scores samples.

    Args:
      images: Samples, finite floats `[n, height, width, channels]`.
      splits: Number of parts into which the samples are divided. Inception and MODE score are given as mean and
        standard deviation over the parts.

    Returns:
      A dictionary of the scores, `NAME` and `NAME_std`, with the network's name and hash and the numbers of samples,
      splits and reference images.
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
