"""The analysis `jacobian`: singular values of the generator's Jacobian, by which the paper explains likelihoods.

From noise to image, volume changes by `|det dG/dz|`. A generator that squeezes the noise into a thin set of images has
singular values of many magnitudes and a low log-determinant, and images outside that set have a low likelihood. The
paper plots the distribution of the singular values at 64 noise vectors and reports the mean log-determinant.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from flowgan_tf import data, display
from flowgan_tf.base.lazy import tf
from flowgan_tf.base.progress import Task
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, listed
from flowgan_tf.metrics import arrays
from flowgan_tf.runs import seeds
from flowgan_tf.study.analysis import Analysis, Settings, Subject, setting
from flowgan_tf.study.summary import Summary

if TYPE_CHECKING:
  from flowgan_tf.flows import Generator


_FEW = 4  # noise vectors, for which it does not pay to trace long


class JacobianSpectrum(NamedTuple):
  """The Jacobians `dG/dz` at n noise vectors of d dimensions."""

  singular_values: np.ndarray  #: Singular values in descending order, float64 `[n, d]`.
  #: Sum of the log singular values in nats, float64 `[n]`. Singular values below float64's `eps` times the largest one,
  #: including zeros, are rounding errors and are replaced by that bound. `log_det` is then finite, but not reliable.
  log_det: np.ndarray
  #: The flow's own `forward_log_det_jacobian` in nats, float64 `[n]`, which rounding does not limit. None for a
  #: generator that is not a flow.
  flow_log_det: np.ndarray | None
  #: Number of singular values below `eps` of the generator's dtype times the largest, int64 `[n]`.
  below_precision: np.ndarray


def jacobian_matrix(
  decode: Callable[[tf.Tensor], tf.Tensor], noise: tf.Tensor, block_size: int = 112, *, repeat: bool = False
) -> tf.Tensor:
  """Returns the Jacobian `J[i, j] = dG_i / dz_j` at one noise vector, over flattened images and noise.

  After one forward pass, a backward pass computes each block of `block_size` rows. It needs the memory of one backward
  pass, whatever d is.

  Args:
    decode: `G`, TensorFlow code that maps noise `[batch, ...]` to images `[batch, ...]`.
    noise: One noise vector of static shape `[...]`.
    block_size: Number of rows in each backward pass.
    repeat: Whether each block also has a forward pass, of as many copies of the noise. That takes almost twice as long
      once it is traced, but tracing it is much faster.

  Returns:
    The Jacobian `[d, d]`, in the dtype of the noise.
  """
  size = noise.shape.num_elements()
  if repeat:
    blocks = functools.partial(_repeated, decode, tf.repeat(noise[tf.newaxis], block_size, axis=0))
    rows = tf.map_fn(blocks, tf.range(0, size, block_size), parallel_iterations=1, fn_output_signature=noise.dtype)
    return tf.reshape(rows, (-1, size))[:size]
  # Forward mode takes three times as long. The tape is persistent because each block takes gradients from it.
  with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
    tape.watch(noise)
    image = tf.reshape(decode(noise[tf.newaxis]), [-1])
  rows = tape.jacobian(
    image,
    noise,
    unconnected_gradients=tf.UnconnectedGradients.ZERO,
    parallel_iterations=block_size,
    experimental_use_pfor=block_size > 1,  # pfor rejects blocks of 1.
  )
  return tf.reshape(rows, (-1, size))


def _repeated(decode, copies, first):
  """Returns rows of the Jacobian from number `first` on, one for each copy of the noise."""
  size = copies.shape[1:].num_elements()
  z = tf.identity(copies)  # TFP's cache would hand out images from before the tape.
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(z)
    row = tf.minimum(first + tf.range(copies.shape[0]), size - 1)
    picked = tf.gather(tf.reshape(decode(z), (-1, size)), row, batch_dims=1)
  return tape.gradient(picked, z, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def spectrum(generator: Generator, noise: tf.Tensor, condition: tf.Tensor | None = None) -> JacobianSpectrum:
  """Returns singular values and log-determinants of the generator's Jacobian at each noise vector, in evaluation mode.

  The entries have the precision of the generator, and the decomposition is in float64. Singular values far below `eps`
  times the largest, where `eps` is 1e-7 for float32 and 2e-16 for float64, are rounding errors. Rows of dark pixels are
  small because of the final sigmoid, and keep their digits. Rows of bright pixels do not: from a logit of 17 (float32)
  or 37 (float64) on, the sigmoid is rounded to 1, the row is 0, and a singular value is lost. Use float64 for
  generators trained adversarially, whose singular values spread most:

  ```python
  wide = flow.with_dtype('float64')
  spectrum(wide, wide.distribution.sample(64, seed=(0, 0))).log_det
  ```

  Args:
    generator: A flow, or a generator without a density.
    noise: Noise vectors `[n, *event_shape]`. The paper takes 64 draws from the prior, `generator.distribution`.
    condition: What a conditional generator is given, for each noise vector, `[n, ...]`.

  Raises:
    ValueError: If a Jacobian is not finite.
  """
  noise = tf.cast(noise, generator.dtype)

  @tf.function(autograph=False)
  @generator.on_batches
  def jacobian_at(given, z):
    return jacobian_matrix(given.decode, z, repeat=len(noise) <= _FEW)

  singular_values = np.empty((len(noise), math.prod(generator.event_shape)))
  with Task('Jacobians', len(noise), unit='noise vectors', images=0) as task:
    for i in range(len(noise)):
      matrix = jacobian_at(noise[i], data.split.take(condition, slice(i, i + 1))).numpy().astype(np.float64)
      if not np.isfinite(matrix).all():
        raise ValueError(f'the generator must have finite derivatives. Got: NaN or infinity at noise vector {i}.')
      singular_values[i] = np.linalg.svd(matrix, compute_uv=False)
      task.advance()
  tiny = np.finfo(np.float64).tiny  # so that the logarithm is finite for a constant generator
  largest, eps = singular_values[:, :1], np.finfo(generator.dtype.as_numpy_dtype).eps
  flow_log_det = None
  if generator.has_density:
    keywords = generator._bijector_kwargs(False, generator._as_condition(condition))
    flow_log_det = generator.bijector.forward_log_det_jacobian(noise, event_ndims=len(noise.shape) - 1, **keywords)
    flow_log_det = flow_log_det.numpy().astype(np.float64)
  return JacobianSpectrum(
    singular_values=singular_values,
    log_det=np.log(np.maximum(singular_values, np.finfo(np.float64).eps * largest + tiny)).sum(axis=1),
    flow_log_det=flow_log_det,
    below_precision=np.count_nonzero(singular_values < eps * largest + tiny, axis=1),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class JacobianSettings(Settings):
  noise_vectors: int = setting(64, 'Noise vectors.', 1, 10**5)


class Jacobian(Analysis):
  """Singular values, log-determinant and condition number at random noise vectors.

  #### References

  Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI 2018,
  section 5.1, appendix D, Figures 4 and 8. https://arxiv.org/abs/1705.08868
  """

  name = 'jacobian'
  title = 'Jacobian of the generator'
  description = "singular values, log-determinant and condition number of the generator's Jacobian"
  paper = 'Figures 4, 8'
  caption = 'Singular values at random noise vectors'
  Settings = JacobianSettings
  columns = (
    Column('mean log-determinant (nats)', 'mean_log_det', ',.1f', 'standard_error'),
    Column('of the matrix', 'mean_log_det_of_matrix', ',.1f'),
    Column('condition number, median', 'median_condition_number', '.2e', infinite='∞'),
    Column('largest', 'largest_condition_number', '.2e', infinite='∞'),
    Column('singular values below precision', 'share_below_precision', '.1%'),
    Column('the paper: mean log-determinant', 'log_det', ',.2f', source='paper'),
  )
  details = (Column('noise vectors', 'n', ','), Column('dimensions', 'd', ','))
  # Section 5.1 and appendix D.
  published: ClassVar = {
    'mnist': {'MLE': {'log_det': -4170.34}, 'ADV': {'log_det': -15588.34}, 'Hybrid λ = 0.1': {'log_det': -5184.40}},
    'cifar10': {'MLE': {'log_det': -12818.84}, 'ADV': {'log_det': -21848.09}, 'Hybrid λ = 1': {'log_det': -14729.51}},
  }

  def measure(self, subject: Subject, settings: JacobianSettings) -> tuple[dict, dict[str, np.ndarray]]:
    # In float32, the smallest singular values of a nearly singular Jacobian are rounding errors.
    generator = subject.run.generator.with_dtype('float64')
    seed = seeds.stateless_seed(settings.seed, seeds.Purpose.ANALYSIS)
    conditions = subject.conditions_for_samples(settings.noise_vectors, settings.seed)
    noise = subject.run.generator.given(conditions).sample_noise(settings.noise_vectors, seed)
    found = spectrum(generator, noise, conditions)
    values, of_flow = found.singular_values, found.flow_log_det
    log_det = found.log_det if of_flow is None else of_flow
    ratios = np.divide(values[:, 0], values[:, -1], out=np.full(len(values), np.inf), where=values[:, -1] > 0)
    numbers = {
      'n': values.shape[0],
      'd': values.shape[1],
      'mean_log_det': log_det.mean(),
      'standard_error': arrays.standard_error(log_det),
      'median_condition_number': np.median(ratios),
      'largest_condition_number': ratios.max(),
      'below_precision': found.below_precision.mean(),
    }
    if of_flow is not None:
      numbers['mean_log_det_of_matrix'] = found.log_det.mean()
      numbers['largest_relative_difference'] = np.max(np.abs(found.log_det / of_flow - 1))
    return numbers, {'singular_values': values}

  def records(self, record: dict) -> dict[str, dict]:
    return {'': record | {'share_below_precision': record['below_precision'] / record['d']}}

  def figures(self, runs: Sequence[Summary]) -> dict[str, Figure]:
    spectra = {run.label: run.studies[self.name].arrays['singular_values'] for run in runs}
    numbers = sorted({run.studies[self.name].record['n'] for run in runs})
    figure = Figure.of_plot(
      display.plots.singular_values(spectra),
      f'Distribution functions of the singular values of the Jacobians of {listed(spectra)}.',
      f'Singular values of the Jacobian of the generator at {" or ".join(map(str, numbers))} noise vectors.',
    )
    return {self.name: figure} | ({'condition_numbers': plot} if (plot := condition_numbers(runs)) else {})

  def notes(self, runs: Sequence[Summary]) -> list[str]:
    if not any(run.studies[self.name].record['below_precision'] for run in runs):
      return []
    return [
      'Singular values below precision are smaller than the largest one times the rounding error of the arithmetic. '
      'If there are any, the condition number is a lower bound, and the log-determinant of a generator without an '
      'inverse is an upper bound.'
    ]


def condition_numbers(runs: Sequence[Summary]) -> Figure | None:
  """Draws the Jacobian's condition number against lambda, for generators with a density; None without two lambdas."""
  found: dict[float, list] = {}
  for run in runs:
    study = run.studies.get(Jacobian.name)
    # Only a flow's own log-determinant can be compared.
    if study and 'largest_relative_difference' in study.record:
      values = study.arrays['singular_values'].astype(np.float64)
      with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        found.setdefault(run.weight, []).append(values[:, 0] / values[:, -1])
  weights = sorted(found)
  if len(weights) < 2:
    return None
  return Figure.of_plot(
    display.plots.condition_numbers(weights, [np.concatenate(found[w]) for w in weights]),
    f'Condition number of the Jacobian at {len(weights)} values of λ.',
    'Largest over smallest singular value of the Jacobian of the generator: median and quartiles over noise vectors '
    'and runs. λ = 0 is adversarial training, infinity maximum likelihood.',
  )
