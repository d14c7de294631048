"""Scores of sample quality and diversity from a classifier's predictions: Inception score and MODE score.

Both take the classifier's p(y|x) for samples x of the model. Scores are comparable only if they come from the same
classifier and from about the same number of samples: with few samples in a split, p(y) is a rough estimate, and the
score is biased.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from flowgan_tf.errors import UsageError, check, check_integer

__all__ = ['Score', 'inception_score', 'mode_score']

# A float32 softmax or a table of label frequencies is rounded, but not by more than this.
_SUM_TOLERANCE = 1e-3


class Score(NamedTuple):
  """A score over the splits of the samples.

  Attributes:
    mean: Mean over the splits.
    std: Population standard deviation over the splits, 0 for a single split.
  """

  mean: float
  std: float


def inception_score(probabilities: np.ndarray, splits: int = 1) -> Score:
  """Returns the Inception score, `exp(E_x KL(p(y|x) || p(y)))`.

  `p(y)` is the mean of `p(y|x)` over the samples of the split, and `0 log 0 = 0`. The score lies between 1, if all
  samples have the same prediction, and the number of classes, if predictions are certain and classes equally frequent.

  Args:
    probabilities: p(y|x) of the n samples, `[n, classes]`. Rows are rescaled to sum to 1 exactly.
    splits: Number k of consecutive parts that are scored separately. Part i, from 0 to k - 1, holds the samples from
      `i n // k` up to `(i + 1) n // k`, as in torch-fidelity.

  Raises:
    UsageError: If `probabilities` is not a matrix of finite distributions, or `splits` is not between 1 and n.

  #### References

  Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016, Section 4. Used in Flow-GAN, Section 3.2.
  """
  return _over_splits(probabilities, splits, lambda part: np.mean(_kl(part, part.mean(axis=0))))


def mode_score(probabilities: np.ndarray, label_distribution: np.ndarray, splits: int = 1) -> Score:
  """Returns the MODE score, `exp(E_x KL(p(y|x) || p*(y)) - KL(p*(y) || p(y)))`.

  `p*` is the label distribution of the training data, and `p(y)` the mean of `p(y|x)` over the samples of the split.
  Since `E_x KL(p(y|x) || p*) = E_x KL(p(y|x) || p(y)) + KL(p(y) || p*)`,

      MODE score = Inception score * exp(KL(p(y) || p*) - KL(p* || p(y))).

  If no sample gives a class any probability, `KL(p* || p(y))` is infinite. The score is then 0, which is the limit of
  the formula. A lower bound on p(y) would only replace that limit by an arbitrary number. The softmax of finite logits
  never reaches it, but gives small probabilities and a small score.

  If predictions are certain and `p(y) = p*`, the score is `exp(H(p*))`, where H is the entropy in nats. For a uniform
  p* that is the number of classes, and the maximum. For any other p* the formula rewards an excess of rare classes: its
  maximum is above `exp(H(p*))`, at `p(y) = p* / (c + log p*)`, where c makes this sum to 1.

  Args:
    probabilities: As for `inception_score`.
    label_distribution: p*(y), `[classes]`, greater than 0 for each class. It is rescaled to sum to 1 exactly.
    splits: As for `inception_score`.

  Raises:
    UsageError: As for `inception_score`; or if `label_distribution` is not a positive distribution over the same number
      of classes.

  #### References

  Che et al., "Mode Regularized Generative Adversarial Networks", ICLR 2017; the formula is Flow-GAN's, Section 3.2.
  """
  labels = np.asarray(label_distribution, np.float64)
  # If p* is 0 for a class, the first term is infinite as soon as the classifier gives that class any probability.
  holds = labels.shape == np.shape(probabilities)[1:] and np.all(labels > 0) and abs(labels.sum() - 1) <= _SUM_TOLERANCE
  check('label_distribution', labels.tolist(), 'greater than 0 in each class and sum to 1', holds)
  labels = labels / labels.sum()
  return _over_splits(probabilities, splits, lambda part: np.mean(_kl(part, labels)) - _kl(labels, part.mean(axis=0)))


def _kl(p, q):
  """Returns `KL(p || q)` in nats over the last axis, with `0 log 0 = 0`, and infinity where `q = 0 < p`."""
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0).sum(axis=-1)


def _over_splits(probabilities, splits, log_score):
  probabilities = _distributions(probabilities)
  check_integer('splits', splits, 1, len(probabilities))
  # np.array_split divides differently if `splits` does not divide the number of samples.
  bounds = np.arange(splits + 1) * len(probabilities) // splits
  scores = np.exp([log_score(probabilities[start:stop]) for start, stop in itertools.pairwise(bounds)])
  return Score(mean=float(scores.mean()), std=float(scores.std()))


def _distributions(probabilities):
  probabilities = np.asarray(probabilities, np.float64)
  check('probabilities', probabilities.shape, 'of shape [samples, classes]', probabilities.ndim == 2)
  sums = probabilities.sum(axis=1, keepdims=True)
  good = (probabilities >= 0).all(axis=1) & (np.abs(sums[:, 0] - 1) <= _SUM_TOLERANCE)  # False for NaN.
  if bad := np.count_nonzero(~good):
    raise UsageError(
      f'`probabilities` must be at least 0 and sum to 1 in each row. Got: {bad} of {len(good)} rows that are not.',
      'probabilities',
    )
  # Subnormal numbers can be rounded to 0 in the mean p(y), which would turn their vanishing terms into infinity.
  return np.where(probabilities < np.finfo(np.float64).tiny, 0.0, probabilities / sums)
