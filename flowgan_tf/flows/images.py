"""Checks of what is given to a flow as images."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from flowgan_tf.errors import UsageError

__all__ = ['DEQUANTIZE', 'check_events', 'check_values']

# How a user makes images out of grey levels.
DEQUANTIZE = 'grey levels become such images by `flowgan_tf.data.dequantize`'


def check_events(
  name: str, value: tf.Tensor | np.ndarray, event_shape: tf.TensorShape, batch: str = '...', dtype: tf.DType = None
) -> None:
  """Checks for a batch of images or of their noise, which TFP would cast and broadcast silently.

  Args:
    name: Name of the argument.
    value: A tensor or array.
    event_shape: Shape of one image.
    batch: '...' for any number of batch dimensions, or the name of the only one.
    dtype: The only dtype that is right; None means any floating-point type.

  Raises:
    UsageError: If the dtype or the static shape of `value` is wrong.
  """
  given, shape = tf.as_dtype(value.dtype), tf.TensorShape(value.shape)
  suits = given.is_floating if dtype is None else given == dtype
  if suits and shape.rank is not None and event_shape.rank is not None:
    ndims = shape.rank - event_shape.rank
    suits = (ndims >= 0 if batch == '...' else ndims == 1) and shape[ndims:].is_compatible_with(event_shape)
  if not suits:
    expected = f'{dtype.name if dtype else "floats"} of shape [{", ".join([batch, *map(str, event_shape)])}]'
    hint = f'; {DEQUANTIZE}' if given.is_integer and name != 'noise' else ''
    raise UsageError(f'`{name}` must be {expected}{hint}. Got: {given.name} of shape {shape}.', name)


def check_values(images: np.ndarray) -> None:
  """Checks for values in [0, 1]; a UsageError says the smallest and the largest one."""
  low, high = float(np.min(images, initial=math.inf)), float(np.max(images, initial=-math.inf))
  if not (low >= 0 and high <= 1):
    raise UsageError(f'`images` must have values in [0, 1]; {DEQUANTIZE}. Got: {low:g} to {high:g}.', 'images')
