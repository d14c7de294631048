"""What was no longer finite in a training that diverged, and where that began."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import tensorflow as tf
import tensorflow_probability as tfp
from ml_collections import config_dict

from flowgan_tf.flows import Generator
from flowgan_tf.objectives import Objective
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep

__all__ = ['explain', 'not_finite']

# What computes values and log-determinants in a bijector; the last two only in those that compute both together.
_METHODS = (
  '_forward',
  '_inverse',
  '_forward_log_det_jacobian',
  '_inverse_log_det_jacobian',
  '_cached_forward',
  '_cached_inverse',
)


def not_finite(metrics: dict[str, tf.Tensor], state: TrainState, config: config_dict.ConfigDict) -> list[str]:
  """Returns what is not finite after a step: names of its metrics, and 'weights'.

  Args:
    metrics: What the step returned.
    state: The state after the step.
    config: The training's configuration.
  """
  # With float16 a gradient that overflows is no failure: the optimizer skips that step and lowers its loss scale.
  excused = {'gradient_norm'} if config.precision == 'mixed_float16' else set()
  found = [name for name, value in metrics.items() if name not in excused and not math.isfinite(float(value))]
  # Each by itself: a norm over weights that are large but finite would overflow.
  return found if all(map(_is_finite, _trained(state))) else [*found, 'weights']


def explain(state: TrainState, objective: Objective, config: config_dict.ConfigDict, images: tf.Tensor) -> str:
  """Makes a step that fails, operation by operation, and says what is the first in it that is not finite.

  Args:
    state: The state before the step. It is of no use afterwards.
    objective: The objective.
    config: The training's configuration.
    images: The images of the step.

  Returns:
    The terms of the loss with the bijector whose output is not finite, and the variable whose gradient or value is not;
    such as 'nll, loss (first in coupling_1); the gradient of coupling_1/dense/kernel'. Empty if all is finite, which is
    possible, as a compiled step rounds differently.
  """
  found: list[str] = []
  eager = tf.config.functions_run_eagerly()
  tf.config.run_functions_eagerly(True)
  try:
    with _watched(state.generator) as culprits, contextlib.suppress(_FoundError):
      _InspectedStep(state, objective, config, found, culprits)(images)
      found += [f'the weight {_name(v)}' for v in _trained(state) if not _is_finite(v)][:1]
  finally:
    tf.config.run_functions_eagerly(eager)
  return '; '.join(found)


class _FoundError(Exception):
  pass


class _InspectedStep(TrainStep):
  """A step that ends at the first update whose metrics or gradients are not finite."""

  def __init__(self, state, objective, config, found, culprits):
    super().__init__(state, objective, config)
    self._found, self._culprits = found, culprits

  def _inspect(self, metrics, gradients, variables):
    if terms := [name for name, value in metrics.items() if not _is_finite(value)]:
      self._found.append(', '.join(terms) + (f' (first in {self._culprits[0]})' if self._culprits else ''))
    # Gradients of float16 overflow without harm; see `not_finite`.
    if self.config.precision != 'mixed_float16':
      pairs = zip(gradients, variables, strict=True)
      self._found += [f'the gradient of {_name(v)}' for g, v in pairs if g is not None and not _is_finite(g)][:1]
    if self._found:
      raise _FoundError


@contextlib.contextmanager
def _watched(generator: Generator) -> Iterator[list[str]]:
  """Yields a list of the bijectors whose results are not finite, in the order in which they are computed."""
  culprits: list[str] = []

  def watch(bijector, method):
    compute = getattr(bijector, method)

    def watched(*args, **kwargs):
      result = compute(*args, **kwargs)
      if not all(map(_is_finite, tf.nest.flatten(result))):
        culprits.append(bijector.name)
      return result

    vars(bijector)[method] = watched

  bijectors = [part for part in generator.submodules if isinstance(part, tfp.bijectors.Bijector)]
  parts = [b for b in bijectors if not any(isinstance(part, tfp.bijectors.Bijector) for part in b.submodules)]
  patched = [(part, method) for part in parts for method in _METHODS if hasattr(part, method)]
  for part, method in patched:
    watch(part, method)
  try:
    yield culprits
  finally:
    for part, method in patched:
      del vars(part)[method]


def _trained(state):
  return [*state.generator.trainable_variables, *(state.critic.trainable_variables if state.critic else ())]


def _is_finite(value):
  return bool(tf.reduce_all(tf.math.is_finite(value)))


def _name(variable):
  return variable.name.removesuffix(':0')
