"""What rounding explains, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgan_tf.checks.finding import Finding

ROUNDINGS = 30  # that an error may be larger than the effect of one rounding
_LOST = 0.01  # share of values that may not come back


def rounded(values: npt.ArrayLike) -> np.ndarray:
  """Moves values at random by up to one rounding."""
  array = np.asarray(values)
  signs = np.random.default_rng(0).uniform(-1, 1, array.shape)
  return array * (1 + signs * np.finfo(array.dtype).eps).astype(array.dtype)


def root_eps(dtype: npt.DTypeLike) -> float:
  """The square root of the precision of a type: what rounding errors rarely reach, and mistakes exceed."""
  return float(np.sqrt(np.finfo(dtype).eps))


def per_value(array: np.ndarray) -> np.ndarray:
  """The largest number of each value, `[n]`."""
  return array.reshape(len(array), -1).max(axis=1)


def round_trip_with_allowed(there: Callable, back: Callable, values: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """Returns how far each value comes back from where it was, relative to `1 + |x|`, and how far it may, both `[n]`.

  Rounding errors grow on the way, by far more in a steep flow. So we allow the square root of the precision, and some
  times as much as a rounding of the values in the middle moves the result.
  """
  middle, array = np.asarray(there(values)), np.asarray(values)
  returned = np.asarray(back(middle), np.float64)
  moved = np.asarray(back(rounded(middle)), np.float64) - returned
  x = array.astype(np.float64)
  error, change = (per_value(np.abs(difference) / (1 + np.abs(x))) for difference in (returned - x, moved))
  return error, root_eps(array.dtype) + ROUNDINGS * change


def log_prob_with_allowed(log_prob: Callable, values: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """Returns log-densities of values `[n, ...]`, and the errors that rounding explains, both `[n]`."""
  found, array = np.asarray(log_prob(values)), np.asarray(values)
  moved = np.abs(log_prob(rounded(array)) - found)
  return found, root_eps(array.dtype) * (array[0].size + np.abs(found)) + ROUNDINGS * moved


def lost(name: str, error: np.ndarray, allowed: np.ndarray) -> Finding:
  """Returns the finding about the share of values whose error is too large, NaN included.

  One in a hundred may be lost: in the tails, a sigmoid reaches its end in float32.
  """
  share = float(np.mean(~(error <= allowed)))
  return Finding(check=name, found=share, allowed=_LOST, sound=share <= _LOST)


def worst(name: str, error: np.ndarray, allowed: np.ndarray | float, **more: Any) -> Finding:
  """Returns the finding about the largest error in relation to what is allowed; NaN is the worst."""
  error, allowed = np.broadcast_arrays(np.atleast_1d(error), allowed)
  ratio = np.where(np.isnan(error), np.inf, error / allowed)
  i = int(ratio.argmax())
  return Finding(
    check=name, found=float(error[i]), allowed=float(allowed[i]), sound=bool(error[i] <= allowed[i]), **more
  )
