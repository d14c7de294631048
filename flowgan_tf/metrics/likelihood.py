"""Likelihood of images in nats and in bits per dimension, with the round-trip error and the accuracy of p(y | x)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.special
import tensorflow as tf

from flowgan_tf.data.dataset import bits_per_dim
from flowgan_tf.data.split import take
from flowgan_tf.flows import Flow
from flowgan_tf.metrics.arrays import binomial_error, map_batches, standard_error


class Likelihood(NamedTuple):
  """The likelihood of a set of images under a flow.

  For a flow with classes it is the likelihood p(x), the sum over all classes. For another conditional flow it is
  p(x | c), given the c of each image. Flows without classes have None in the last four fields.
  """

  nll: float  #: Mean negative log-likelihood in nats per image, for the density over the unit cube.
  standard_error: float  #: Standard error of `nll` over images.
  bits_per_dim: float | None  #: `nll` in bits per dimension of the grey levels; None for the rows of a table.
  #: Largest `|x - G(G^-1(x))|` over all pixels (full range 1) of the images whose round trip was measured. Columns of a
  #: table are in units of their standard deviation.
  round_trip_error: float
  n: int  #: Number of images.
  conditional_nll: float | None = None  #: Mean of -log p(x | y) for the images' own labels, in nats per image.
  class_accuracy: float | None = None  #: Share of images whose label has the largest p(y | x).
  class_accuracy_error: float | None = None  #: Binomial standard error of `class_accuracy`.
  calibration_error: float | None = None  #: Expected calibration error of p(y | x); see `calibration_error`.

  def record(self) -> dict[str, float]:
    """Returns the numbers by name, without those that this flow does not have."""
    return {name: value for name, value in self._asdict().items() if value is not None}


def calibration_error(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
  """Expected calibration error (ECE): the mean distance between confidence and accuracy.

  ```none
  ECE = sum_b |B_b| / n  |accuracy(B_b) - confidence(B_b)|
  ```

  `B_b` are the images whose largest probability lies in the b-th of equally wide bins of [0, 1].

  Args:
    probs: Probabilities of the classes, floats `[n, classes]`.
    labels: The classes of the images, ints `[n]`.
    bins: Number of bins.

  Returns:
    The error, from 0 to 1; NaN if a probability is not finite.

  Source: Chuan Guo, Geoff Pleiss, Yu Sun, Kilian Q. Weinberger. On Calibration of Modern Neural Networks. ICML 2017.
  """
  if not np.isfinite(probs).all():
    return math.nan
  confidence, hit = probs.max(axis=1), probs.argmax(axis=1) == labels
  bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
  gaps = np.bincount(bin_of, weights=hit - confidence, minlength=bins)
  return float(np.abs(gaps).sum() / len(labels))


def make_likelihood_fn(
  flow: Flow,
  levels: int | None,
  batch_size: int,
  *,
  jit: bool,
  round_trips: int | None = None,
  unit: float | np.ndarray = 1.0,
  distribute: Callable[[Callable], Callable] = lambda function: function,
) -> Callable[..., Likelihood]:
  """Builds a function that measures the likelihood of images.

  Args:
    flow: The flow.
    levels: Number of grey levels of the data; None for a table.
    batch_size: Number of images per call of the flow.
    jit: Whether to compile with XLA.
    round_trips: How many of the first images make the round trip, which takes as long as their density; None for all.
    unit: What errors of the round trip are divided by, such as the standard deviation of each column of a table.
    distribute: Function, such as `Replicas.map`, that divides a function of batches among devices.

  Returns:
    A function that maps dequantised images, float `[n, height, width, channels]`, to their `Likelihood`. It also takes
    an iterable of such arrays, as chunks; only one is in memory at a time. Its second argument is what a conditional
    flow is given with all images.
  """
  per_class = flow.classes is not None

  @distribute
  @tf.function(jit_compile=jit, autograph=False)
  @flow.on_batches
  def measure(given, images):
    # Without tf.identity, TFP's cache would return the images that the noise was computed from.
    decoded = given.decode(tf.identity(given.encode(images)))
    errors = tf.abs(decoded - images) / tf.cast(unit, images.dtype)
    return log_prob_of(given, images), tf.reduce_max(errors, axis=range(1, images.shape.rank))

  def log_prob_of(given, images):
    """log p(x, y) of all classes `[n, classes]`, or log p(x | c) or log p(x) `[n]`."""
    return given.class_log_probs(images) if per_class else given.log_prob(images)

  density = distribute(tf.function(flow.on_batches(log_prob_of), jit_compile=jit, autograph=False))

  def likelihood(images, conditions=None):
    log_probs, errors, n = [], [], 0
    for chunk in [images] if isinstance(images, np.ndarray) else images:
      chunk = chunk.astype(flow.dtype.as_numpy_dtype)
      there_and_back = len(chunk) if round_trips is None else max(0, min(len(chunk), round_trips - n))
      of_chunk = take(conditions, slice(n, n + len(chunk)))
      if there_and_back:
        first = chunk[:there_and_back], batch_size, take(of_chunk, slice(there_and_back))
        log_prob, error = map_batches(measure, *first, what='likelihood')
        log_probs.append(log_prob)
        errors.append(error)
      if there_and_back < len(chunk):
        rest = chunk[there_and_back:], batch_size, take(of_chunk, slice(there_and_back, None))
        log_probs.append(map_batches(density, *rest, what='likelihood'))
      n += len(chunk)
    log_prob, of_classes = np.concatenate(log_probs), {}
    if per_class:
      joint = log_prob.astype(np.float64)
      log_prob = scipy.special.logsumexp(joint, axis=1)
      of_classes = _of_classes(joint, log_prob, conditions, np.asarray(flow.class_probs, np.float64))
    nll = -float(log_prob.mean(dtype=np.float64))
    return Likelihood(
      nll=nll,
      standard_error=standard_error(log_prob),
      bits_per_dim=None if levels is None else bits_per_dim(nll, chunk.shape[1:], levels),
      round_trip_error=float(np.max(np.concatenate(errors))) if errors else math.nan,
      n=n,
      **of_classes,
    )

  return likelihood


def _of_classes(
  joint: np.ndarray, log_prob: np.ndarray, labels: np.ndarray, class_probs: np.ndarray
) -> dict[str, float]:
  """Returns the last four fields of a `Likelihood`, from log p(x, y) `[n, classes]`, log p(x) `[n]` and p(y)."""
  of_label = joint[np.arange(len(labels)), labels] - np.log(class_probs)[labels]
  accuracy = float(np.mean(joint.argmax(axis=1) == labels))
  return {
    'conditional_nll': -float(of_label.mean()),
    'class_accuracy': accuracy,
    'class_accuracy_error': binomial_error(accuracy, len(labels)),
    'calibration_error': calibration_error(scipy.special.softmax(joint, axis=1), labels),
  }
