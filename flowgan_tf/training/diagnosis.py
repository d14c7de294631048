"""Finds what was no longer finite in a training that diverged, and where this began."""

import contextlib
import math
from collections.abc import Iterator

import tensorflow as tf
import tensorflow_probability as tfp
from ml_collections import config_dict

from flowgan_tf.bijectors.base import wrapped_methods
from flowgan_tf.flows import Generator
from flowgan_tf.objectives import Objective
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep

# What computes values and log-determinants in a bijector. Only bijectors that compute both together have the last two.
_METHODS = (
  '_forward',
  '_inverse',
  '_forward_log_det_jacobian',
  '_inverse_log_det_jacobian',
  '_cached_forward',
  '_cached_inverse',
)


def not_finite(metrics: dict[str, tf.Tensor], state: TrainState, config: config_dict.ConfigDict) -> list[str]:
  """Returns what is not finite after a step: names of its metrics, and 'weights'."""
  # In float16, a gradient that overflows is not a failure: the optimizer skips that step and lowers its loss scale.
  excused = {'gradient_norm'} if config.precision == 'mixed_float16' else set()
  found = [name for name, value in metrics.items() if name not in excused and not math.isfinite(float(value))]
  # We check each by itself: a norm over weights that are large but finite would overflow.
  return found if all(map(_is_finite, _trained(state))) else [*found, 'weights']


def explain(state: TrainState, objective: Objective, config: config_dict.ConfigDict, batch: object) -> str:
  """Makes a step that fails from its batch, operation by operation, and says what first is not finite in it.

  `state` must be the state before the step, and cannot be used afterwards. The text names the terms of the loss with
  the bijector whose output is not finite, and the variable whose gradient or value is not; such as 'nll, loss (first in
  coupling_1); the gradient of coupling_1/dense/kernel'. It is empty if everything is finite, which can happen because a
  compiled step rounds differently.
  """
  eager = tf.config.functions_run_eagerly()
  tf.config.run_functions_eagerly(True)
  try:
    with _watched(state.generator) as culprits:

      def inspect(metrics, gradients, variables):
        found = []
        if terms := [name for name, value in metrics.items() if not _is_finite(value)]:
          found.append(', '.join(terms) + (f' (first in {culprits[0]})' if culprits else ''))
        # Gradients of float16 overflow without harm; see `not_finite`.
        if config.precision != 'mixed_float16':
          pairs = zip(gradients, variables, strict=True)
          found += [f'the gradient of {_name(v)}' for g, v in pairs if g is not None and not _is_finite(g)][:1]
        if found:
          raise _FoundError('; '.join(found))

      TrainStep(state, objective, config, inspect=inspect)(batch)
  except _FoundError as error:
    return str(error)
  finally:
    tf.config.run_functions_eagerly(eager)
  return next((f'the weight {_name(v)}' for v in _trained(state) if not _is_finite(v)), '')


class _FoundError(Exception):
  pass


@contextlib.contextmanager
def _watched(generator: Generator) -> Iterator[list[str]]:
  """Yields a list of the bijectors whose results are not finite, in the order in which they are computed."""
  culprits: list[str] = []

  def watched(bijector, method, compute):
    def compute_and_look(*args, **kwargs):
      result = compute(*args, **kwargs)
      if not all(map(_is_finite, tf.nest.flatten(result))):
        culprits.append(bijector.name)
      return result

    return compute_and_look

  bijectors = [part for part in generator.submodules if isinstance(part, tfp.bijectors.Bijector)]
  parts = [b for b in bijectors if not any(isinstance(part, tfp.bijectors.Bijector) for part in b.submodules)]
  with wrapped_methods(parts, _METHODS, watched):
    yield culprits


def _trained(state):
  return [*state.generator.trainable_variables, *(state.critic.trainable_variables if state.critic else ())]


def _is_finite(value):
  return bool(tf.reduce_all(tf.math.is_finite(value)))


def _name(variable):
  return variable.name.removesuffix(':0')
