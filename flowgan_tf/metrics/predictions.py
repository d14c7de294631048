"""What the networks behind the scores predict for images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ['Predictions', 'ScoreNetwork', 'weights_hash']


class Predictions(NamedTuple):
  """The predictions of a network for n images.

  Attributes:
    features: Outputs of the last hidden layer, float32 `[n, d]`.
    probabilities: p(y|x) over k classes, float64 `[n, k]`.
  """

  features: np.ndarray
  probabilities: np.ndarray


class ScoreNetwork(Protocol):
  """The network behind the scores: the data set's own `Classifier`, or `Inception`.

  Attributes:
    name: Either 'classifier' or 'inception_v3'.
    hash: First 16 hexadecimal digits of the SHA-256 of the weights. Scores are comparable only if they have the same
      hash, number of samples and number of splits.
    label_distribution: p*(y) of the data set for the MODE score, float64 `[k]`. None if the network does not know the
      data set's classes.
    test_accuracy: Fraction of the data set's test images that are classified correctly. None if the network does not
      know the data set's classes.
  """

  name: str
  hash: str
  label_distribution: np.ndarray | None
  test_accuracy: float | None

  def predict(self, images: np.ndarray) -> Predictions:
    """Returns features and class probabilities of float images `[n, height, width, channels]` in [0, 1]."""


def weights_hash(weights: Iterable[np.ndarray]) -> str:
  """Returns the first 16 hexadecimal digits of the SHA-256 of a network's weights."""
  digest = hashlib.sha256()
  for weight in weights:
    digest.update(weight.tobytes())
  return digest.hexdigest()[:16]
