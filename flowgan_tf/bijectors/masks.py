"""Masks that divide an event into a part that a coupling keeps and a part that it changes.

A mask does three things for a coupling. It splits the event into two parts, merges them again, and says which entries
of a conditioner's output count. If the parts are plain slices (even/odd, channel), the mask handles them as slices, so
that the first and last layers of a conditioner do half the work. Checkerboard, row and column masks keep the shape of
the image, with zeros in place of the other part, because networks need to see an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from flowgan_tf.base.errors import UsageError, check, check_integer
from flowgan_tf.bijectors.base import check_event_shape

__all__ = ['BinaryMask', 'HalvesMask', 'Mask', 'channel', 'checkerboard', 'columns', 'even_odd', 'lattice', 'rows']


class Mask:
  """Base of masks over events of a fixed shape.

  Attributes:
    event_shape: Shape of the event that the mask divides.
    kept_shape: Shape of the part that passes unchanged and that the conditioner sees.
    changed_shape: Shape of the part that the coupling changes.
  """

  def __init__(self, event_shape: Sequence[int], kept_shape: Sequence[int], changed_shape: Sequence[int]):
    self.event_shape, self.kept_shape, self.changed_shape = map(tuple, (event_shape, kept_shape, changed_shape))

  def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits `x` of shape `[..., *event_shape]` into its kept and its changed part."""
    raise NotImplementedError

  def merge(self, kept: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
    """Puts the two parts together again: the inverse of `split`."""
    raise NotImplementedError

  def __invert__(self) -> Mask:
    """Returns the mask `~mask`, which keeps what `mask` changes."""
    raise NotImplementedError

  def restrict(self, h: tf.Tensor) -> tf.Tensor:
    """Sets to zero the entries of `h`, of shape `[..., *changed_shape]`, that belong to the kept part."""
    raise NotImplementedError


class BinaryMask(Mask):
  """A mask given by an array of ones (kept) and zeros (changed). Both parts have the shape of the event."""

  def __init__(self, ones: np.ndarray):
    """Builds the mask from an array of the event's shape; raises a UsageError unless it holds both 0 and 1."""
    ones = np.asarray(ones)
    if set(np.unique(ones)) != {0, 1}:
      raise UsageError(f'`mask` must hold both zeros and ones, and nothing else. Got: {np.unique(ones)[:5]}.', 'mask')
    super().__init__(ones.shape, ones.shape, ones.shape)
    self._ones = ones.astype(np.float32)

  def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    check_event_shape(x, self.event_shape, 'The mask')
    ones = tf.cast(self._ones, x.dtype)
    return ones * x, (1 - ones) * x

  def merge(self, kept: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
    return kept + changed

  def __invert__(self):
    return BinaryMask(1 - self._ones)

  def restrict(self, h: tf.Tensor) -> tf.Tensor:
    return (1 - tf.cast(self._ones, h.dtype)) * h


class HalvesMask(Mask):
  """A mask whose parts are slices of the last axis: its even and odd entries, or its first and second half."""

  def __init__(self, event_shape: int | Sequence[int], interleaved: bool, swap: bool):
    """Builds the mask; with `swap` the second part is kept instead of the first."""
    *front, size = event_shape = tuple(tf.TensorShape(event_shape))
    name = 'even_odd' if interleaved else 'channel'
    expected = f'a shape with at least 2 entries in its last axis, which `{name}` divides; `tfb.Reshape` makes vectors'
    check('event_shape', event_shape, expected, size >= 2)
    sizes = ((size + 1) // 2, size // 2)
    kept, changed = sizes[::-1] if swap else sizes
    super().__init__(event_shape, (*front, kept), (*front, changed))
    self._interleaved, self._swap = interleaved, swap

  def split(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    check_event_shape(x, self.event_shape, 'The mask')
    if self._interleaved:
      parts = x[..., 0::2], x[..., 1::2]
    else:
      middle = (self.event_shape[-1] + 1) // 2
      parts = x[..., :middle], x[..., middle:]
    return parts[::-1] if self._swap else parts

  def merge(self, kept: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
    first, second = (changed, kept) if self._swap else (kept, changed)
    if not self._interleaved:
      return tf.concat([first, second], axis=-1)
    pairs = self.event_shape[-1] // 2
    stacked = tf.stack([first[..., :pairs], second], axis=-1)
    woven = tf.reshape(stacked, tf.concat([tf.shape(second)[:-1], [2 * pairs]], axis=0))
    return tf.concat([woven, first[..., pairs:]], axis=-1) if self.event_shape[-1] % 2 else woven

  def __invert__(self):
    return HalvesMask(self.event_shape, self._interleaved, not self._swap)

  def restrict(self, h: tf.Tensor) -> tf.Tensor:
    return h


def even_odd(event_shape: int | Sequence[int], swap: bool = False) -> Mask:
  """Keeps the even entries of the last axis (0, 2, ...), or the odd ones if `swap`, as NICE does."""
  return HalvesMask(event_shape, interleaved=True, swap=swap)


def channel(event_shape: Sequence[int], swap: bool = False) -> Mask:
  """Keeps the first half of the channels, or the second half if `swap` (Dinh et al. 2017, section 3.4)."""
  return HalvesMask(event_shape, interleaved=False, swap=swap)


def checkerboard(event_shape: Sequence[int], swap: bool = False, size: int = 1) -> Mask:
  """Keeps the squares of a checkerboard whose row and column add up to an odd number, or to an even one if `swap`.

  A square has `size` x `size` pixels of an image `(height, width, channels)`. Dinh et al. 2017, section 3.4, use
  squares of one pixel.

  Raises:
    UsageError: If the image fits into one square.
  """
  check_integer('size', size, 1)
  return _pixels(event_shape, lambda row, column: row // size + column // size, swap)


def rows(event_shape: Sequence[int], swap: bool = False) -> Mask:
  """Keeps the odd rows of images `(height, width, channels)` (1, 3, ...), or the even ones if `swap`."""
  return _pixels(event_shape, lambda row, column: row, swap)


def columns(event_shape: Sequence[int], swap: bool = False) -> Mask:
  """Keeps the odd columns of images `(height, width, channels)` (1, 3, ...), or the even ones if `swap`."""
  return _pixels(event_shape, lambda row, column: column, swap)


def lattice(event_shape: Sequence[int], size: int, swap: bool = False) -> Mask:
  """Keeps the pixels of images `(height, width, channels)` off a lattice, or the pixels on it if `swap`.

  The rows and columns of the lattice are multiples of `size`. It has one pixel of each block of `size` x `size` pixels.
  """
  check_integer('size', size, 2)
  return _pixels(event_shape, lambda row, column: 1 * (row % size + column % size > 0), swap)


def _pixels(event_shape: Sequence[int], number: Callable, swap: bool) -> Mask:
  """Keeps all channels of the pixels whose number, a function of row and column, is odd, or even if `swap`."""
  check('event_shape', event_shape, '(height, width, channels)', len(event_shape) == 3)
  row, column, _ = np.indices(tuple(event_shape))
  return BinaryMask((number(row, column) + swap) % 2)
