"""Log densities of mixtures of isotropic Gaussians, one on each of many images, and the search for a bandwidth."""

from __future__ import annotations

import concurrent.futures
import functools
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import threadpoolctl
import tqdm

from flowgan_tf.metrics.arrays import standard_error

__all__ = ['BandwidthChoice', 'BandwidthCurve', 'bandwidth_curve', 'choose_bandwidth', 'log_density']

# Numbers of images and of centres whose squared distances a thread holds at a time. They take 4 MB, so that the
# exponentials for further bandwidths hardly wait for memory.
_IMAGES, _CENTERS = 256, 2048

# On a logarithmic scale, each round of the search shrinks the bracket to 1/8. Neighbouring bandwidths of the last round
# differ by 0.1 %.
_LOWEST, _HIGHEST, _GRID, _ROUNDS = 1e-4, 1.0, 17, 4
_SEARCH_IMAGES = 1000


class BandwidthCurve(NamedTuple):
  """Mean log density over images as a function of the bandwidth.

  Attributes:
    bandwidths: The bandwidths, float64 `[k]`.
    mean_log_densities: Mean log density at each bandwidth in nats, float64 `[k]`.
    standard_errors: Standard errors of the means over images, float64 `[k]`.
    n: Number of images.
  """

  bandwidths: np.ndarray
  mean_log_densities: np.ndarray
  standard_errors: np.ndarray
  n: int


class BandwidthChoice(NamedTuple):
  """The bandwidth that a search found.

  Attributes:
    bandwidth: The bandwidth with the highest mean log density.
    mean_log_density: Mean log density of all images at that bandwidth, in nats.
    standard_error: Standard error of `mean_log_density` over images.
    n: Number of all images.
  """

  bandwidth: float
  mean_log_density: float
  standard_error: float
  n: int


def log_density(images: np.ndarray, centers: np.ndarray, bandwidths: Sequence[float]) -> np.ndarray:
  """Log density of a mixture of isotropic Gaussians of equal weight, for several bandwidths at once.

  ```
  log p_h(x) = log (1/n) sum_j N(x; c_j, h^2 I)
             = log sum_j exp(-|x - c_j|^2 / (2 h^2)) - log n - d/2 log(2 pi h^2)
  ```

  The squared distances cost one product of matrices, `2 m n d` operations, whatever the number of bandwidths. Each
  bandwidth adds `m n` exponentials. Neither matrix is ever held as a whole. Distances are computed as
  `|x|^2 + |c|^2 - 2 xc` in float64, with an error of about 1e-15 `|x|^2`. For images in [0, 1] the result is accurate
  down to a bandwidth of 1e-5 if an image is itself a centre, and even further if not.

  Args:
    images: The images, finite floats `[m, ...]`. `d` is the product of the dimensions after the first.
    centers: The centres, finite floats `[n, ...]` with n > 0.
    bandwidths: The k standard deviations `h` of the Gaussians, in units of the images.

  Returns:
    The log densities in nats, float64 `[k, m]`.

  Raises:
    ValueError: If images or centres are empty or do not hold finite floats, if they differ in shape, if there is no
      bandwidth, or if a bandwidth is outside [1e-100, 1e100].

  #### References

  Parzen. On estimation of a probability density function and mode. Annals of Mathematical Statistics 33, 1962.
  """
  images, centers = _check_rows(images, 'images'), _check_rows(centers, 'centers')
  if images.shape[1:] != centers.shape[1:]:
    raise ValueError(f'`images` and `centers` must have one shape. Got: {images.shape[1:]} and {centers.shape[1:]}.')
  h = np.asarray(bandwidths, np.float64)
  # Within these bounds the square of a bandwidth neither overflows nor vanishes, so that log densities are finite.
  if h.ndim != 1 or not h.size or not np.all((h >= 1e-100) & (h <= 1e100)):
    raise ValueError(f'`bandwidths` must be one or more numbers from 1e-100 to 1e100. Got: {bandwidths}.')
  x = images.reshape(len(images), -1).astype(np.float64)
  x_norms = np.einsum('md,md->m', x, x)
  precisions = 0.5 / h**2
  # log-sum-exp over blocks of centres. At every bandwidth the largest term is that of the nearest centre.
  nearest, sums = np.full(len(x), np.inf), np.zeros([len(h), len(x)])

  def add(rows, c, c_norms):
    squared = x[rows] @ c.T
    squared *= -2
    squared += x_norms[rows, np.newaxis]
    squared += c_norms
    np.maximum(squared, 0, out=squared)
    previous, nearest[rows] = nearest[rows].copy(), np.minimum(nearest[rows], squared.min(axis=1))
    excess = np.subtract(nearest[rows, np.newaxis], squared, out=squared)
    terms = np.empty_like(excess)
    with np.errstate(under='ignore'):
      sums[:, rows] *= np.exp(np.multiply.outer(precisions, nearest[rows] - previous))
      for i, precision in enumerate(precisions):
        np.multiply(excess, precision, out=terms)
        # NumPy takes up to 50 times as long if a result underflows. e^-700 vanishes beside the nearest centre's 1.
        np.maximum(terms, -700, out=terms)
        np.exp(terms, out=terms)
        sums[i, rows] += terms.sum(axis=1)

  blocks = [slice(i, i + _IMAGES) for i in range(0, len(x), _IMAGES)]
  with (
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    # If the product started threads of its own inside ours, it would take twice as long.
    threadpoolctl.threadpool_limits(1, user_api='blas'),
    tqdm.tqdm(total=len(centers), desc='log density', unit='centre', delay=3, dynamic_ncols=True, disable=None) as bar,
  ):
    for start in range(0, len(centers), _CENTERS):
      c = centers[start : start + _CENTERS].reshape(-1, x.shape[1]).astype(np.float64)
      c_norms = np.einsum('nd,nd->n', c, c)
      list(pool.map(functools.partial(add, c=c, c_norms=c_norms), blocks))
      bar.update(len(c))
  normalizer = math.log(len(centers)) + x.shape[1] / 2 * np.log(2 * np.pi * h**2)
  return np.log(sums) - np.multiply.outer(precisions, nearest) - normalizer[:, np.newaxis]


