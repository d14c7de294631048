"""What goes wrong without an error, or without a clear one, when a flow holds TFP's own bijectors and networks."""

import copy
import inspect
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.base.errors import UsageError
from flowgan_tf.networks.adapter import KerasModule


def check_trainable(bijector: tfp.bijectors.Bijector) -> None:
  """Rejects a bijector with variables that TFP does not see, or not yet: nothing would train them.

  Raises:
    UsageError: If the bijector has no trainable variables, holds a layer of Keras 3 outside of a `KerasModule`, or a
      layer of tf_keras that has not been called.
  """
  parts = (bijector, *bijector.submodules)
  adapted = {id(part.layer) for part in parts if isinstance(part, KerasModule)}
  for layer in bijector._flatten(predicate=lambda value: isinstance(value, keras.Layer)):
    if id(layer) not in adapted and (layer.variables or not layer.built):
      raise UsageError(
        '`bijector` must hold networks of Keras 3 as `flowgan_tf.networks.KerasModule(layer, input_shape)`: TFP would '
        f'not see their variables. Got: {bijector.name!r}, which holds {layer.name!r}.'
      )
  waiting = [part.name for part in parts if getattr(part, 'built', True) is False]  # Layers of tf_keras say so.
  if waiting or not bijector.trainable_variables:
    found = f'a network that has not been called, {waiting[0]!r}' if waiting else 'no trainable variables'
    raise UsageError(
      '`bijector` must have made its trainable variables, and TFP must see them. A network may make them when it is '
      'called: call `bijector.forward(distribution.sample(1))` first. TFP does not see the variables that a plain '
      f'function uses: make the function a `tf.Module`. Got: {bijector.name!r} with {found}.'
    )


def check_copyable(bijector: tfp.bijectors.Bijector, owner: str) -> None:
  """Rejects a bijector that holds a network within a function, of which `copy.deepcopy` makes no copy.

  Raises:
    TypeError: If there is such a bijector, as in `tfb.MaskedAutoregressiveFlow(network)`.
  """
  for part in (bijector, *bijector.submodules):
    if inspect.isfunction(getattr(part, '_bijector_fn', None)):
      raise TypeError(
        f'{owner!r} cannot be copied: the function of {part.name!r} would compute with the variables of the original. '
        'Make the flow by a function with the decorator `builder`, and use `with_dtype` instead.'
      )


def copy_bijector(bijector: tfp.bijectors.Bijector, memo: dict, owner: str) -> tfp.bijectors.Bijector:
  """Copies a bijector with its variables. Raises a TypeError that names the owner if TFP cannot copy a part."""
  try:
    return copy.deepcopy(bijector, memo)
  except TypeError as error:
    if 'cannot be copied' in str(error):
      raise
    said = str(error).rstrip('.')
    raise TypeError(
      f'{owner!r} cannot be copied, because TFP cannot copy a part of its bijector, such as `tfb.Invert`: {said}. '
      'Make the flow by a function with the decorator `builder`, and use `with_dtype` instead.'
    ) from error


def copy_prior(part: Any, memo: dict) -> Any:
  """Copies a prior and its variables. TFP cannot copy `Sample` and others as a whole, wherever they are in it."""
  if isinstance(part, list | tuple | dict):
    return tf.nest.map_structure(lambda each: copy_prior(each, memo), part)
  if not isinstance(part, tfp.distributions.Distribution) or hasattr(part, '__deepcopy__'):
    return copy.deepcopy(part, memo)
  if not part.variables:
    return part
  other = type(part)(**{name: copy_prior(value, memo) for name, value in part.parameters.items()})
  for variable, value in zip(other.variables, part.variables, strict=True):  # It may have made them itself.
    variable.assign(value)
  return other


def fix_shapes(bijector: tfp.bijectors.Bijector) -> None:
  """Lets `tfb.Glow` take batches of unknown size.

  It reshapes to int64 shapes, which TFP would join to the int32 shape of such a batch.
  """
  for part in bijector.submodules:
    if isinstance(part, tfp.bijectors.Reshape) and part._event_shape_in.dtype == tf.int64:
      shapes = (part._event_shape_in, part._event_shape_out)
      part._event_shape_in, part._event_shape_out = (tf.cast(shape, tf.int32) for shape in shapes)
