"""What the builders of generators have in common.

A builder takes the shape of an image and keywords with defaults, among them `dtype` and `name`. For a
wrong argument it raises a ValueError that names it in backticks. The keywords other than `dtype` and `name` become
settings of a training, with their names and defaults.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence, Sized
from typing import TypeVar

import numpy as np
import tensorflow as tf

from flowgan_tf.errors import check, check_choice, check_integers, check_memory

__all__ = ['MOST_LAYERS', 'MOST_UNITS', 'builder', 'check_weights', 'rebuild']

# The largest sizes of a network: far more than any model has, and few enough to be refused or built.
MOST_UNITS = 65_536
MOST_LAYERS = 256

_DTYPES = ('float32', 'float64', 'mixed_bfloat16', 'mixed_float16')

T = TypeVar('T')


def builder(build: Callable[..., T]) -> Callable[..., T]:
  """Decorates a function that builds generators: checks `image_shape` and `dtype`, and makes `rebuild` work.

  The function is given `dtype` as the name of a policy, also where its caller has a dtype of NumPy or TensorFlow.

  ```python
  @builder
  def toy(image_shape, *, couplings=2, dtype='float32', name='toy'):
    ...
    return Flow(prior, bijector, name)
  ```

  Raises:
    ValueError: If the function has no keyword arguments `dtype` and `name`, or, when it is called, returns no
      generator.
  """

  keywords = inspect.signature(build).parameters.values()
  names = {
    keyword.name for keyword in keywords if keyword.kind in (keyword.POSITIONAL_OR_KEYWORD, keyword.KEYWORD_ONLY)
  }
  if not {'dtype', 'name'} <= names and not any(keyword.kind == keyword.VAR_KEYWORD for keyword in keywords):
    raise ValueError(
      f'`build` must have the keyword arguments `dtype` and `name`. Got: {build.__name__}{inspect.signature(build)}.'
    )

  @functools.wraps(build)
  def checked(image_shape: Sequence[int], **arguments) -> T:
    dtype = _check_common(image_shape, arguments.get('dtype', 'float32'))
    if 'dtype' in arguments:
      arguments['dtype'] = dtype
    generator = build(image_shape, **arguments)
    if not isinstance(generator, tf.Module):
      raise ValueError(f'`{build.__name__}` must return a generator. Got: {generator!r}.')
    generator._build = functools.partial(checked, image_shape, **arguments)
    return generator

  return checked


def _check_common(image_shape: Sequence[int], dtype: str | tf.DType | np.dtype | type) -> str:
  """Checks the two arguments that builders of generators and of critics share.

  Args:
    image_shape: `(height, width, channels)`.
    dtype: Name of a Keras dtype policy, or a dtype of NumPy or TensorFlow, such as `np.float64`.

  Returns:
    The name of the dtype policy.

  Raises:
    ValueError: If `image_shape` is not `(height, width, channels)`, or `dtype` is not a supported dtype policy.
  """
  check(
    'image_shape', image_shape, '(height, width, channels)', isinstance(image_shape, Sized) and len(image_shape) == 3
  )
  check_integers('image_shape', tuple(image_shape))
  # Not all that TensorFlow takes for a dtype: to it 1 is float32, and so is Python's float, which is NumPy's float64.
  is_dtype = isinstance(dtype, tf.DType | np.dtype) or (isinstance(dtype, type) and issubclass(dtype, np.generic))
  policy = tf.as_dtype(dtype).name if is_dtype else dtype
  check_choice('dtype', policy, _DTYPES)
  return policy


def check_weights(count: int) -> None:
  """Checks, before networks are built, that so many weights fit into memory, in float32.

  Args:
    count: Number of weights, or a lower bound of it.

  Raises:
    UsageError: If they do not.
  """
  check_memory('weights', 4 * count)


def rebuild(generator: T, dtype: str) -> T:
  """Copies a generator, with the same weights, in another dtype.

  Args:
    generator: A generator that a builder returned.
    dtype: Name of a Keras dtype policy, or a dtype of NumPy or TensorFlow.

  Raises:
    ValueError: If `generator` does not come from a builder.
  """
  if not hasattr(generator, '_build'):
    raise ValueError(f'`generator` must come from a function decorated with `builder`. Got: {generator.name!r}.')
  copy = generator._build(dtype=dtype, name=generator.name)
  for variable, source in zip(copy.variables, generator.variables, strict=True):
    variable.assign(tf.cast(source, variable.dtype))
  return copy
