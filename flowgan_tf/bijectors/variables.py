"""What all bijectors share that own variables."""

from __future__ import annotations

import tensorflow_probability as tfp

__all__ = ['VariableBijector']


class VariableBijector(tfp.bijectors.Bijector):
  """A bijector whose variables are made by its constructor, and not given to it.

  TFP takes bijectors with equal arguments for equal: it would share cached results between two of them, and copy one by
  calling the constructor again, which makes new variables. Here each one is itself alone.
  """

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return {}

  def _get_parameterization(self):
    return id(self)

  def copy(self, **override_parameters_kwargs):
    """Returns the bijector itself, with its variables.

    Raises:
      NotImplementedError: If a parameter is to be changed.
    """
    if override_parameters_kwargs:
      raise NotImplementedError(f'{self.name} owns variables and cannot be copied with other arguments.')
    return self
