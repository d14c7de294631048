"""A function of batches, applied to arrays of any length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

__all__ = ['map_batches']


def map_batches(function: Callable, array: np.ndarray, batch_size: int):
  """Applies a function to all of an array.

  The last partial batch is filled up and what it adds is cut again: XLA would compile a second program for its shape.

  Args:
    function: Of `[batch_size, ...]`, with results `[batch_size, ...]`, one or a structure of several.
    array: `[n, ...]`, `n` at least 1.
    batch_size: Entries in one call.

  Returns:
    Results for all `n`, as NumPy arrays `[n, ...]`.
  """
  n = len(array)
  padded = np.concatenate([array, np.repeat(array[:1], -n % batch_size, axis=0)])
  parts = [function(padded[i : i + batch_size]) for i in range(0, n, batch_size)]
  return tf.nest.map_structure(lambda *batches: np.concatenate(batches)[:n], *parts)
