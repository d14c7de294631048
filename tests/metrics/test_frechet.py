import math
import tracemalloc

import hypothesis
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import strategies as st

from flowgan_tf.metrics.frechet import FeatureStatistics, feature_statistics, frechet_distance

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


@pytest.mark.parametrize('n', [2, 7, 1024, 1025, 3000])
@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64, np.int32])
def test_statistics_are_those_of_numpy_in_float64(n, dtype):
  features = (10 * np.random.default_rng(n).normal(size=[n, 5])).astype(dtype)
  mean, covariance, count = feature_statistics(features)
  np.testing.assert_allclose(mean, features.astype(np.float64).mean(axis=0), rtol=1e-12)
  np.testing.assert_allclose(covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-12, atol=1e-12)
  assert (count, mean.dtype, covariance.dtype) == (n, np.float64, np.float64)


def test_statistics_by_hand():
  mean, covariance, n = feature_statistics([[0, 0], [2, 0], [4, 6]])
  np.testing.assert_array_equal(mean, [2, 2])
  np.testing.assert_array_equal(covariance, [[4, 6], [6, 12]])
  assert n == 3


def test_statistics_of_float32_features_far_from_zero_keep_their_digits():
  features = (1e4 + np.random.default_rng(0).normal(size=[3000, 8])).astype(np.float32)
  np.testing.assert_allclose(
    feature_statistics(features).covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-11, atol=1e-13
  )


def test_statistics_make_no_float64_copy_of_all_features():
  features = np.zeros([40_000, 32], np.float32)
  tracemalloc.start()
  feature_statistics(features)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < features.nbytes


@pytest.mark.parametrize('shape', [(1, 3), (0, 3), (3,), (3, 0), (2, 2, 2)])
def test_features_of_another_shape_are_refused(shape):
  with pytest.raises(ValueError, match=r'`features` must have shape .* Got: \('):
    feature_statistics(np.ones(shape))


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_features_that_are_not_finite_are_refused(value):
  features = np.ones([4, 2])
  features[2, 1] = value
  with pytest.raises(ValueError, match=r'`features` must be finite. Got: 1 of 4 rows'):
    feature_statistics(features)


# Distances known in closed form, or from SciPy's matrix square root.


@pytest.mark.parametrize('d', [1, 2, 5, 40])
@pytest.mark.parametrize('seed', range(5))
def test_distance_is_that_of_the_formula_with_the_matrix_square_root_of_scipy(d, seed):
  a, b = _random(d, seed), _random(d, seed + 100)
  root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
  expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2 * root)
  np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-9)


def test_distance_of_gaussians_on_a_line():
  np.testing.assert_allclose(frechet_distance(_gaussian([1], [[4]]), _gaussian([4], [[25]])), 3**2 + (2 - 5) ** 2)


@pytest.mark.parametrize('rank', [None, 3])
def test_distance_of_equal_covariances_is_the_squared_distance_of_the_means(rank):
  a = _random(20, 0, rank)
  b = a._replace(mean=a.mean + np.arange(20))
  np.testing.assert_allclose(frechet_distance(a, b), np.sum(np.arange(20) ** 2), rtol=1e-12)


@pytest.mark.parametrize('rank', [None, 1, 5, 19])
def test_distance_of_equal_gaussians_is_zero_and_never_below(rank):
  for seed in range(10):
    a = _random(20, seed, rank)
    assert 0 <= frechet_distance(a, a) < 1e-12 * np.trace(a.covariance)


def test_distance_of_commuting_covariances_is_the_distance_of_the_standard_deviations():
  rng = np.random.default_rng(0)
  a, b = rng.exponential(size=[2, 30])
  zero = np.zeros(30)
  expected = np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
  np.testing.assert_allclose(
    frechet_distance(_gaussian(zero, np.diag(a)), _gaussian(zero, np.diag(b))), expected, rtol=1e-12
  )
  q = _rotation(30, 1)
  np.testing.assert_allclose(
    frechet_distance(_gaussian(zero, q * a @ q.T), _gaussian(zero, q * b @ q.T)), expected, rtol=1e-10
  )


