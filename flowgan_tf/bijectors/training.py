"""Passes the `training` argument to the bijectors inside a chain."""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.errors import check

__all__ = ['check_training', 'training_kwargs']


def check_training(training: bool) -> None:
  """Checks that `training` is known in Python: a tensor would be a branch in the graph."""
  check('training', training, 'a Python bool', isinstance(training, bool | np.bool_))


def training_kwargs(bijector: tfp.bijectors.Bijector, training: bool) -> dict:
  """Keyword arguments that pass `training` to every coupling and batch normalisation inside `bijector`.

  TFP passes keyword arguments through a `tfb.Chain` or `tfb.JointMap` as dictionaries nested by bijector name. It
  silently ignores names that it does not know, so the nesting is built only here.

  ```python
  chain.inverse(x, **training_kwargs(chain, training=True))
  ```

  `tfb.RealNVP` and `tfb.MaskedAutoregressiveFlow` pass keyword arguments to their function, not to the bijector that it
  returns. A function that has an argument `training` is given it.

  A function of any other bijector is looked at, but not called. If it mentions a coupling or batch normalisation, it is
  taken to use it, even if it reads no more than an attribute: then read that outside of the function.

  Args:
    bijector: Any bijector.
    training: Whether to use batch statistics and update the running statistics.

  Returns:
    Keyword arguments for the methods of `bijector`, empty if nothing inside depends on `training`.

  Raises:
    ValueError: If `training` is not a Python bool, two bijectors of one chain have the same name, or `bijector` holds
      one that depends on `training` where TFP does not pass it on, as in `tfb.TransformDiagonal`.
  """
  check_training(training)
  if getattr(bijector, 'accepts_training', False):
    return {'training': training}
  if hasattr(bijector, 'bijectors'):  # Chain, JointMap
    children = tf.nest.flatten(bijector.bijectors)
    names = [child.name for child in children]
    nested = {child.name: training_kwargs(child, training) for child in children}
    nested = {name: kwargs for name, kwargs in nested.items() if kwargs}
    if nested and len(set(names)) < len(names):
      raise ValueError(f'`bijector` must have parts with different names to be called with `training`. Got: {names}.')
    return nested
  if hasattr(bijector, 'bijector'):  # Invert, FactorOut: keyword arguments are passed on as they are
    return training_kwargs(bijector.bijector, training)
  for name in ('bijector_fn', 'shift_and_log_scale_fn'):  # RealNVP, MaskedAutoregressiveFlow
    function = bijector.parameters.get(name)
    if callable(function) and 'training' in inspect.signature(function).parameters:
      return {'training': training}
  if part := _dependent_part(bijector, set()):
    raise ValueError(
      f'`bijector` must pass `training` on to what it holds. Got: {bijector.name!r}, which does not pass it on to '
      f'{part.name!r}.'
    )
  return {}


def _dependent_part(value: object, seen: set[int]) -> tfp.bijectors.Bijector | None:
  """Returns a bijector that depends on `training` among everything that `value` refers to, or None."""
  if id(value) in seen:
    return None
  seen.add(id(value))
  if getattr(value, 'accepts_training', False) and isinstance(value, tfp.bijectors.Bijector):
    return value
  found = (_dependent_part(referent, seen) for referent in _referents(value))
  return next(filter(None, found), None)


def _referents(value: object) -> Iterable[object]:
  if isinstance(value, tfp.bijectors.Bijector):
    return [*value.parameters.values(), *value.submodules]
  if isinstance(value, tf.Module):
    return value.submodules
  if isinstance(value, dict):
    return value.values()
  if isinstance(value, list | tuple):
    return value
  if isinstance(value, functools.partial):
    return [value.func, *value.args, *value.keywords.values()]
  if inspect.ismethod(value):
    return [value.__self__]
  if inspect.isfunction(value):
    return _referents_of_function(value)
  return []


def _referents_of_function(function: Callable) -> Iterable[object]:
  values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
  for cell in function.__closure__ or ():
    with contextlib.suppress(ValueError):  # A variable that has no value yet.
      values.append(cell.cell_contents)
  return [*values, *(function.__globals__.get(name) for name in _names(function.__code__))]


def _names(code: types.CodeType) -> set[str]:
  """Names of globals and attributes that a function and the functions inside of it mention."""
  inner = [constant for constant in code.co_consts if inspect.iscode(constant)]
  return {*code.co_names, *(name for function in inner for name in _names(function))}
