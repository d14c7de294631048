"""The training argument, carried to the bijectors inside a chain."""

from __future__ import annotations

import tensorflow_probability as tfp

__all__ = ['training_kwargs']


def training_kwargs(bijector: tfp.bijectors.Bijector, training: bool) -> dict:
  """Keyword arguments that bring `training` to every coupling and batch norm inside `bijector`.

  TFP passes keywords through a `tfb.Chain` or `tfb.JointMap` as dictionaries nested by bijector name, and ignores a
  name that it does not know, so the nesting is made here and nowhere else.

  ```python
  chain.inverse(x, **training_kwargs(chain, training=True))
  ```

  Args:
    bijector: Any bijector.
    training: Whether batch statistics are used and running statistics are updated.

  Returns:
    Keyword arguments for the methods of `bijector`; empty if nothing inside depends on `training`.

  Raises:
    ValueError: If two bijectors of one chain share a name.
  """
  if getattr(bijector, 'accepts_training', False):
    return {'training': training}
  if hasattr(bijector, 'bijectors'):  # Chain, JointMap
    children = bijector.bijectors
    names = [child.name for child in children]
    nested = {child.name: training_kwargs(child, training) for child in children}
    nested = {name: kwargs for name, kwargs in nested.items() if kwargs}
    if nested and len(set(names)) < len(names):
      raise ValueError(f'Bijectors in one chain need different names to be called with `training`. Got: {names}.')
    return nested
  if hasattr(bijector, 'bijector'):  # Invert, FactorOut: keywords pass straight through
    return training_kwargs(bijector.bijector, training)
  return {}
