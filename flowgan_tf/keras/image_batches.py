"""The data of a flow in Keras: what is refused before the first step, and in a step."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = ['check_data', 'check_values', 'readable_errors', 'to_images', 'to_labels']

_HINT = 'grey levels become such images by `flowgan_tf.data.dequantize`'
_VALUES = f'`images` must have values in [0, 1]; {_HINT}'


def check_data(x: Any, event_shape: Sequence[int], values: bool) -> None:
  """Checks arrays and datasets before anything is traced. Data of another kind are seen in the steps alone.

  Args:
    x: Data as `fit` takes them.
    event_shape: Shape of one image.
    values: Whether the numbers of an array must lie in [0, 1].

  Raises:
    ValueError: If `x` is not a batch of images of that shape, or has a value outside [0, 1].
  """
  if isinstance(x, tf.data.Dataset):
    _check_images(keras.utils.unpack_x_y_sample_weight(x.element_spec)[0], event_shape)
  elif _is_array(x):
    _check_images(x, event_shape)
    if values:
      _check_range(np.asarray(x))


def to_images(x: Any, event_shape: Sequence[int]) -> tf.Tensor:
  """Returns what a step is given, with its shape, which TensorFlow may have forgotten between two traces.

  Raises:
    ValueError: If `x` is not a batch of images of that shape.
  """
  _check_images(x, event_shape)
  return tf.ensure_shape(x, (None, *event_shape))


def check_values(images: tf.Tensor) -> tf.Tensor:
  """Returns the images, or fails in the step before they are used. XLA leaves the check out.

  Raises:
    ValueError: If a value lies outside [0, 1], in eager mode. `readable_errors` makes the same of the error of a graph.
  """
  if tf.executing_eagerly():
    _check_range(images.numpy())
    return images
  # TensorFlow's minimum may pass over a NaN.
  inside = tf.reduce_all(tf.logical_and(images >= 0, images <= 1))
  found = [tf.reduce_min(images), tf.reduce_max(images)]
  with tf.control_dependencies([tf.debugging.Assert(inside, [_VALUES, *found])]):
    return tf.identity(images)


def to_labels(x: Any, y: Any, sample_weight: Any) -> Any:
  """Returns labels for weights that come without: Keras would drop the weights."""
  return np.zeros(len(x)) if y is None and sample_weight is not None and _is_array(x) else y


@contextmanager
def readable_errors(event_shape: Sequence[int]) -> Iterator[None]:
  """Raises the errors that the checks of a graph have raised as the ValueErrors of eager mode."""
  try:
    yield
  except tf.errors.InvalidArgumentError as error:
    if found := re.search(rf'\[{re.escape(_VALUES)}\] \[(\S+)\] \[(\S+)\]', error.message):
      raise ValueError(f'{_VALUES}. Got: {found[1]} to {found[2]}.') from None
    expected = re.escape(f'is not compatible with expected shape [{",".join(["?", *map(str, event_shape)])}]')
    if found := re.search(rf'Shape of tensor .* \[([\d,]*)\] {expected}', error.message):
      raise ValueError(f'{_expected(event_shape)}. Got: ({found[1].replace(",", ", ")}).') from None
    raise


def _is_array(x: Any) -> bool:
  return hasattr(x, 'shape') and hasattr(x, 'dtype')


def _expected(event_shape: Sequence[int]) -> str:
  return f'`images` must be of a floating-point dtype and shape [{", ".join(["batch", *map(str, event_shape)])}]'


def _check_images(x: Any, event_shape: Sequence[int]) -> None:
  if not _is_array(x):
    found = f'a dict with {", ".join(map(repr, x))}' if isinstance(x, dict) else type(x).__name__
    raise ValueError(f'Batches must be images, (images, labels) or (images, labels, weights). Got: {found}.')
  dtype, shape = tf.as_dtype(x.dtype), tf.TensorShape(x.shape)
  if not (dtype.is_floating and shape.is_compatible_with((None, *event_shape))):
    hint = f'; {_HINT}' if dtype.is_integer else ''
    raise ValueError(f'{_expected(event_shape)}{hint}. Got: {dtype.name} and {shape}.')


def _check_range(images: np.ndarray) -> None:
  low, high = float(np.min(images, initial=math.inf)), float(np.max(images, initial=-math.inf))
  if not (low >= 0 and high <= 1):
    raise ValueError(f'{_VALUES}. Got: {low:g} to {high:g}.')
