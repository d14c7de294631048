"""Applies a function of batches to an array of any length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

__all__ = ['map_batches']


def map_batches(function: Callable, array: np.ndarray, batch_size: int):
  """Applies a function to an array, batch by batch.

  A partial last batch is padded, and the additional results are dropped: XLA would compile another program for its
  shape.

  Args:
    function: Maps a batch `[batch_size, ...]` to a result `[batch_size, ...]` or a structure of such results.
    array: Array `[n, ...]` with `n` at least 1.
    batch_size: Number of entries per call.

  Returns:
    The results as NumPy arrays `[n, ...]`, in the structure that `function` returns.
  """
  n = len(array)
  padded = np.concatenate([array, np.repeat(array[:1], -n % batch_size, axis=0)])
  parts = [function(padded[i : i + batch_size]) for i in range(0, n, batch_size)]
  return tf.nest.map_structure(lambda *batches: np.concatenate(batches)[:n], *parts)
