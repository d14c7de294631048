"""Keras 3 layers inside the tf.Module world of TensorFlow Probability."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

__all__ = ['KerasModule', 'as_conditioner']


class KerasModule(tf.Module):
  """A built Keras layer whose variables TFP, checkpoints and SavedModels can see.

  TFP finds `tf.Variable`s through `tf.Module`. A Keras 3 layer is not a `tf.Module`, and its variables are
  `keras.Variable`s, so a bijector that holds one as an attribute would report no trainable variables, without an error.
  This adapter builds the layer at once and tracks the `tf.Variable` behind each of its variables exactly once.

  The output is cast to the dtype of the input, so that a bfloat16 or float16 network hands float32 numbers to the
  arithmetic of a float32 bijector.
  """

  def __init__(self, layer: keras.Layer, input_shape: Sequence[int], name: str | None = None):
    """Builds `layer` and tracks its variables.

    Args:
      layer: Keras layer or model that maps `[batch, *input_shape]` to `[batch, *output_event_shape]`.
      input_shape: Shape of one input, without the batch dimension.
      name: Name of the module.

    Raises:
      ValueError: If `layer` has no trainable variables once it is built.
    """
    super().__init__(name=name)
    self._input_shape = tuple(input_shape)
    with tf.init_scope():
      if isinstance(layer, keras.Sequential) and not layer.built:
        # The call below would give the model a batch size of 1, which it would keep when saved, loaded and exported.
        layer.build((None, *self._input_shape))
      output = layer(tf.zeros((1, *self._input_shape), layer.compute_dtype), training=False)
    if not layer.trainable_variables:
      raise ValueError(
        f'`layer` must be trainable, but has no trainable variables once it is built. Got: {layer.name}.'
      )
    self._output_event_shape = tuple(output.shape[1:])
    # The layer is kept out of the object graph, or its variables would be tracked a second time.
    self._layer = self._no_dependency(layer)
    # A checkpoint relies on the keys, such as '000_kernel'. They start with an index because Keras' names repeat. With
    # Keras' paths as keys, the running statistics of batch norms would not be restored.
    self._tf_variables = {f'{i:03d}_{v.name}': v.value for i, v in enumerate(layer.variables)}

  @property
  def layer(self) -> keras.Layer:
    """The Keras layer."""
    return self._layer

  @property
  def output_event_shape(self) -> tuple[int, ...]:
    """Shape of one output, without batch dimensions. (Keras' `output_shape` has one.)"""
    return self._output_event_shape

  def __call__(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Applies the layer.

    Args:
      x: Tensor of shape `[..., *input_shape]`, with any number of batch dimensions, or none.
      training: Passed on to the layer.

    Returns:
      Tensor of shape `[..., *output_event_shape]` and of the dtype of `x`.
    """
    event_ndims = len(self._input_shape)
    if x.shape.rank == event_ndims + 1:
      return tf.cast(self._layer(x, training=training), x.dtype)
    flat = self._layer(tf.reshape(x, (-1, *self._input_shape)), training=training)
    batch_shape = tf.shape(x)[: tf.rank(x) - event_ndims]
    return tf.cast(tf.reshape(flat, tf.concat([batch_shape, self._output_event_shape], axis=0)), x.dtype)


def as_conditioner(
  network: keras.Layer | tf.Module, input_shape: Sequence[int], output_shape: Sequence[int]
) -> Callable:
  """Returns `network` as a module that a bijector may hold, and refuses one that could not be trained.

  Args:
    network: Keras layer, or a `tf.Module` that is callable as `network(x, training=...)` and has created its
      variables.
    input_shape: Shape of one input of the network, without batch dimensions.
    output_shape: Shape that one output must have, without batch dimensions.

  Returns:
    A callable `tf.Module`: a `KerasModule` around a Keras layer, and any other module unchanged.

  Raises:
    ValueError: If `network` is neither a Keras layer nor a callable module, has no trainable variables, or is a Keras
      layer that returns another shape.
  """
  if isinstance(network, keras.Layer):
    network = KerasModule(network, input_shape)
  elif not (isinstance(network, tf.Module) and callable(network)):
    raise ValueError(
      f'`conditioner` must be a Keras layer or a callable tf.Module, whose variables can be trained. Got: {network!r}.'
    )
  elif not network.trainable_variables:
    raise ValueError(f'`conditioner` must be trainable, but has no trainable variables. Got: {network!r}.')
  if isinstance(network, KerasModule) and network.output_event_shape != tuple(output_shape):
    raise ValueError(
      f'`conditioner` must return shape {tuple(output_shape)} per event. Got: {network.output_event_shape}.'
    )
  return network
