"""What the builders of generators have in common.

A builder takes the shape of an image and keywords with defaults, among them `dtype` and `name`. For a
wrong argument it raises a ValueError that names it in backticks. The keywords other than `dtype` and `name` become
settings of a training, with their names and defaults.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence, Sized
from typing import TypeVar

import tensorflow as tf

from flowgan_tf.arguments import check, check_choice, check_integers

__all__ = ['builder', 'check_common', 'rebuild']

_DTYPES = ('float32', 'float64', 'mixed_bfloat16', 'mixed_float16')

T = TypeVar('T')


def builder(build: Callable[..., T]) -> Callable[..., T]:
  """Decorates a function that builds generators: checks `image_shape` and `dtype`, and makes `rebuild` work.

  ```python
  @builder
  def toy(image_shape, *, couplings=2, dtype='float32', name='toy'):
    ...
    return Flow(prior, bijector, name)
  ```
  """

  @functools.wraps(build)
  def checked(image_shape: Sequence[int], **arguments) -> T:
    check_common(image_shape, arguments.get('dtype', 'float32'))
    generator = build(image_shape, **arguments)
    generator._build = functools.partial(checked, image_shape, **arguments)
    return generator

  return checked


def check_common(image_shape: Sequence[int], dtype: str) -> None:
  """Checks the two arguments that builders of generators and of critics share.

  Raises:
    ValueError: If `image_shape` is not `(height, width, channels)`, or `dtype` is not a supported dtype policy.
  """
  check(
    'image_shape', image_shape, '(height, width, channels)', isinstance(image_shape, Sized) and len(image_shape) == 3
  )
  check_integers('image_shape', tuple(image_shape))
  check_choice('dtype', dtype, _DTYPES)


def rebuild(generator: T, dtype: str) -> T:
  """Copies a generator, with the same weights, in another dtype.

  Args:
    generator: A generator that a builder returned.
    dtype: Name of a Keras dtype policy.

  Raises:
    ValueError: If `generator` does not come from a builder.
  """
  if not hasattr(generator, '_build'):
    raise ValueError(f'`generator` must come from a function decorated with `builder`. Got: {generator.name!r}.')
  copy = generator._build(dtype=dtype, name=generator.name)
  for variable, source in zip(copy.variables, generator.variables, strict=True):
    variable.assign(tf.cast(source, variable.dtype))
  return copy
