"""Likelihood of images in nats and in bits per dimension, with the round-trip error of the flow."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from flowgan_tf.flows import Flow
from flowgan_tf.metrics.arrays import map_batches, standard_error


class Likelihood(NamedTuple):
  """The likelihood of a set of images under a flow."""

  nll: float  #: Mean negative log-likelihood in nats per image, for the density over the unit cube.
  standard_error: float  #: Standard error of `nll` over images.
  bits_per_dim: float  #: `nll` in bits per dimension of the grey levels.
  #: Largest `|x - G(G^-1(x))|` over all pixels (full range 1) of the images whose round trip was measured.
  round_trip_error: float
  n: int  #: Number of images.


def bits_per_dim(nll: float, image_shape: Sequence[int], levels: int) -> float:
  """Converts an NLL in nats over the unit cube to bits per dimension: `nll / (d ln 2) + log2(levels)`.

  The second term accounts for the width of a dequantised grey level. It is 8 for 256 levels.

  Args:
    nll: Negative log-likelihood in nats per image.
    image_shape: `(height, width, channels)`; `d` is its product.
    levels: Number of grey levels.
  """
  return nll / (math.prod(image_shape) * math.log(2)) + math.log2(levels)


def make_likelihood_fn(
  flow: Flow,
  levels: int,
  batch_size: int,
  *,
  jit: bool,
  round_trips: int | None = None,
  spread: Callable[[Callable], Callable] = lambda function: function,
) -> Callable[[np.ndarray], Likelihood]:
  """Builds a function that measures the likelihood of images.

  Args:
    flow: The flow.
    levels: Number of grey levels of the data.
    batch_size: Number of images per call of the flow.
    jit: Whether to compile with XLA.
    round_trips: How many of the first images make the round trip, which takes as long as their density; None for all.
    spread: Function, such as `Replicas.map`, that spreads a function of batches over devices.

  Returns:
    A function that maps dequantised images, float `[n, height, width, channels]`, to their `Likelihood`. It also takes
    an iterable of such arrays, as chunks; only one is in memory at a time.
  """

  @spread
  @tf.function(jit_compile=jit, autograph=False)
  def measure(images):
    log_prob = flow.log_prob(images)
    # Without tf.identity, TFP's cache would return the images that the noise was computed from.
    decoded = flow.decode(tf.identity(flow.encode(images)))
    return log_prob, tf.reduce_max(tf.abs(decoded - images), axis=(1, 2, 3))

  density = spread(tf.function(flow.log_prob, jit_compile=jit, autograph=False))

  def likelihood(images):
    log_probs, errors, n = [], [], 0
    for chunk in [images] if isinstance(images, np.ndarray) else images:
      chunk = chunk.astype(flow.dtype.as_numpy_dtype)
      there_and_back = len(chunk) if round_trips is None else max(0, min(len(chunk), round_trips - n))
      if there_and_back:
        log_prob, error = map_batches(measure, chunk[:there_and_back], batch_size)
        log_probs.append(log_prob)
        errors.append(error)
      if there_and_back < len(chunk):
        log_probs.append(map_batches(density, chunk[there_and_back:], batch_size))
      n += len(chunk)
    log_prob = np.concatenate(log_probs)
    nll = -float(log_prob.mean(dtype=np.float64))
    return Likelihood(
      nll=nll,
      standard_error=standard_error(log_prob),
      bits_per_dim=bits_per_dim(nll, chunk.shape[1:], levels),
      round_trip_error=float(np.concatenate(errors).max()),
      n=n,
    )

  return likelihood
