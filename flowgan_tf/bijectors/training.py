"""Passes the `training` argument to the bijectors inside a chain."""

from __future__ import annotations

import inspect

import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.errors import UsageError, check_bool

__all__ = ['training_kwargs']


def training_kwargs(bijector: tfp.bijectors.Bijector, training: bool) -> dict:
  """Returns the keyword arguments that pass `training` to every coupling and batch normalisation inside `bijector`.

  TFP passes keyword arguments through a `tfb.Chain` or `tfb.JointMap` as dictionaries nested by bijector name. It
  silently ignores names that it does not know, so this function builds the dictionaries.

  ```python
  chain.inverse(x, **training_kwargs(chain, training=True))
  ```

  A bijector takes `training` if its class says `accepts_training = True`, as ours do, or if its `_forward` has an
  argument of this name. `tfb.RealNVP` and `tfb.MaskedAutoregressiveFlow` pass keyword arguments to their function, not
  to the bijector that it returns. They take `training` if the function has such an argument. What else a function
  refers to is not examined.

  Args:
    bijector: Any bijector.
    training: Whether to use batch statistics and update the running statistics.

  Returns:
    Keyword arguments for the methods of `bijector`, empty if nothing inside takes `training`.

  Raises:
    UsageError: If `training` is not True or False, two bijectors of one chain have the same name, or `bijector` holds a
      bijector that takes `training` where TFP does not pass it on, as in `tfb.TransformDiagonal`.
  """
  check_bool('training', training)
  if _takes_training(bijector):
    return {'training': training}
  if hasattr(bijector, 'bijectors'):  # Chain, JointMap
    children = tf.nest.flatten(bijector.bijectors)
    nested = {child.name: kwargs for child in children if (kwargs := training_kwargs(child, training))}
    names = [child.name for child in children]
    if nested and len(set(names)) < len(names):
      raise UsageError(f'`bijector` must have parts with different names to be called with `training`. Got: {names}.')
    return nested
  if hasattr(bijector, 'bijector'):  # Invert and FactorOut pass keyword arguments on as they are.
    return training_kwargs(bijector.bijector, training)
  for part in bijector.submodules:
    if _takes_training(part):
      raise UsageError(
        f'`bijector` must pass `training` on to what it holds. Got: {bijector.name!r}, which does not pass it on to '
        f'{part.name!r}.'
      )
  return {}


def _takes_training(module: tf.Module) -> bool:
  if not isinstance(module, tfp.bijectors.Bijector):
    return False
  functions = [module.parameters.get(name) for name in ('bijector_fn', 'shift_and_log_scale_fn')]
  return getattr(module, 'accepts_training', False) or any(
    'training' in inspect.signature(function).parameters for function in (module._forward, *functions) if function
  )
