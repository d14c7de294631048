"""Scores of samples: Inception and MODE score of a network's predictions, FID and KID of its features.

Scores are comparable only if they come from the same network and from about the same number of samples. With few
samples, p(y) is a rough estimate, and all scores but KID are biased.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import threadpoolctl

from flowgan_tf.base.errors import UsageError, check, check_integer, check_memory

# A float32 softmax or a table of label frequencies is rounded, but not by more than this.
_SUM_TOLERANCE = 1e-3
_BLOCK_ROWS = 1024
_WIDE = 512  # features


class Score(NamedTuple):
  """Mean and population standard deviation of a score over the splits of the samples, or over subsets.

  With a single split, the Inception and the MODE score have their standard error instead. It comes from the delta
  method, so it is exact to first order.
  """

  mean: float
  std: float


def inception_score(probabilities: np.ndarray, splits: int = 1) -> Score:
  """Returns the Inception score, `exp(E_x KL(p(y|x) || p(y)))`.

  `p(y)` is the mean of `p(y|x)` over the samples of the split, and `0 log 0 = 0`. The score lies between 1, if all
  samples have the same prediction, and the number of classes, if predictions are certain and classes equally frequent.

  Args:
    probabilities: p(y|x) of the n samples, `[n, classes]`. Rows are rescaled to sum to 1 exactly.
    splits: Number k of consecutive parts that are scored separately. Part i, from 0 to k - 1, holds the samples from
      `i n // k` up to `(i + 1) n // k`, as in torch-fidelity.

  Raises:
    UsageError: If `probabilities` is not a matrix of finite distributions, or `splits` is not between 1 and n.

  #### References

  Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016, Section 4. Used in Flow-GAN, Section 3.2.
  """

  def log_score(part):
    terms = _kl(part, part.mean(axis=0))
    return terms.mean(), terms

  return _over_splits(probabilities, splits, log_score)


def mode_score(probabilities: np.ndarray, label_distribution: np.ndarray, splits: int = 1) -> Score:
  """Returns the MODE score, `exp(E_x KL(p(y|x) || p*(y)) - KL(p*(y) || p(y)))`.

  `p*` is the label distribution of the training data, and `p(y)` the mean of `p(y|x)` over the samples of the split.
  Since `E_x KL(p(y|x) || p*) = E_x KL(p(y|x) || p(y)) + KL(p(y) || p*)`,

      MODE score = Inception score * exp(KL(p(y) || p*) - KL(p* || p(y))).

  If no sample gives a class any probability, `KL(p* || p(y))` is infinite, and the score is 0, its limit.

  If predictions are certain and `p(y) = p*`, the score is `exp(H(p*))`, where H is the entropy in nats. For a uniform
  p* that is the number of classes, and the maximum. For any other p* the formula rewards an excess of rare classes: its
  maximum is above `exp(H(p*))`, at `p(y) = p* / (c + log p*)`, where c makes this sum to 1.

  Args:
    probabilities: As for `inception_score`.
    label_distribution: p*(y), `[classes]`, greater than 0 for each class. It is rescaled to sum to 1 exactly.
    splits: As for `inception_score`.

  Raises:
    UsageError: As for `inception_score`; or if `label_distribution` is not a positive distribution over the same number
      of classes.

  #### References

  Che et al., "Mode Regularized Generative Adversarial Networks", ICLR 2017; the formula is Flow-GAN's, Section 3.2.
  """
  labels = np.asarray(label_distribution, np.float64)
  # If p* is 0 for a class, the first term is infinite as soon as the classifier gives that class any probability.
  holds = labels.shape == np.shape(probabilities)[1:] and np.all(labels > 0) and abs(labels.sum() - 1) <= _SUM_TOLERANCE
  check('label_distribution', labels.tolist(), 'greater than 0 in each class and sum to 1', holds)
  labels = labels / labels.sum()

  def log_score(part):
    terms, mean = _kl(part, labels), part.mean(axis=0)
    # Each sample also moves p(y), whose gradient of -KL(p* || p(y)) is p* / p(y).
    influence = terms + part @ (labels / np.where(mean > 0, mean, math.inf))
    return terms.mean() - _kl(labels, mean), influence

  return _over_splits(probabilities, splits, log_score)


def _kl(p, q):
  """Returns `KL(p || q)` in nats over the last axis, with `0 log 0 = 0`, and infinity where `q = 0 < p`."""
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0).sum(axis=-1)


def _over_splits(probabilities, splits, log_score):
  probabilities = _distributions(probabilities)
  check_integer('splits', splits, 1, len(probabilities))
  # np.array_split divides differently if `splits` does not divide the number of samples.
  bounds = np.arange(splits + 1) * len(probabilities) // splits
  logs, influences = zip(*(log_score(probabilities[a:b]) for a, b in itertools.pairwise(bounds)), strict=True)
  scores = np.exp(logs)
  if splits == 1:
    return Score(mean=float(scores[0]), std=float(scores[0] * influences[0].std() / math.sqrt(len(probabilities))))
  return Score(mean=float(scores.mean()), std=float(scores.std()))


def _distributions(probabilities):
  probabilities = np.asarray(probabilities, np.float64)
  check('probabilities', probabilities.shape, 'of shape [samples, classes]', probabilities.ndim == 2)
  sums = probabilities.sum(axis=1, keepdims=True)
  good = (probabilities >= 0).all(axis=1) & (np.abs(sums[:, 0] - 1) <= _SUM_TOLERANCE)  # False for NaN.
  if bad := np.count_nonzero(~good):
    raise UsageError(
      f'`probabilities` must be at least 0 and sum to 1 in each row. Got: {bad} of {len(good)} rows that are not.',
      'probabilities',
    )
  # Subnormal numbers can be rounded to 0 in the mean p(y), which would turn their vanishing terms into infinity.
  return np.where(probabilities < np.finfo(np.float64).tiny, 0.0, probabilities / sums)


class FeatureStatistics(NamedTuple):
  """The Gaussian fitted to the features of n images: mean `[d]` and unbiased covariance `[d, d]`, float64."""

  mean: np.ndarray
  covariance: np.ndarray
  n: int


def feature_statistics(features: np.ndarray) -> FeatureStatistics:
  """Returns the mean and the unbiased covariance, `S = sum_i (x_i - m) (x_i - m)^T / (n - 1)`, of features `[n, d]`.

  Both are computed in float64 from features of any precision. Only one block at a time is copied to float64.

  Raises:
    UsageError: If `features` is not a matrix with at least 2 rows, or not finite.
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
  """Returns the squared Fréchet (2-Wasserstein) distance of two Gaussians, in squared units of the features.

  ```none
  |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))
  ```

  With Inception-v3's features this is the FID. For any factors `S = F F^T`, the eigenvalues of `S_a S_b` are the
  squares of the singular values of `F_a^T F_b`, so that

  ```none
  tr (S_a S_b)^(1/2) = sum_i s_i(F_a^T F_b)
  ```

  Covariances may be singular: none is inverted, and nothing is added to a diagonal. The rounding error is about
  1e-16 of the traces, or up to about 1e-8 if a covariance is singular and the two have different ranges. The distance
  is never negative, and 0 up to rounding if means and covariances agree.

  The FID of samples is biased: it falls towards its limit as the number of images grows, at a rate that depends on the
  model. Compare FIDs only at equal n, and report n beside them.

  #### References

  [1]: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter. GANs trained by a two time-scale update rule converge to a
       local Nash equilibrium. NIPS 2017, section 3 (FID).
  [2]: Dowson, Landau. The Fréchet distance between multivariate normal distributions. J. Multivariate Anal. 12, 1982.
  [3]: Chong, Forsyth. Effectively unbiased FID and Inception score and where to find them. CVPR 2020 (the bias).
  """
  singular_values = np.linalg.svd(_factor(a.covariance).T @ _factor(b.covariance), compute_uv=False)
  covariance_term = np.trace(a.covariance) + np.trace(b.covariance) - 2 * singular_values.sum()
  return float(np.sum((a.mean - b.mean) ** 2) + max(covariance_term, 0.0))


