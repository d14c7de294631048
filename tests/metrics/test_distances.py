"""FID against SciPy's matrix square root, and KID against a sum over pairs."""

import itertools
import math
import tracemalloc

import hypothesis
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import strategies as st

from flowgan_tf.errors import UsageError
from flowgan_tf.metrics.distances import (
  FeatureStatistics,
  feature_statistics,
  frechet_distance,
  kernel_distance,
  squared_mmd,
)

pytestmark = pytest.mark.filterwarnings('error')


def _gaussian(mean, covariance):
  return FeatureStatistics(np.asarray(mean, np.float64), np.asarray(covariance, np.float64), 1000)


def _random(d, seed, rank=None):
  """A Gaussian with a random mean and a covariance of this rank, full by default."""
  rng = np.random.default_rng(seed)
  factor = rng.normal(size=[d, rank or d])
  return _gaussian(rng.normal(size=d), factor @ factor.T)


def _rotation(d, seed):
  return scipy.stats.ortho_group(d, seed=seed).rvs()


# Statistics.


@pytest.mark.parametrize(
  ('n', 'dtype', 'offset'), [(2, np.float16, 0), (1024, np.float64, 0), (3000, np.float16, 0), (3000, np.float32, 1e4)]
)
def test_statistics_are_those_of_numpy_in_float64(n, dtype, offset):
  """Float32 features far from zero would lose the digits of their covariance."""
  features = (offset + np.random.default_rng(n).normal(size=[n, 5])).astype(dtype)
  mean, covariance, count = feature_statistics(features)
  np.testing.assert_allclose(mean, features.astype(np.float64).mean(axis=0), rtol=1e-12)
  np.testing.assert_allclose(covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-11, atol=1e-12)
  assert (count, mean.dtype, covariance.dtype) == (n, np.float64, np.float64)


def test_statistics_make_no_float64_copy_of_all_features():
  features = np.zeros([40_000, 32], np.float32)
  tracemalloc.start()
  feature_statistics(features)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < features.nbytes


# Distances known in closed form, or from SciPy's matrix square root.


@pytest.mark.parametrize('d', [1, 2, 40])
def test_distance_is_that_of_the_formula_with_the_matrix_square_root_of_scipy(d):
  a, b = _random(d, d), _random(d, d + 100)
  root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
  expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2 * root)
  np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-9)


@pytest.mark.parametrize('rank', [None, 1, 19])
def test_distance_of_equal_covariances_is_the_squared_distance_of_the_means(rank):
  for seed in range(10):
    a = _random(20, seed, rank)
    assert 0 <= frechet_distance(a, a) < 1e-12 * np.trace(a.covariance)
  moved = a._replace(mean=a.mean + np.arange(20))
  np.testing.assert_allclose(frechet_distance(a, moved), np.sum(np.arange(20) ** 2), rtol=1e-12)


@hypothesis.given(
  d=st.integers(1, 12),
  seed=st.integers(0, 2**32 - 1),
  scale=st.floats(1e-6, 1e6),
  ranks=st.tuples(*2 * [st.floats(0, 1)]),
)
@hypothesis.settings(deadline=None, max_examples=40)
def test_distance_is_symmetric_invariant_under_rotation_and_quadratic_in_scale(d, seed, scale, ranks):
  a, b = (_random(d, seed ^ i, max(1, round(d * rank))) for i, rank in enumerate(ranks))
  distance = frechet_distance(a, b)
  # If singular covariances have different ranges, float64 gives the square root only to about 1e-8 of the traces.
  close = {'rtol': 1e-9, 'atol': 1e-7 * np.trace(a.covariance + b.covariance)}
  np.testing.assert_allclose(frechet_distance(b, a), distance, **close)
  q = _rotation(d, seed)
  rotated = (_gaussian(q @ g.mean, q @ g.covariance @ q.T) for g in (a, b))
  np.testing.assert_allclose(frechet_distance(*rotated), distance, **close)
  scaled = (_gaussian(scale * g.mean, scale**2 * g.covariance) for g in (a, b))
  np.testing.assert_allclose(frechet_distance(*scaled) / scale**2, distance, **close)


@pytest.mark.parametrize(('n', 'm'), [(10, 15), (10, 200), (2, 2)])
def test_distance_with_fewer_images_than_features(n, m):
  """The trace of the square root is the sum of the singular values of the centred features' products."""
  rng = np.random.default_rng(n)
  x, y = rng.normal(size=[n, 60]), 1 + 2 * rng.normal(size=[m, 60])
  u, v = (z - z.mean(axis=0) for z in (x, y))
  root = scipy.linalg.svdvals(u @ v.T).sum() / math.sqrt((n - 1) * (m - 1))
  variances = x.var(axis=0, ddof=1) + y.var(axis=0, ddof=1)
  expected = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + variances.sum() - 2 * root
  np.testing.assert_allclose(frechet_distance(feature_statistics(x), feature_statistics(y)), expected, rtol=1e-8)


