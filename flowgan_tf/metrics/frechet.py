"""Fréchet distance (FID) between two sets of images, as Gaussians in the space of a network's features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ['FeatureStatistics', 'check_features', 'feature_statistics', 'frechet_distance']

_BLOCK_ROWS = 1024


class FeatureStatistics(NamedTuple):
  """The Gaussian fitted to the features of n images.

  Attributes:
    mean: Mean of the features, float64 `[d]`.
    covariance: Unbiased covariance (divided by n - 1), float64 `[d, d]`.
    n: Number of images.
  """

  mean: np.ndarray
  covariance: np.ndarray
  n: int


def check_features(features: np.ndarray, name: str) -> np.ndarray:
  """Checks features and returns them as an array, without a copy if they are one.

  Args:
    features: Real numbers `[n, d]`.
    name: The caller's name for them, used in error messages.

  Raises:
    ValueError: If they are not a matrix with at least 2 rows and 1 column, or not finite.
  """
  features = np.asarray(features)
  if features.ndim != 2 or len(features) < 2 or features.shape[1] < 1:
    raise ValueError(f'`{name}` must have shape [n, d] with n >= 2 and d >= 1. Got: {features.shape}.')
  if bad := np.count_nonzero(~np.isfinite(features).all(axis=1)):
    raise ValueError(f'`{name}` must be finite. Got: {bad} of {len(features)} rows with NaN or infinity.')
  return features


def feature_statistics(features: np.ndarray) -> FeatureStatistics:
  """Mean and unbiased covariance, `S = sum_i (x_i - m) (x_i - m)^T / (n - 1)`.

  Both are computed in float64 from features of any precision, block by block, so that only one block at a
  time is copied to float64.

  Args:
    features: Real numbers `[n, d]`.

  Returns:
    The `FeatureStatistics`.

  Raises:
    ValueError: If `features` is not a matrix with at least 2 rows, or not finite.
  """
  features = check_features(features, 'features')
  n, d = features.shape
  mean = features.mean(axis=0, dtype=np.float64)
  covariance = np.zeros([d, d])
  for start in range(0, n, _BLOCK_ROWS):
    # Centred before they are multiplied, because E[x x^T] - m m^T would lose its digits if the mean is large.
    centred = features[start : start + _BLOCK_ROWS] - mean
    covariance += centred.T @ centred
  return FeatureStatistics(mean, covariance / (n - 1), n)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
  """Squared Fréchet (2-Wasserstein) distance of two Gaussians, `|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))`.

  With Inception-v3's features this is the FID. For any factors `S = F F^T`, the eigenvalues of `S_a S_b` are the
  squares of the singular values of `F_a^T F_b`, so that

      tr (S_a S_b)^(1/2) = sum_i s_i(F_a^T F_b).

  Covariances may be singular, since none is inverted and nothing is added to a diagonal. The rounding error is about
  1e-16 of the traces, or up to about 1e-8 if a covariance is singular and the two have different ranges.

  The FID of samples is biased: it falls towards its limit as the number of images grows, at a rate that depends on the
  model. Compare FIDs only at equal n, and report n beside them.

  Args:
    a: Statistics of one set of images.
    b: Statistics of the other set, from the same network.

  Returns:
    The distance in squared units of the features. It is never negative, and 0 exactly if means and covariances agree.

  Raises:
    ValueError: If the statistics differ in dimension or are not finite.

  #### References

  Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter. GANs trained by a two time-scale update rule converge to a local
    Nash equilibrium. NIPS 2017, section 3 (FID).
  Dowson, Landau. The Fréchet distance between multivariate normal distributions. J. Multivariate Analysis 12, 1982.
  Chong, Forsyth. Effectively unbiased FID and Inception score and where to find them. CVPR 2020 (the bias).
  """
  mean_a, covariance_a = _mean_and_covariance(a, 'a')
  mean_b, covariance_b = _mean_and_covariance(b, 'b')
  if mean_a.shape != mean_b.shape:
    raise ValueError(f'`a` and `b` must be of the same dimension. Got: {len(mean_a)} and {len(mean_b)}.')
  singular_values = np.linalg.svd(_factor(covariance_a).T @ _factor(covariance_b), compute_uv=False)
  covariance_term = np.trace(covariance_a) + np.trace(covariance_b) - 2 * singular_values.sum()
  return float(np.sum((mean_a - mean_b) ** 2) + max(covariance_term, 0.0))


def _mean_and_covariance(statistics, name):
  mean, covariance = (np.asarray(array, np.float64) for array in statistics[:2])
  if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
    raise ValueError(f'`{name}` must have mean [d] and covariance [d, d]. Got: {mean.shape} and {covariance.shape}.')
  if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
    raise ValueError(f'`{name}` must be finite. Got: NaN or infinity.')
  return mean, covariance


def _factor(covariance):
  """Returns a matrix F with `F F^T = covariance`."""
  try:
    return np.linalg.cholesky(covariance)
  except np.linalg.LinAlgError:
    # The covariance is singular up to rounding. Eigenvectors always give a factor, but take several times as long.
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    return eigenvectors * np.sqrt(np.maximum(eigenvalues, 0.0))
