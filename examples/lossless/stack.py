"""A stack of bits, onto which integers are pushed by their probabilities, and from which they are popped.

Pushing an integer of probability P adds -log2 P bits. Popping one takes -log2 P bits away, and draws it with the
probability P if the bits are random. Each undoes the other: what was pushed last is popped first.
"""

from __future__ import annotations

import numpy as np
from constriction import stream
from scipy.special import expit

GRID = 2.0**-20  # An integer j stands for the number j GRID.
_EVEN = 1024  # Within so few numbers of the grid, a logistic density hardly changes.
_HALF, _CHOICE = stream.model.Bernoulli(perfect=False), stream.model.Categorical(perfect=False)


class Stack:
  """A stack of bits, coded by asymmetric numeral systems. Arrays are popped in the order in which they were pushed."""

  def __init__(self, words: np.ndarray):
    """Begins with 32-bit words, the last of which is not zero."""
    self._coder = stream.stack.AnsCoder(words)

  @property
  def words(self) -> np.ndarray:
    """All bits, as 32-bit words."""
    return self._coder.get_compressed()

  @property
  def bits(self) -> int:
    """Their number."""
    return self._coder.num_bits()

  def push(self, values: np.ndarray, sizes: np.ndarray) -> None:
    """Pushes integers from 0 to size - 1, which are all equally probable. Sizes are from 2 to 2**24 - 1."""
    values, sizes = np.broadcast_arrays(values, sizes)
    self._coder.encode_reverse(values.ravel().astype(np.int32), stream.model.Uniform(), sizes.ravel().astype(np.int32))

  def pop(self, sizes: np.ndarray) -> np.ndarray:
    """Pops what `push` has pushed."""
    sizes = np.asarray(sizes)
    return (
      self._coder.decode(stream.model.Uniform(), sizes.ravel().astype(np.int32)).reshape(sizes.shape).astype(np.int64)
    )

  def push_choice(self, values: np.ndarray, probs: np.ndarray) -> None:
    """Pushes integers `[n]` of the probabilities `[n, k]`."""
    if probs.shape[-1] > 1:
      self._coder.encode_reverse(values.astype(np.int32), _CHOICE, probs)

  def pop_choice(self, probs: np.ndarray) -> np.ndarray:
    """Pops what `push_choice` has pushed."""
    return (
      self._coder.decode(_CHOICE, probs).astype(np.int64) if probs.shape[-1] > 1 else np.zeros(len(probs), np.int64)
    )

  def push_logistic(self, values: np.ndarray, low: np.ndarray, high: np.ndarray, mean: np.ndarray) -> None:
    """Pushes integers j, low <= j < high, with the probability that a logistic number lies from j g to (j + 1) g.

    g is `GRID`.

    One bit after the other says in which half of the interval an integer lies: P(right half) = P(right) / P(both).

    Args:
      values, low, high: Integers, `[...]`.
      mean: Mean of the logistic distribution, which has the scale 1.
    """
    asked = []
    while (wide := high - low > _EVEN).any():
      middle, share = _halve(low, high, mean, wide)
      right = values >= middle
      asked.append((right[wide], share))
      low, high = np.where(wide & right, middle, low), np.where(wide & ~right, middle, high)
    several = high - low > 1
    self.push((values - low)[several], (high - low)[several])
    for right, share in reversed(asked):
      self._coder.encode_reverse(right.astype(np.int32), _HALF, share)

  def pop_logistic(self, low: np.ndarray, high: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Pops what `push_logistic` has pushed."""
    while (wide := high - low > _EVEN).any():
      middle, share = _halve(low, high, mean, wide)
      right = np.zeros(wide.shape, bool)
      right[wide] = self._coder.decode(_HALF, share)
      low, high = np.where(wide & right, middle, low), np.where(wide & ~right, middle, high)
    several, values = high - low > 1, low.copy()
    values[several] += self.pop((high - low)[several])
    return values


def _halve(low, high, mean, wide):
  """Returns the middle of each interval, and for the wide ones the share of the right half in the probability."""
  middle = (low + high) // 2
  ends = [(end * GRID - mean)[wide] for end in (low, middle, high)]
  # F(b) - F(a) = F(-a) - F(-b). The smaller numbers have more digits.
  sign = np.where(ends[0] + ends[2] > 0, -1, 1)
  first, second, third = (expit(sign * end) for end in ends)
  return middle, (third - second) / (third - first)
