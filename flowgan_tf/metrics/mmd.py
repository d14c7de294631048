"""Kernel distance (KID) between features: the squared maximum mean discrepancy with a cubic kernel."""

from __future__ import annotations

import numpy as np

from flowgan_tf.metrics.frechet import check_features
from flowgan_tf.metrics.scores import Score

__all__ = ['kernel_distance', 'squared_mmd']


def squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
  """Unbiased estimate of the squared maximum mean discrepancy with the kernel `k(u, v) = (u.v / d + 1)^3`.

      mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

  Its expectation is `|E k(x, .) - E k(y, .)|^2` in the kernel's Hilbert space, which is 0 if and only if all moments up
  to the third agree. The estimate itself may be negative.

  Args:
    x: Features of one set of images, real `[n, d]`.
    y: Features of the other set, real `[m, d]`.

  Returns:
    The estimate, computed in float64. The three kernel matrices take most of the memory.

  Raises:
    ValueError: If `x` or `y` has fewer than 2 rows or is not finite, or if their dimensions differ.

  #### References

  Gretton, Borgwardt, Rasch, Schölkopf, Smola. A kernel two-sample test. JMLR 13, 2012, lemma 6.
  """
  x, y = (array.astype(np.float64) for array in _check_pair(x, y))
  return float(_mean_off_diagonal(_kernel(x, x)) + _mean_off_diagonal(_kernel(y, y)) - 2 * _kernel(x, y).mean())


def kernel_distance(x: np.ndarray, y: np.ndarray, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> Score:
  """Kernel distance: the mean of `squared_mmd` over random subsets of x and y.

  With Inception-v3's features this is the KID. Unlike the FID it is unbiased at any number of images. It may therefore
  be negative if the true distance is small.

  Args:
    x: Features of one set of images, real `[n, d]`.
    y: Features of the other set, real `[m, d]`.
    subsets: Number of pairs of subsets.
    subset_size: Rows of each subset, drawn without replacement; min(n, m) if that is smaller.
    seed: Seed of NumPy's default generator, which draws the subsets.

  Returns:
    A `Score` with the mean and the standard deviation over the subsets. Subsets share images, so that
    `std / sqrt(subsets)` understates the standard error. If the subsets are all of `x` and `y`, `std` is mere rounding.

  Raises:
    ValueError: If `x` or `y` has fewer than 2 rows or is not finite, if their dimensions differ, if `subsets` is below
      1, or if `subset_size` is below 2.

  #### References

  Bińkowski, Sutherland, Arbel, Gretton. Demystifying MMD GANs. ICLR 2018, section 4 (KID).
  """
  x, y = _check_pair(x, y)
  if subsets < 1:
    raise ValueError(f'`subsets` must be at least 1. Got: {subsets}.')
  if subset_size < 2:
    raise ValueError(f'`subset_size` must be at least 2. Got: {subset_size}.')
  size = min(subset_size, len(x), len(y))
  rng = np.random.default_rng(seed)
  values = [
    squared_mmd(*(array[rng.choice(len(array), size, replace=False)] for array in (x, y))) for _ in range(subsets)
  ]
  return Score(mean=float(np.mean(values)), std=float(np.std(values)))


def _check_pair(x, y):
  x, y = check_features(x, 'x'), check_features(y, 'y')
  if x.shape[1] != y.shape[1]:
    raise ValueError(f'`x` and `y` must be of the same dimension. Got: {x.shape[1]} and {y.shape[1]}.')
  return x, y


def _kernel(u, v):
  base = u @ v.T / u.shape[1] + 1
  return base * base * base  # NumPy's power takes 30 times as long.


def _mean_off_diagonal(kernel):
  n = len(kernel)
  return (kernel.sum() - np.trace(kernel)) / (n * (n - 1))
