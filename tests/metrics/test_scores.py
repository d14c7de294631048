"""Scores against SciPy and by hand: FID against its matrix square root, and KID against a sum over pairs."""

import itertools
import math
import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import linalg, special, stats

from flowgan_tf.base.errors import UsageError
from flowgan_tf.metrics.scores import (
  FeatureStatistics,
  feature_statistics,
  frechet_distance,
  inception_score,
  kernel_distance,
  mode_score,
  squared_mmd,
)

pytestmark = pytest.mark.filterwarnings('error')


def _softmax_rows(samples, classes, seed=0, temperature=1.0):
  return special.softmax(np.random.default_rng(seed).normal(size=[samples, classes]) / temperature, axis=1)


# Values known in closed form.


@pytest.mark.parametrize(
  ('probabilities', 'expected'),
  [
    (np.tile(np.eye(17), [3, 1]), 17),  # Certain and balanced predictions: the number of classes.
    (np.eye(10)[np.full(50, 3)], 1),
    # p(y) = (1/2, 1/2); each KL is 3/4 log(3/2) + 1/4 log(1/2) = log(3^(3/4) / 2).
    ([[0.75, 0.25], [0.25, 0.75]], 3**0.75 / 2),
  ],
)
def test_inception_score_by_hand(probabilities, expected):
  np.testing.assert_allclose(inception_score(probabilities), (expected, 0), rtol=1e-14)


def test_mode_score_by_hand():
  """Of certain predictions that follow the label distribution, it is the exponential of the entropy."""
  followed = np.repeat(np.eye(4), [4, 2, 1, 1], axis=0)
  np.testing.assert_allclose(mode_score(followed, [0.5, 0.25, 0.125, 0.125]).mean, 2**1.75, rtol=1e-14)
  # Of two classes, seen 999 times and once, exp(KL(p* || p(y))) is (1/2) (0.999 * 0.001)^(-1/2).
  nearly_missing = np.repeat(np.eye(2), [999, 1], axis=0)
  expected = 2 / (0.5 / np.sqrt(0.999 * 0.001))
  np.testing.assert_allclose(mode_score(nearly_missing, [0.5, 0.5]).mean, expected, rtol=1e-12)


def test_vanishing_probabilities():
  """A class that no sample can be of makes a MODE score of 0. A subnormal probability counts as zero."""
  assert mode_score(np.tile(np.eye(3)[:2], [5, 1]), np.full(3, 1 / 3)) == (0.0, 0.0)
  # The mean of the first column rounds to 0, which taken literally makes KL(p(y|x) || p(y)) infinite.
  assert inception_score([[5e-324, 1.0], [0.0, 1.0], [0.0, 1.0]]) == (1.0, 0.0)


# Against SciPy, and properties that hold for any probabilities.