def _factor(covariance):
  """Returns a matrix F with `F F^T = covariance`."""
  try:
    return np.linalg.cholesky(covariance)
  except np.linalg.LinAlgError:
    # The covariance is singular up to rounding. Eigenvectors always give a factor, but take several times as long.
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    return eigenvectors * np.sqrt(np.maximum(eigenvalues, 0.0))


def squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
  """Returns the estimate of `kernel_distance` for one pair of sets `[n, d]` and `[m, d]`, in float64."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  within = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (_kernel(x, x), _kernel(y, y)))
  return float(within - 2 * _kernel(x, y).mean())


def kernel_distance(x: np.ndarray, y: np.ndarray, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> Score:
  """Returns the kernel distance: the mean estimate of the squared maximum mean discrepancy over random subsets.

  The mean over subsets is an unbiased estimate of `|E k(x, .) - E k(y, .)|^2` in the Hilbert space of the kernel
  `k(u, v) = (u.v / d + 1)^3`, which is 0 if and only if all moments up to the third agree. Each estimate is

      mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

  With Inception-v3's features this is the KID. Unlike the FID it is unbiased at any number of images. It may therefore
  be negative if the true distance is small.

  Args:
    x: Features of one set of images, real `[n, d]`.
    y: Features of the other set, real `[m, d]`.
    subsets: Number of pairs of subsets.
    subset_size: Rows of each subset, drawn without replacement; min(n, m) if that is smaller. 1,000 rows need 24 MB,
      and twice as many four times that.
    seed: Seed of NumPy's default generator, which draws the subsets.

  Returns:
    A `Score` with the mean and the standard deviation over the subsets. Subsets share images, so that
    `std / sqrt(subsets)` understates the standard error. If the subsets are all of `x` and `y`, `std` is mere rounding.

  Raises:
    UsageError: If `x` or `y` has fewer than 2 rows or is not finite, if `subsets` is below 1, or if `subset_size` is
      below 2 or so large that memory does not suffice.

  #### References

  Gretton, Borgwardt, Rasch, Schölkopf, Smola. A kernel two-sample test. JMLR 13, 2012, lemma 6.
  Bińkowski, Sutherland, Arbel, Gretton. Demystifying MMD GANs. ICLR 2018, section 4 (KID).
  """
  # A subset may hold no bad row, or a single row, for which the estimate has no value.
  x, y = check_features(x, 'x'), check_features(y, 'y')
  check_integer('subsets', subsets, 1)
  check_integer('subset_size', subset_size, 2)
  size = min(subset_size, len(x), len(y))
  check_memory('products of subsets of `subset_size`', 3 * 8 * size**2)
  rng = np.random.default_rng(seed)
  # Threads of BLAS would spend most of the time waiting for each other in small products.
  with threadpoolctl.threadpool_limits(1 if x.shape[1] < _WIDE else None):
    values = [
      squared_mmd(*(array[rng.choice(len(array), size, replace=False)] for array in (x, y))) for _ in range(subsets)
    ]
  return Score(mean=float(np.mean(values)), std=float(np.std(values)))


def _kernel(u, v):
  base = u @ v.T / u.shape[1] + 1
  return base * base * base  # NumPy's power takes 30 times as long.


def check_features(features, name):
  features = np.asarray(features)
  check(name, features.shape, 'of shape [n, d] with n at least 2', features.ndim == 2 and len(features) >= 2)
  if bad := np.count_nonzero(~np.isfinite(features).all(axis=1)):
    raise UsageError(f'`{name}` must be finite. Got: {bad} of {len(features)} rows with NaN or infinity.', name)
  return features
