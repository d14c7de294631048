"""The base of all bijectors that own variables."""

from __future__ import annotations

import tensorflow_probability as tfp

from flowgan_tf.networks.adapter import HiddenFromKeras

__all__ = ['VariableBijector']


class VariableBijector(HiddenFromKeras, tfp.bijectors.Bijector):
  """A bijector whose constructor creates its variables, instead of taking them as arguments.

  TFP considers bijectors with equal arguments to be equal. It would share cached results between two of them, and copy
  one by another call of the constructor, which creates new variables. Here a bijector is equal only to itself.

  `copy` returns the bijector itself, and `copy.deepcopy` one with variables of its own.
  """

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return {}

  def _get_parameterization(self):
    return id(self)

  def copy(self, **override_parameters_kwargs):
    """Returns the bijector itself, with its variables.

    Args:
      **override_parameters_kwargs: Not supported. It is there because TFP's method takes it.

    Raises:
      NotImplementedError: If any argument is given.
    """
    if override_parameters_kwargs:
      raise NotImplementedError(f'{self.name} owns variables and cannot be copied with other arguments.')
    return self
