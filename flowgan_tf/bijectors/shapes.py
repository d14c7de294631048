"""A check of the shape of events."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

__all__ = ['check_event_shape']


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
