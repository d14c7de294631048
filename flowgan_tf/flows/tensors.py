"""Shapes that stay static where they are known, and variables that stay variables.

A shape here is a `tf.TensorShape` if it is known, and otherwise an int32 vector.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from flowgan_tf.base.errors import check


def variable_or_tensor(value: Any, dtype: tf.DType | None = None) -> Any:
  """Returns a variable, a `tfp.util.DeferredTensor` or None as it is, and converts anything else to a tensor."""
  if value is None or isinstance(value, tf.Variable | tf.Module):
    return value
  return tf.convert_to_tensor(value, dtype)


def as_shape(value: int | Sequence[int] | tf.Tensor) -> tf.TensorShape | tf.Tensor:
  """Converts the shape of samples, which may be a single number."""
  # TensorFlow would take True for 1, and NumPy's 2.5 for 2.
  found = tf.convert_to_tensor(value)
  check('sample_shape', value, 'an integer, or several', found.dtype.is_integer or found.shape == (0,))
  value = tf.cast(found, tf.int32)
  known = tf.get_static_value(value)
  return tf.reshape(value, [-1]) if known is None else tf.TensorShape(np.ravel(known))


def divided_shape(tensor: tf.Tensor, event_ndims: int) -> list[tf.TensorShape | tf.Tensor]:
  """Returns the batch shape and the event shape of a tensor."""
  shape, rank = tensor.shape, tensor.shape.rank
  split = (tf.rank(tensor) if rank is None else rank) - event_ndims
  parts = slice(split), slice(split, None)
  return [shape[p] if rank is not None and shape[p].is_fully_defined() else tf.shape(tensor)[p] for p in parts]


def broadcast_shape(
  first: tf.TensorShape | tf.Tensor, second: tf.TensorShape | tf.Tensor
) -> tf.TensorShape | tf.Tensor:
  """Returns the shape of a broadcast, or raises a ValueError if the known shapes do not suit each other."""
  known = isinstance(first, tf.TensorShape) and isinstance(second, tf.TensorShape)
  return tf.broadcast_static_shape(first, second) if known else tf.broadcast_dynamic_shape(first, second)


def broadcast_batch(tensor: tf.Tensor, batch_shape: tf.TensorShape | tf.Tensor, event_ndims: int) -> tf.Tensor:
  """Gives a tensor a batch shape, and returns one that has it as it is, so that TFP's cache knows it again."""
  found, event_shape = divided_shape(tensor, event_ndims)
  if isinstance(found, tf.TensorShape) and isinstance(batch_shape, tf.TensorShape) and found == batch_shape:
    return tensor
  return tf.broadcast_to(tensor, tf.concat([batch_shape, event_shape], axis=0))
