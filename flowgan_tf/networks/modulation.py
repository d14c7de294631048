"""How a condition enters a network: it scales and shifts features, or it is one more image beside the input."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from flowgan_tf.base.errors import check
from flowgan_tf.networks.layers import Dense


def split_inputs(inputs):
  """Returns the input of a network and its condition, which is None unless the inputs are a list `[x, condition]`."""
  is_pair = isinstance(inputs, list | tuple) and not isinstance(inputs[0], int | None)  # A shape is a tuple, too.
  return inputs if is_pair else (inputs, None)


def is_image(shape: Sequence[int | None] | tf.TensorShape | None) -> bool:
  """Whether conditions of shape `[batch, ...]` are images, and not vectors."""
  return shape is not None and len(shape) == 4


def joined(inputs):
  """Returns the input of a network, with an image as condition `beside` it, and the condition if it is a vector."""
  x, condition = split_inputs(inputs)
  return (beside(x, condition), None) if condition is not None and is_image(condition.shape) else (x, condition)


def joined_shapes(shapes):
  """The shapes of what `joined` returns, from the shapes `[batch, ...]` of its inputs."""
  shape, condition_shape = split_inputs(shapes)
  if not is_image(condition_shape):
    return shape, condition_shape
  added = condition_shape[-1] if len(shape) == 4 else tf.TensorShape(condition_shape[1:]).num_elements()
  return (*shape[:-1], shape[-1] + added), None


def beside(x: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
  """Resizes images `condition` to the height and width of `x`, and appends them to its channels.

  Larger images become smaller by means over blocks where whole blocks fit, and otherwise all are resized bilinearly. To
  vectors `x` it appends all pixels.
  """
  if len(x.shape) == 2:
    return ops.concatenate([x, ops.reshape(condition, (-1, condition.shape[1:].num_elements()))], axis=-1)
  sizes = list(zip(condition.shape[1:3], x.shape[1:3], strict=True))
  if all(size % wanted == 0 for size, wanted in sizes):  # Bilinearly, most of the pixels would not count.
    block = tuple(size // wanted for size, wanted in sizes)
    condition = ops.average_pool(condition, block, block, data_format='channels_last')
  else:
    condition = ops.image.resize(condition, x.shape[1:3], 'bilinear', data_format='channels_last')
  return ops.concatenate([x, ops.cast(condition, x.dtype)], axis=-1)


@keras.saving.register_keras_serializable(package='flowgan_tf')
class Modulation(keras.layers.Layer):
  """FiLM: scales and shifts features by affine functions of a condition, which are zero until they are trained.

  ```none
  y = x (1 + c A + a) + c B + b
  ```

  The layer maps a list: features `[batch, ..., features]` and vectors `[batch, d]`. It returns features that come
  without a condition as they are.

  Source: Ethan Perez, Florian Strub, Harm de Vries, Vincent Dumoulin, Aaron Courville. FiLM: Visual Reasoning with a
  General Conditioning Layer. AAAI 2018.
  """

  def build(self, input_shape):
    shape, condition_shape = split_inputs(input_shape)
    if condition_shape is not None:
      self._dense = Dense(2 * shape[-1], kernel_initializer='zeros', dtype=self.dtype_policy)
      self._dense.build(condition_shape)

  def call(self, inputs):
    x, condition = split_inputs(inputs)
    if condition is None:
      return x
    check('condition', 'one', 'None, as in the first call of the network', hasattr(self, '_dense'))
    modulation = self._dense(condition)
    scale, shift = ops.split(ops.reshape(modulation, (-1, *[1] * (len(x.shape) - 2), 2 * x.shape[-1])), 2, axis=-1)
    return x * (1 + scale) + shift


@keras.saving.register_keras_serializable(package='flowgan_tf')
class ConditionalSequential(keras.layers.Layer):
  """Layers one after another, as in `keras.Sequential`; each `Modulation` among them sees the condition, too.

  The layer maps features, or a list of features and conditions. Images as conditions go `beside` the features.
  """

  def __init__(self, layers: list[keras.layers.Layer], **kwargs: Any):
    """Builds the sequence."""
    super().__init__(**kwargs)
    self._parts = list(layers)

  def build(self, input_shape):
    shape, condition_shape = joined_shapes(input_shape)
    for layer in self._parts:
      if not layer.built:  # Keras has built the layers of a sequence that it makes from a configuration.
        sees = isinstance(layer, Modulation) and condition_shape is not None
        layer.build([shape, condition_shape] if sees else shape)
      if not isinstance(layer, Modulation):
        shape = layer.compute_output_shape(shape)

  def call(self, inputs, training=False):
    x, condition = joined(inputs)
    for layer in self._parts:
      if isinstance(layer, Modulation):
        x = layer(x if condition is None else [x, condition])
      else:
        x = layer(x, training=training)
    return x

  def get_config(self):
    return super().get_config() | {'layers': [keras.saving.serialize_keras_object(layer) for layer in self._parts]}

  @classmethod
  def from_config(cls, config):
    layers = [keras.saving.deserialize_keras_object(layer) for layer in config.pop('layers')]
    return cls(layers, **config)
