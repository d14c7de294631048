"""Passes the `training` argument to the bijectors inside a chain."""

from __future__ import annotations

import tensorflow_probability as tfp

__all__ = ['training_kwargs']


def training_kwargs(bijector: tfp.bijectors.Bijector, training: bool) -> dict:
  """Keyword arguments that pass `training` to every coupling and batch normalisation inside `bijector`.

  TFP passes keyword arguments through a `tfb.Chain` or `tfb.JointMap` as dictionaries nested by bijector name. It
  silently ignores names that it does not know, so the nesting is built only here.

  ```python
  chain.inverse(x, **training_kwargs(chain, training=True))
  ```

  Args:
    bijector: Any bijector.
    training: Whether to use batch statistics and update the running statistics.

  Returns:
    Keyword arguments for the methods of `bijector`, empty if nothing inside depends on `training`.

  Raises:
    ValueError: If two bijectors of one chain have the same name.
  """
  if getattr(bijector, 'accepts_training', False):
    return {'training': training}
  if hasattr(bijector, 'bijectors'):  # Chain, JointMap
    children = bijector.bijectors
    names = [child.name for child in children]
    nested = {child.name: training_kwargs(child, training) for child in children}
    nested = {name: kwargs for name, kwargs in nested.items() if kwargs}
    if nested and len(set(names)) < len(names):
      raise ValueError(f'`bijector` must have parts with different names to be called with `training`. Got: {names}.')
    return nested
  if hasattr(bijector, 'bijector'):  # Invert, FactorOut: keyword arguments are passed on as they are
    return training_kwargs(bijector.bijector, training)
  return {}