@pytest.mark.parametrize(('samples', 'splits'), [(300, 1), (997, 10), (23, 7)])
def test_splits_have_the_boundaries_of_torch_fidelity(samples, splits):
  """Part i of k holds the samples from i n // k to (i + 1) n // k. Here each sample finds its part for itself."""
  probabilities, labels = _softmax_rows(samples, 10, temperature=0.2), np.arange(1, 11) / 55
  part_of = [next(k for k in range(splits) if i < (k + 1) * samples // splits) for i in range(samples)]
  inception, mode = [], []
  for k in range(splits):
    part = probabilities[np.equal(part_of, k)]
    marginal = part.mean(axis=0)
    inception.append(np.exp(np.mean([stats.entropy(p, marginal) for p in part])))
    mode.append(np.exp(np.mean([stats.entropy(p, labels) for p in part]) - stats.entropy(labels, marginal)))
  for found, scores in (
    (inception_score(1.0004 * probabilities, splits), inception),  # They are rescaled to sum to 1.
    (mode_score(probabilities, 0.9996 * labels, splits), mode),
  ):
    expected = (np.mean(scores), np.std(scores) if splits > 1 else found.std)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_the_error_of_one_split_is_the_spread_of_scores_of_other_samples():
  """By 400 bootstrap samples, whose standard deviation is known to 4 %."""
  rng, labels = np.random.default_rng(0), np.arange(1, 11) / 55
  probabilities = _softmax_rows(2000, 10, temperature=0.2)
  drawn = [probabilities[rng.integers(2000, size=2000)] for _ in range(400)]
  for score in (inception_score, lambda p: mode_score(p, labels)):
    np.testing.assert_allclose(score(probabilities).std, np.std([score(d).mean for d in drawn]), rtol=0.12)
  assert mode_score(np.eye(10)[np.zeros(50, int)], labels) == (0.0, 0.0)


# FID.


def _gaussian(mean, covariance):
  return FeatureStatistics(np.asarray(mean, np.float64), np.asarray(covariance, np.float64), 1000)


def _random(d, seed, rank=None):
  """A Gaussian with a random mean and a covariance of this rank, full by default."""
  rng = np.random.default_rng(seed)
  factor = rng.normal(size=[d, rank or d])
  return _gaussian(rng.normal(size=d), factor @ factor.T)


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
  root = linalg.sqrtm(a.covariance @ b.covariance).real
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
  q = stats.ortho_group(d, seed=seed).rvs()
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
  root = linalg.svdvals(u @ v.T).sum() / math.sqrt((n - 1) * (m - 1))
  variances = x.var(axis=0, ddof=1) + y.var(axis=0, ddof=1)
  expected = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + variances.sum() - 2 * root
  np.testing.assert_allclose(frechet_distance(feature_statistics(x), feature_statistics(y)), expected, rtol=1e-7)


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


@pytest.mark.parametrize(('n', 'm', 'd'), [(2, 2, 1), (5, 5, 3), (7, 130, 2), (3, 12, 50)])
def test_estimate_is_the_sum_over_pairs(n, m, d):
  rng = np.random.default_rng(n)
  x, y = rng.normal(size=[n, d]), 0.5 + rng.normal(size=[m, d])
  np.testing.assert_allclose(squared_mmd(x, y), _by_hand(x, y), rtol=1e-10)
  x, y = (1e3 + x).astype(np.float32), (1e3 + y).astype(np.float32)
  assert squared_mmd(x, y) == squared_mmd(x.astype(np.float64), y.astype(np.float64))


# Over subsets.


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
  assert score == kernel_distance(x, y, 4000, 2) != kernel_distance(x, y, 4000, 2, seed=1)
  for a, b in ((x, y), (y, x)):
    assert kernel_distance(a, b) == kernel_distance(a, b, subsets=100, subset_size=4)
  assert abs(score.mean - np.mean(values)) < 3 * np.std(values) / math.sqrt(4000)
  np.testing.assert_allclose(score.std, np.std(values), rtol=0.05)


# What is rejected.


GOOD = np.ones([4, 3])
BAD = np.append(np.zeros(999), np.nan)[:, None]  # Most subsets do not hold the bad row.


@pytest.mark.parametrize(
  ('score', 'message'),
  [
    (lambda: inception_score([0.5, 0.5]), r'`probabilities` must be of shape \[samples, classes\]'),
    (lambda: inception_score([[0.5, 0.5], [np.nan, 1.0], [1.5, -0.5], [0.5, 0.49]]), 'Got: 3 of 4 rows'),
    (lambda: inception_score(np.eye(3), 4), '`splits` must be an integer from 1 to 3'),
    (lambda: mode_score([[0.5, 0.5]], [1.0]), '`label_distribution` must'),
    (lambda: mode_score([[0.5, 0.5]], [1.0, 0.0]), '`label_distribution` must'),
    (lambda: mode_score([[0.5, 0.5]], [0.6, 0.6]), '`label_distribution` must'),
    (lambda: feature_statistics(GOOD[:1]), r'`features` must be of shape \[n, d\] .* Got: \(1, 3\)'),
    (lambda: kernel_distance(BAD, GOOD[:, :1], 1, 2), '`x` must be finite. Got: 1 of 1000 rows'),
    (lambda: kernel_distance(GOOD, np.inf * GOOD), '`y` must be finite. Got: 4 of 4 rows'),
    (lambda: kernel_distance(GOOD, GOOD, subsets=0), '`subsets` must be .* Got: 0'),
    (lambda: kernel_distance(GOOD, GOOD, subset_size=1), '`subset_size` must be .* Got: 1'),
    (lambda: kernel_distance(*[np.zeros((10**6, 1))] * 2, subset_size=10**6), '`subset_size` must fit .* Got: 24,000'),
  ],
)
def test_rejects_what_has_no_score(score, message):
  with pytest.raises(UsageError, match=message):
    score()
