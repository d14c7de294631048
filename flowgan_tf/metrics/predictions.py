"""What the networks behind the scores say of images."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

__all__ = ['Predictions', 'ScoreNetwork']


class Predictions(NamedTuple):
  """What a network says of n images.

  Attributes:
    features: float32 `[n, d]`, the last hidden layer.
    probabilities: float64 `[n, k]`, p(y|x) over k classes.
  """

  features: np.ndarray
  probabilities: np.ndarray


class ScoreNetwork(Protocol):
  """A network that looks at images: the data set's own `Classifier`, or `Inception`.

  Attributes:
    name: 'classifier' or 'inception_v3'.
    hash: First 16 hexadecimal digits of the SHA-256 of the weights. Scores compare only with the same hash, number of
      samples and number of splits.
    label_distribution: float64 `[k]`, p*(y) of the data set, for the MODE score; None if the classes are not the data
      set's.
    test_accuracy: Fraction of the data set's test split that is classified rightly; None likewise.
  """

  name: str
  hash: str
  label_distribution: np.ndarray | None
  test_accuracy: float | None

  def predict(self, images: np.ndarray) -> Predictions:
    """Features and class probabilities of float images `[n, height, width, channels]` in [0, 1]."""
