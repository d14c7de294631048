"""Checks of the shape of events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import tensorflow as tf

from flowgan_tf.errors import check, is_integer

__all__ = ['as_event_shape', 'check_event_shape']


def as_event_shape(
  event_shape: Sequence[int],
  expected: str = 'one or more integers of at least 1',
  holds: Callable[[tuple[int, ...]], bool] = bool,
) -> tuple[int, ...]:
  """Returns the argument `event_shape` as a tuple of integers.

  Args:
    event_shape: Integers of at least 1.
    expected: What they must be, used in the message.
    holds: What the tuple must satisfy; that it is not empty unless given.

  Raises:
    ValueError: If `event_shape` holds anything but integers of at least 1, or does not satisfy `holds`.
  """
  sizes = tuple(event_shape) if isinstance(event_shape, Iterable) else None
  are_sizes = sizes is not None and all(is_integer(size) and size >= 1 for size in sizes)
  check('event_shape', event_shape, expected, are_sizes and holds(sizes))
  return tuple(int(size) for size in sizes)


def check_event_shape(x: tf.Tensor, event_shape: Sequence[int], owner: str) -> None:
  """Refuses a tensor whose shape does not end in `event_shape`, as it might broadcast and give a wrong log-det.

  Args:
    x: A tensor `[..., *event_shape]`. Unknown dimensions are accepted.
    event_shape: The shape of an event.
    owner: Name of what expects the events, used in the message.

  Raises:
    ValueError: If the shape of `x` does not end in `event_shape`.
  """
  rank, event_ndims = x.shape.rank, len(event_shape)
  if rank is not None and (rank < event_ndims or not x.shape[rank - event_ndims :].is_compatible_with(event_shape)):
    raise ValueError(f'{owner} expects events of shape {tuple(event_shape)}. Got: input of shape {x.shape}.')
