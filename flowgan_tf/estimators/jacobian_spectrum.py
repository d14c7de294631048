"""Singular values and log-determinant of the generator's Jacobian, by which the paper explains likelihoods.

From noise to image, volume changes by `|det dG/dz|`. A generator that squeezes the noise into a thin set of images has
singular values of many magnitudes and a low log-determinant, and images outside that set have a low likelihood. The
paper plots the distribution of the singular values at 64 noise vectors and reports the mean log-determinant.

#### References

[1]: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in
     Generative Models. AAAI 2018, section 5.1, appendix D, Figures 4 and 8. https://arxiv.org/abs/1705.08868
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tqdm

from flowgan_tf.bijectors import training_kwargs
from flowgan_tf.flows import Generator
from flowgan_tf.metrics.arrays import standard_error

__all__ = ['JacobianSpectrum', 'jacobian', 'spectrum']


class JacobianSpectrum(NamedTuple):
  """The Jacobians `dG/dz` at n noise vectors of d dimensions.

  Attributes:
    singular_values: Singular values in descending order, float64 `[n, d]`.
    log_det: Sum of the log singular values in nats, float64 `[n]`. Singular values below float64's `eps` times the
      largest one, including zeros, are rounding errors and are replaced by that bound. `log_det` is then finite, but
      not reliable.
    mean_log_det: Mean of `flow_log_det` if there is one, since it is not limited by rounding, and of `log_det`
      otherwise.
    standard_error: Standard error of `mean_log_det` over noise vectors, NaN for a single one.
    condition_number: Ratio of the largest to the smallest singular value, float64 `[n]`. Infinite if the smallest is 0.
    below_precision: Number of singular values below `eps` of the generator's dtype times the largest, int64 `[n]`.
    n: Number of noise vectors.
    d: Dimensions of a noise vector.
    flow_log_det: The flow's own `forward_log_det_jacobian` in nats, to compare with `log_det`, float64 `[n]`. None for
      a generator that is not a flow.
  """

  singular_values: np.ndarray
  log_det: np.ndarray
  mean_log_det: float
  standard_error: float
  condition_number: np.ndarray
  below_precision: np.ndarray
  n: int
  d: int
  flow_log_det: np.ndarray | None


def jacobian(decode: Callable[[tf.Tensor], tf.Tensor], noise: tf.Tensor, block_size: int = 112) -> tf.Tensor:
  """The Jacobian `J[i, j] = dG_i / dz_j` at one noise vector, over flattened images and noise.

  It is computed in reverse mode: one forward pass, and then one backward pass for each block of `block_size` rows. The
  memory is that of one backward pass, whatever d is.

  Args:
    decode: `G`, TensorFlow code that maps noise `[batch, ...]` to images `[batch, ...]`.
    noise: One noise vector of static shape `[...]`.
    block_size: Number of rows in each backward pass.

  Returns:
    The Jacobian `[d, d]`, in the dtype of the noise.

  Raises:
    ValueError: If `block_size` is not positive, or if images and noise differ in size.
  """
  if block_size < 1:
    raise ValueError(f'`block_size` must be at least 1. Got: {block_size}.')
  # This takes half as long as reverse mode on repeated noise, and a third as long as forward mode, because the forward
  # pass is not repeated. The tape is persistent because each block takes gradients from it.
  with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
    tape.watch(noise)
    image = tf.reshape(decode(noise[tf.newaxis]), [-1])
  d = noise.shape.num_elements()
  if image.shape[0] != d:
    raise ValueError(f'`decode` must return images with the dimensions of the noise, {d}. Got: {image.shape[0]}.')
  rows = tape.jacobian(
    image,
    noise,
    unconnected_gradients=tf.UnconnectedGradients.ZERO,
    parallel_iterations=block_size,
    experimental_use_pfor=block_size > 1,  # It refuses blocks of 1.
  )
  return tf.reshape(rows, (d, d))


def spectrum(generator: Generator, noise: tf.Tensor) -> JacobianSpectrum:
  """Singular values and log-determinants of the generator's Jacobian at each noise vector, in evaluation mode.

  The entries are computed in the precision of the generator, and decomposed in float64. Singular values far below `eps`
  times the largest, where `eps` is 1e-7 for float32 and 2e-16 for float64, are rounding errors. Rows that are small
  because of the final sigmoid, as for dark pixels, are an exception: they keep their digits. Rows of bright pixels do
  not. From a logit of 17 (float32) or 37 (float64) on, the sigmoid is rounded to 1, the row is 0, and a singular value
  is lost. Use float64 for generators trained adversarially, whose singular values spread most:

  ```python
  wide = flow.with_dtype('float64')
  spectrum(wide, wide.distribution.sample(64, seed=(0, 0))).mean_log_det
  ```

  Args:
    generator: A flow, or a generator without a density.
    noise: Noise vectors `[n, *event_shape]`. The paper takes 64 draws from the prior, `generator.distribution`.

  Returns:
    The `JacobianSpectrum` at the noise vectors.

  Raises:
    ValueError: If `noise` has another shape or is empty, or if a Jacobian is not finite.
  """
  noise = tf.cast(noise, generator.dtype)
  if noise.shape[1:] != generator.event_shape or noise.shape[0] == 0:
    raise ValueError(f'`noise` must have shape [n, *{tuple(generator.event_shape)}] with n > 0. Got: {noise.shape}.')
  n, d = noise.shape[0], math.prod(generator.event_shape)
  jacobian_at = tf.function(lambda z: jacobian(generator.decode, z)).get_concrete_function(noise[0])
  singular_values = np.empty((n, d))
  for i in tqdm.trange(n, desc='Jacobians', dynamic_ncols=True, disable=not sys.stderr.isatty()):
    matrix = jacobian_at(noise[i]).numpy().astype(np.float64)
    if not np.isfinite(matrix).all():
      raise ValueError(f'the generator must have finite derivatives. Got: NaN or infinity at noise vector {i}.')
    singular_values[i] = np.linalg.svd(matrix, compute_uv=False)
  largest, smallest = singular_values[:, :1], singular_values[:, -1]
  tiny = np.finfo(np.float64).tiny  # so that the logarithm is finite for a constant generator
  log_det = np.log(np.maximum(singular_values, np.finfo(np.float64).eps * largest + tiny)).sum(axis=1)
  flow_log_det = _flow_log_det(generator, noise) if generator.has_density else None
  reported = log_det if flow_log_det is None else flow_log_det
  return JacobianSpectrum(
    singular_values=singular_values,
    log_det=log_det,
    mean_log_det=float(reported.mean()),
    standard_error=standard_error(reported),
    condition_number=np.divide(largest[:, 0], smallest, out=np.full(n, np.inf), where=smallest > 0),
    below_precision=np.count_nonzero(
      singular_values < np.finfo(generator.dtype.as_numpy_dtype).eps * largest + tiny, axis=1
    ),
    n=n,
    d=d,
    flow_log_det=flow_log_det,
  )


def _flow_log_det(flow: Generator, noise: tf.Tensor) -> np.ndarray:
  kwargs = training_kwargs(flow.bijector, False)
  log_det = flow.bijector.forward_log_det_jacobian(noise, event_ndims=len(flow.event_shape), **kwargs)
  return log_det.numpy().astype(np.float64)
