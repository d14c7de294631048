"""Checks of images, noise, conditions and classes that a generator gets."""

from __future__ import annotations

import math

import numpy as np

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.lazy import tf

# How a user turns grey levels into images.
DEQUANTIZE = '`flowgan_tf.data.dequantize` turns grey levels into such images'

# What is said to a user whose images all have exact grey levels.
NOT_DEQUANTIZED = (
  'all images have exact grey levels, and a density of such images can grow without bound; add noise to them by '
  '`fg.data.dequantize(grey_levels, levels, seed)`, where grey levels are integers from 0 to levels - 1'
)


def check_events(
  name: str, value: tf.Tensor | np.ndarray, event_shape: tf.TensorShape, batch: str = '...', dtype: tf.DType = None
) -> None:
  """Checks for a batch of images or of their noise, which TFP would cast and broadcast silently.

  `batch` is '...' for any number of batch dimensions, or the name of the only one. Without a `dtype`, any
  floating-point type is accepted.
  """
  found, shape = tf.as_dtype(value.dtype), tf.TensorShape(value.shape)
  suits = found.is_floating if dtype is None else found == dtype
  if suits and shape.rank is not None and event_shape.rank is not None:
    ndims = shape.rank - event_shape.rank
    suits = (ndims >= 0 if batch == '...' else ndims == 1) and shape[ndims:].is_compatible_with(event_shape)
  if not suits:
    expected = f'{dtype.name if dtype else "floats"} of shape [{", ".join([batch, *map(str, event_shape)])}]'
    is_image = event_shape.rank == 3 and name in ('images', 'value')
    hint = f'; {DEQUANTIZE}' if found.is_integer and is_image else ''
    raise UsageError(f'`{name}` must be {expected}{hint}. Got: {found.name} of shape {shape}.', name)


def as_indices(name: str, value: tf.Tensor, count: int) -> tf.Tensor:
  """Converts ints from 0 to `count - 1` to int32, and rejects others; a compiled function sees only their dtype."""
  indices = tf.convert_to_tensor(value)
  known = tf.get_static_value(indices) if indices.dtype.is_integer else None
  wrong = np.setdiff1d([] if known is None else known, np.arange(count))
  if len(wrong) or not indices.dtype.is_integer:
    found = ', '.join(map(str, wrong)) or indices.dtype.name
    raise UsageError(f'`{name}` must be ints from 0 to {count - 1}. Got: {found}.', name)
  return tf.cast(indices, tf.int32)


def check_values(images: np.ndarray) -> None:
  """Checks for values in [0, 1]; a UsageError names the smallest and the largest value."""
  low, high = float(np.min(images, initial=math.inf)), float(np.max(images, initial=-math.inf))
  if not (low >= 0 and high <= 1):
    raise UsageError(f'`images` must have values in [0, 1]; {DEQUANTIZE}. Got: {low:g} to {high:g}.', 'images')


def on_grey_levels(images: np.ndarray, levels: int | None = None) -> np.ndarray:
  """Returns for each image whether all its values are `k / 255`, `k / 256` or, with `levels`, such fractions of them.

  Noise would have moved the values. An image is exact if they differ from fractions by no more than float32 rounds.
  """
  flat = np.asarray(images).reshape(len(images), -1).astype(np.float64)
  exact = np.zeros(len(flat), bool)
  for count in {255, 256, *([levels - 1, levels] if levels else [])}:
    scaled = count * flat
    exact |= (np.abs(scaled - np.round(scaled)) <= count * np.finfo(np.float32).eps).all(axis=1)
  return exact
