"""The standard error of a mean."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

__all__ = ['standard_error']


def standard_error(values: ArrayLike, axis: int | None = None) -> float | np.ndarray:
  """Standard error of the mean of independent values, `sqrt(sum_i (v_i - mean)^2 / (n - 1) / n)`.

  Args:
    values: Real numbers `[n, ...]`; those in single or half precision are summed in float64.
    axis: Along which the mean is taken; all values if None.

  Returns:
    A float, or float64 of the other axes if `axis` is given; NaN where there are fewer than two values.
  """
  values = np.asarray(values, np.float64)
  n = values.size if axis is None else values.shape[axis]
  if n < 2:
    return math.nan if axis is None else np.full(np.delete(values.shape, axis), math.nan)
  errors = values.std(axis=axis, ddof=1) / math.sqrt(n)
  return float(errors) if axis is None else errors