def test_distance_of_a_nearly_singular_covariance_has_no_epsilon_on_its_diagonal():
  """In two dimensions, tr M^(1/2) = (tr M + 2 (det M)^(1/2))^(1/2); here with M = S_a S_b."""
  a, b = _gaussian([0, 0], np.diag([1, 1e-16])), _gaussian([0, 0], [[2, 1], [1, 3]])
  root = math.sqrt((1 * 2 + 1e-16 * 3) + 2 * math.sqrt(1e-16 * (2 * 3 - 1)))
  np.testing.assert_allclose(frechet_distance(a, b), 1 + 1e-16 + 2 + 3 - 2 * root, rtol=1e-14)


# The estimate behind KID.


def _by_hand(x, y):
  """The estimate as a sum over pairs, in Python."""
  n, m, d = len(x), len(y), len(x[0])

  def kernel(u, v):
    return (math.fsum(p * q for p, q in zip(u.tolist(), v.tolist(), strict=True)) / d + 1) ** 3

  within_x = math.fsum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
  within_y = math.fsum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
  return within_x + within_y - 2 * math.fsum(kernel(u, v) for u in x for v in y) / (n * m)


@pytest.mark.parametrize(('n', 'm', 'd'), [(2, 2, 1), (5, 5, 3), (7, 4, 2), (3, 12, 50)])
def test_estimate_is_the_sum_over_pairs(n, m, d):
  rng = np.random.default_rng(n)
  x, y = rng.normal(size=[n, d]), 0.5 + rng.normal(size=[m, d])
  np.testing.assert_allclose(squared_mmd(x, y), _by_hand(x, y), rtol=1e-10)
  x, y = (1e3 + x).astype(np.float32), (1e3 + y).astype(np.float32)
  assert squared_mmd(x, y) == squared_mmd(x.astype(np.float64), y.astype(np.float64))


def test_expectation_over_all_samples_is_the_population_value():
  """All pairs of samples of 2 and 3 draws from uniform distributions over a few points on a line are averaged.

  As `(u v + 1)^3` is the sum of `binomial(3, j) u^j v^j`, the squared MMD is a sum over the first three moments.
  """
  points_x, points_y = [0.0, 1.0, 3.0], [-1.0, 2.0]
  estimates = [
    squared_mmd(np.reshape(x, [2, 1]), np.reshape(y, [3, 1]))
    for x in itertools.product(points_x, repeat=2)
    for y in itertools.product(points_y, repeat=3)
  ]
  moments = [[np.mean(np.power(points, j)) for points in (points_x, points_y)] for j in range(4)]
  expected = sum(math.comb(3, j) * (moments[j][0] - moments[j][1]) ** 2 for j in (1, 2, 3))
  np.testing.assert_allclose(np.mean(estimates), expected, rtol=1e-12)


# Over subsets.


def test_rows_are_drawn_without_replacement():
  """Each row of the larger set is nearly unique, so that a row drawn twice would show."""
  x = 100 * np.eye(20)
  score = kernel_distance(x, x, subsets=5)
  np.testing.assert_allclose(score.mean, squared_mmd(x, x), rtol=1e-12)
  assert score.std < 1e-9 * abs(score.mean)


def test_mean_and_standard_deviation_are_over_all_subsets_of_that_size():
  """Against the mean and standard deviation over each possible pair of subsets of 2 of 5 and 2 of 4 rows."""
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=[5, 2]), 1 + rng.normal(size=[4, 2])
  values = [
    _by_hand(x[list(rows)], y[list(columns)])
    for rows in itertools.combinations(range(5), 2)
    for columns in itertools.combinations(range(4), 2)
  ]
  score = kernel_distance(x, y, subsets=4000, subset_size=2)
  assert score == kernel_distance(x, y, subsets=4000, subset_size=2) != kernel_distance(x, y, 4000, 2, seed=1)
  assert abs(score.mean - np.mean(values)) < 3 * np.std(values) / math.sqrt(4000)
  np.testing.assert_allclose(score.std, np.std(values), rtol=0.05)


def test_smaller_set_bounds_the_size_of_both_subsets():
  """The subsets of y have three rows, and not always the same three."""
  x, y = np.zeros([3, 1]), np.arange(10.0)[:, np.newaxis]
  possible = [squared_mmd(x, y[list(rows)]) for rows in itertools.combinations(range(10), 3)]
  for score in (kernel_distance(x, y, subsets=20), kernel_distance(y, x, subsets=20)):
    assert min(possible) <= score.mean <= max(possible) and score.std > 0


# Mistakes.


GOOD = np.ones([4, 3])
BAD = np.append(np.zeros(999), np.nan)[:, None]  # Most subsets do not hold the bad row.


@pytest.mark.parametrize(
  ('distance', 'message'),
  [
    (lambda: feature_statistics(GOOD[:1]), r'`features` must be of shape \[n, d\] .* Got: \(1, 3\)'),
    (lambda: kernel_distance(BAD, GOOD[:, :1], 1, 2), '`x` must be finite. Got: 1 of 1000 rows'),
    (lambda: kernel_distance(GOOD, np.inf * GOOD), '`y` must be finite. Got: 4 of 4 rows'),
    (lambda: kernel_distance(GOOD, GOOD, subsets=0), '`subsets` must be .* Got: 0'),
    (lambda: kernel_distance(GOOD, GOOD, subset_size=1), '`subset_size` must be .* Got: 1'),
  ],
)
def test_refuses_what_has_no_distance(distance, message):
  with pytest.raises(UsageError, match=message):
    distance()