# Symmetries.


@hypothesis.given(
  d=st.integers(1, 12),
  seed=st.integers(0, 2**32 - 1),
  scale=st.floats(1e-6, 1e6),
  ranks=st.tuples(*2 * [st.floats(0, 1)]),
)
@hypothesis.settings(deadline=None, max_examples=50)
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


# Singular covariances.


def test_distance_to_a_point_is_the_trace():
  a, point = _random(10, 0), _gaussian(np.zeros(10), np.zeros([10, 10]))
  np.testing.assert_allclose(frechet_distance(a, point), np.sum(a.mean**2) + np.trace(a.covariance), rtol=1e-14)
  assert frechet_distance(point, point) == 0


@pytest.mark.parametrize('rank', [None, 4])
def test_distance_to_a_covariance_of_rank_one(rank):
  """For S_b = v v^T the trace of the square root is (v^T S_a v)^(1/2)."""
  a, v = _random(10, 0, rank), np.arange(1.0, 11)
  expected = np.trace(a.covariance) + v @ v - 2 * math.sqrt(v @ a.covariance @ v)
  np.testing.assert_allclose(frechet_distance(a, _gaussian(a.mean, np.outer(v, v))), expected, rtol=1e-8)


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


def test_distance_of_features_that_are_constant():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=[2, 50, 4]).astype(np.float32)
  expected = frechet_distance(feature_statistics(x[:, :2]), feature_statistics(y[:, :2]))
  x[:, 2:], y[:, 2:] = [3, 7], [3, 8]
  np.testing.assert_allclose(
    frechet_distance(feature_statistics(x), feature_statistics(y)), expected + (8 - 7) ** 2, rtol=1e-12
  )


def test_distance_of_a_nearly_singular_covariance_has_no_epsilon_on_its_diagonal():
  """In two dimensions, tr M^(1/2) = (tr M + 2 (det M)^(1/2))^(1/2); here with M = S_a S_b."""
  a, b = _gaussian([0, 0], np.diag([1, 1e-16])), _gaussian([0, 0], [[2, 1], [1, 3]])
  root = math.sqrt((1 * 2 + 1e-16 * 3) + 2 * math.sqrt(1e-16 * (2 * 3 - 1)))
  assert root - math.sqrt(2) > 1e-8
  np.testing.assert_allclose(frechet_distance(a, b), 1 + 1e-16 + 2 + 3 - 2 * root, rtol=1e-14)


@pytest.mark.parametrize('order', [1, -1])
def test_distance_of_covariances_with_condition_number_1e16(order):
  q = _rotation(33, 0)
  a, b = np.logspace(0, -16, 33), np.logspace(0, -16, 33)[::order] * np.linspace(1, 2, 33)
  zero = np.zeros(33)
  distance = frechet_distance(_gaussian(zero, q * a @ q.T), _gaussian(zero, q * b @ q.T))
  np.testing.assert_allclose(distance, np.sum((np.sqrt(a) - np.sqrt(b)) ** 2), rtol=1e-6, atol=1e-7)


# Mistakes.


def test_different_dimensions_are_refused():
  with pytest.raises(ValueError, match=r'`a` and `b` must be of the same dimension. Got: 2 and 3'):
    frechet_distance(_random(2, 0), _random(3, 0))


def test_mean_and_covariance_that_do_not_belong_together_are_refused():
  with pytest.raises(ValueError, match=r'`b` must have mean \[d\] and covariance \[d, d\]. Got: \(2,\) and \(3, 3\)'):
    frechet_distance(_random(2, 0), _gaussian([0, 0], np.eye(3)))


@pytest.mark.parametrize('field', ['mean', 'covariance'])
@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_statistics_that_are_not_finite_are_refused(field, value):
  a = _random(2, 0)
  with pytest.raises(ValueError, match=r'`a` must be finite'):
    frechet_distance(a._replace(**{field: value * getattr(a, field)}), a)
