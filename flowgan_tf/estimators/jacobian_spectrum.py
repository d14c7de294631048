"""The generator's Jacobian: its singular values and log-determinant, with which the paper explains likelihoods.

Volume changes by `|det dG/dz|` from noise to image. A generator that squeezes the noise into a thin set of images has
singular values of many magnitudes and a low log-determinant, and images beside that set get a low likelihood. The paper
draws the distribution of the singular values at 64 noise vectors and reports the mean log-determinant.

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
from flowgan_tf.flows import Flow
from flowgan_tf.generators import Generator
from flowgan_tf.metrics.standard_errors import standard_error

__all__ = ['JacobianSpectrum', 'jacobian', 'spectrum']


class JacobianSpectrum(NamedTuple):
  """The Jacobians `dG/dz` at n noise vectors of d dimensions.

  Attributes:
    singular_values: float64 `[n, d]`, descending.
    log_det: float64 `[n]`, the sum of the log singular values in nats. Those below `eps` of float64 times the largest,
      zeros among them, are rounding errors and count as that bound: `log_det` is finite then, but not to be relied on.
    mean_log_det: Mean of `flow_log_det` if there is one, which no rounding bounds, of `log_det` otherwise.
    standard_error: Of `mean_log_det`, over noise vectors; NaN for a single one.
    condition_number: float64 `[n]`, largest over smallest singular value; infinite if the smallest is 0.
    below_precision: int64 `[n]`, how many singular values lie below `eps` of the generator's dtype times the largest.
    n: Number of noise vectors.
    d: Dimensions of one.
    flow_log_det: float64 `[n]`, the flow's own `forward_log_det_jacobian` in nats, to compare with `log_det`; None for
      a generator without one.
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

  Reverse mode: one forward pass, then backward passes of `block_size` rows each, one after the other. Memory is that of
  one such pass, whatever d is.

  Args:
    decode: `G`, TensorFlow code that maps noise `[batch, ...]` to images `[batch, ...]`.
    noise: One noise vector of static shape `[...]`.
    block_size: Rows of a backward pass.

  Returns:
    `[d, d]`, of the dtype of the noise.

  Raises:
    ValueError: If `block_size` is not positive, or images and noise differ in size.
  """
  if block_size < 1:
    raise ValueError(f'`block_size` must be at least 1. Got: {block_size}.')
  # Half the time of reverse mode on repeated noise, and a third of forward mode's: the forward pass is not repeated.
  # The tape is persistent because the blocks take gradients of it more than once.
  with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
    tape.watch(noise)
    image = tf.reshape(decode(noise[tf.newaxis]), [-1])
  d = noise.shape.num_elements()
  if image.shape[0] != d:
    raise ValueError(f'`decode` must return as many dimensions as the noise has, {d}. Got: {image.shape[0]}.')
  rows = tape.jacobian(
    image,
    noise,
    unconnected_gradients=tf.UnconnectedGradients.ZERO,
    parallel_iterations=block_size,
    experimental_use_pfor=block_size > 1,  # which refuses blocks of 1
  )
  return tf.reshape(rows, (d, d))


def spectrum(generator: Generator, noise: tf.Tensor, block_size: int = 112) -> JacobianSpectrum:
  """Singular values and log-determinants of the generator's Jacobian at each noise vector, in evaluation mode.

  The entries have the precision of the generator, the decomposition is in float64. Singular values far below `eps`
  times the largest, 1e-7 for float32 and 2e-16 for float64, are rounding errors, unless it is the sigmoid at the end
  that makes the rows of the Jacobian small, as in dark pixels: such a row keeps its digits. A bright pixel does not:
  its sigmoid rounds to 1 from a logit of 17 (float32) or 37 (float64) on, its row is 0, and a singular value is lost.
  For adversarially trained generators, whose singular values spread most, take float64; weights can be copied:

  ```python
  wide = fg.flows.nice((28, 28, 1), dtype='float64')
  for variable, narrow in zip(wide.variables, flow.variables, strict=True):
    variable.assign(tf.cast(narrow, variable.dtype))
  spectrum(wide, wide.distribution.sample(64, seed=(0, 0))).mean_log_det
  ```

  Args:
    generator: A flow or a generator without density.
    noise: `[n, *event_shape]`; the paper has n = 64 draws from the prior, `generator.distribution`.
    block_size: As in `jacobian`.

  Raises:
    ValueError: If `noise` has another shape or no vectors, or a Jacobian is not finite.
  """
  noise = tf.cast(noise, generator.dtype)
  if noise.shape[1:] != generator.event_shape or noise.shape[0] == 0:
    raise ValueError(f'`noise` must have shape [n, *{tuple(generator.event_shape)}], n > 0. Got: {noise.shape}.')
  n, d = noise.shape[0], math.prod(generator.event_shape)
  jacobian_at = tf.function(lambda z: jacobian(generator.decode, z, block_size)).get_concrete_function(noise[0])
  singular_values = np.empty((n, d))
  for i in tqdm.trange(n, desc='Jacobians', dynamic_ncols=True, disable=not sys.stderr.isatty()):
    matrix = jacobian_at(noise[i]).numpy().astype(np.float64)
    if not np.isfinite(matrix).all():
      raise ValueError(f'`generator` must have finite derivatives. Got: NaN or infinity at noise vector {i}.')
    singular_values[i] = np.linalg.svd(matrix, compute_uv=False)
  largest, smallest = singular_values[:, :1], singular_values[:, -1]
  tiny = np.finfo(np.float64).tiny  # for a generator that is constant
  log_det = np.log(np.maximum(singular_values, np.finfo(np.float64).eps * largest + tiny)).sum(axis=1)
  flow_log_det = _flow_log_det(generator, noise) if isinstance(generator, Flow) else None
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


def _flow_log_det(flow: Flow, noise: tf.Tensor) -> np.ndarray:
  kwargs = training_kwargs(flow.bijector, False)
  log_det = flow.bijector.forward_log_det_jacobian(noise, event_ndims=len(flow.event_shape), **kwargs)
  return log_det.numpy().astype(np.float64)
