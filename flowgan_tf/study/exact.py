"""What the densities p and q of two flows say of the divergences that critics estimate from samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from flowgan_tf.base.lazy import lazy_import, tf
from flowgan_tf.metrics import arrays

special = lazy_import('scipy.special')


class Known(NamedTuple):
  """What densities say of a divergence that a critic estimates."""

  #: Maps r = log p/q at samples of p, and at as many of q, to terms whose mean is the divergence.
  terms: Callable[[np.ndarray, np.ndarray], np.ndarray]
  #: The optimal output of a critic for r, as TensorFlow code; None where it has no slope.
  optimum: Callable[[tf.Tensor], tf.Tensor] | None
  threshold: float | None = 0.0  #: The output of that critic where p = q; None if a constant may be added to it.


def _of_either(function: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Callable:
  """Terms at samples of both flows: functions of r, p and q, the last two over their mean (p + q) / 2."""

  def terms(of_data, of_model):
    r = np.concatenate([of_data, of_model])
    return function(r, 2 * special.expit(r), 2 * special.expit(-r))

  return terms


#: The divergences that densities tell, in the units of `objectives.DIVERGENCES`.
KNOWN: Mapping[str, Known] = {
  'jensen_shannon': Known(_of_either(lambda r, p, q: special.xlogy(p, p) + special.xlogy(q, q)), lambda r: r),
  'kl': Known(lambda of_data, of_model: of_data, lambda r: 1 + r, threshold=1.0),
  'reverse_kl': Known(lambda of_data, of_model: -of_model, lambda r: r),
  'hellinger': Known(_of_either(lambda r, p, q: (np.sqrt(p) - np.sqrt(q)) ** 2), lambda r: r / 2),
  'total_variation': Known(_of_either(lambda r, p, q: np.abs(np.tanh(r / 2))), None),
  'least_squares': Known(_of_either(lambda r, p, q: np.tanh(r / 2) ** 2 / 4), lambda r: tf.sigmoid(r), threshold=0.5),
  'relativistic': Known(lambda a, b: math.log(2) - np.logaddexp(0, b - a), lambda r: r, threshold=None),
}


def exact(of_data: np.ndarray, of_model: np.ndarray) -> dict[str, float]:
  """Returns what the log-ratios r = log p/q at samples of p, and at as many of q, say about p and q.

  ```none
  KL(p, q) = E_p[r],   KL(q, p) = -E_q[r],   Bayes accuracy = (P_p[r > 0] + P_q[r < 0]) / 2
  ```

  Returns:
    The divergences of `KNOWN`, in the units of `objectives.DIVERGENCES` (nats, or none), and `accuracy`; each with its
    standard error, as `NAME_standard_error`.
  """
  values = {name: known.terms(of_data, of_model) for name, known in KNOWN.items()}
  values['accuracy'] = right(of_data, of_model, 0.0)
  found: dict[str, float] = {}
  for name, each in values.items():
    parts = np.split(each, len(each) // len(of_data))  # Terms at samples of p come first, then terms at samples of q.
    error = math.hypot(*map(arrays.standard_error, parts)) / len(parts)
    found |= {name: float(each.mean()), f'{name}_standard_error': error}
  return found


def right(of_data, of_model, threshold):
  """Whether each output tells which flow a sample is from; a tie is half right."""
  pooled = np.concatenate([of_data - threshold, threshold - of_model])
  return (pooled > 0) + 0.5 * (pooled == 0)
