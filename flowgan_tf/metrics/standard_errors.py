"""The standard error of a mean."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

__all__ = ['standard_error']


def standard_error(values: ArrayLike, axis: int | None = None) -> float | np.ndarray:
  """Standard error of the mean of independent values, `sqrt(sum_i (v_i - mean)^2 / (n - 1) / n)`.

  Args:
    values: Real numbers `[n, ...]`. They are summed in float64 whatever their precision.
    axis: Axis along which the mean is taken. None takes the mean of all values.

  Returns:
    A float without `axis`, and otherwise float64 with the shape of the other axes. NaN for fewer than two values.
  """
  values = np.asarray(values, np.float64)
  n = values.size if axis is None else values.shape[axis]
  if n < 2:
    return math.nan if axis is None else np.full(np.delete(values.shape, axis), math.nan)
  errors = values.std(axis=axis, ddof=1) / math.sqrt(n)
  return float(errors) if axis is None else errors