def bandwidth_curve(images: np.ndarray, centers: np.ndarray, bandwidths: Sequence[float]) -> BandwidthCurve:
  """Mean of `log_density` over images, with its standard error.

  Args:
    images: The images, finite floats `[m, ...]`.
    centers: The centres, finite floats `[n, ...]`.
    bandwidths: The k bandwidths.

  Returns:
    The `BandwidthCurve`, in the order of the bandwidths. For a single image the standard errors are NaN.

  Raises:
    ValueError: If an argument is not valid for `log_density`.
  """
  log_densities = log_density(images, centers, bandwidths)
  return BandwidthCurve(
    bandwidths=np.array(bandwidths, np.float64),
    mean_log_densities=log_densities.mean(axis=1),
    standard_errors=np.array([standard_error(row) for row in log_densities]),
    n=log_densities.shape[1],
  )


def choose_bandwidth(images: np.ndarray, centers: np.ndarray) -> BandwidthChoice:
  """Finds the bandwidth in [1e-4, 1] that maximises the mean log density of held-out images.

  It is a line search to 0.1 %. The first round visits 17 bandwidths over the whole range, at equal ratios. Three more
  rounds each visit 17 bandwidths between the neighbours of the best one. The search uses at most 1,000 of the images,
  drawn at random but always the same. The mean log density that is returned is that of all images. If the density still
  rises at an end of the range, that end is the best bandwidth: 1e-4 if the images are copies of centres, and 1 if they
  are far from all centres.

  Args:
    images: Validation images, finite floats `[m, ...]`. They must not be among the centres.
    centers: The centres, finite floats `[n, ...]`.

  Returns:
    The `BandwidthChoice`.

  Raises:
    ValueError: If an argument is not valid for `log_density`.

  #### References

  Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI 2018,
  section 3.4: "optimized for the lowest validation NLL by doing a line search in (0, 1]".
  """
  images = np.asarray(images)
  # Not simply the first images, because a data set may be sorted by class.
  subset = images[np.random.default_rng(0).permutation(len(images))[:_SEARCH_IMAGES]]
  low, high = _LOWEST, _HIGHEST
  for _ in range(_ROUNDS):
    grid = np.geomspace(low, high, _GRID)
    best = int(np.argmax(bandwidth_curve(subset, centers, grid).mean_log_densities))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
  chosen = bandwidth_curve(images, centers, grid[[best]])
  return BandwidthChoice(
    bandwidth=float(grid[best]),
    mean_log_density=float(chosen.mean_log_densities[0]),
    standard_error=float(chosen.standard_errors[0]),
    n=chosen.n,
  )


def _check_rows(array, name):
  array = np.asarray(array)
  if not np.issubdtype(array.dtype, np.floating):
    raise ValueError(f'`{name}` must be floats. Got: {array.dtype}.')
  if array.ndim < 2 or 0 in array.shape:
    raise ValueError(f'`{name}` must have shape [number, ...], not empty. Got: {array.shape}.')
  if bad := np.count_nonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1)):
    raise ValueError(f'`{name}` must be finite. Got: {bad} of {len(array)} with NaN or infinity.')
  return array
