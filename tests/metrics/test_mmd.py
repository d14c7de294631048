import itertools
import math

import numpy as np
import pytest
import scipy.stats

from flowgan_tf.metrics.mmd import kernel_distance, squared_mmd

pytestmark = pytest.mark.filterwarnings('error')


def _population_mmd(moments_x, moments_y):
  """The squared MMD of distributions on a line: (u v + 1)^3 is the sum of binomial(3, j) u^j v^j."""
  return sum(math.comb(3, j) * (moments_x[j] - moments_y[j]) ** 2 for j in (1, 2, 3))


def _by_hand(x, y):
  """The estimate as a sum over pairs, in Python."""
  n, m, d = len(x), len(y), len(x[0])

  def kernel(u, v):
    return (math.fsum(p * q for p, q in zip(u.tolist(), v.tolist(), strict=True)) / d + 1) ** 3

  within_x = math.fsum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
  within_y = math.fsum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
  return within_x + within_y - 2 * math.fsum(kernel(u, v) for u in x for v in y) / (n * m)


# The estimate.


@pytest.mark.parametrize(('n', 'm', 'd'), [(2, 2, 1), (5, 5, 3), (7, 4, 2), (3, 12, 50)])
def test_estimate_is_the_sum_over_pairs(n, m, d):
  rng = np.random.default_rng(n)
  x, y = rng.normal(size=[n, d]), 0.5 + rng.normal(size=[m, d])
  np.testing.assert_allclose(squared_mmd(x, y), _by_hand(x, y), rtol=1e-10)


def test_estimate_with_numbers_by_hand():
  # k(1, 2) = 3^3, k(0, 3) = 1; across, k = 1, 4^3, 1, 7^3.
  np.testing.assert_allclose(squared_mmd([[1], [2]], [[0], [3]]), 27 + 1 - 2 * (1 + 64 + 1 + 343) / 4, rtol=1e-14)


def test_float32_features_are_computed_in_float64():
  x, y = (1e3 + np.random.default_rng(0).normal(size=[2, 20, 4])).astype(np.float32)
  assert squared_mmd(x, y) == squared_mmd(x.astype(np.float64), y.astype(np.float64))


def test_expectation_over_all_samples_is_the_population_value():
  """It is exact: all pairs of samples of 2 and 3 draws from uniform distributions over a few points are averaged."""
  points_x, points_y = [0.0, 1.0, 3.0], [-1.0, 2.0]
  estimates = [
    squared_mmd(np.reshape(x, [2, 1]), np.reshape(y, [3, 1]))
    for x in itertools.product(points_x, repeat=2)
    for y in itertools.product(points_y, repeat=3)
  ]
  expected = _population_mmd(*([np.mean(np.power(p, j)) for j in range(4)] for p in (points_x, points_y)))
  np.testing.assert_allclose(np.mean(estimates), expected, rtol=1e-12)


def test_mean_for_samples_of_one_distribution_is_zero():
  rng = np.random.default_rng(0)
  estimates = [squared_mmd(*rng.normal(size=[2, 10, 3])) for _ in range(2000)]
  assert abs(np.mean(estimates)) < 3 * np.std(estimates) / math.sqrt(len(estimates))
  assert min(estimates) < 0


def test_mean_for_gaussians_on_a_line_is_the_distance_of_their_moments():
  p, q = scipy.stats.norm(0.5, 1), scipy.stats.norm(0, 1.5)
  expected = _population_mmd(*([1, *(g.moment(j) for j in (1, 2, 3))] for g in (p, q)))
  rng = np.random.default_rng(0)
  estimates = [squared_mmd(p.rvs([50, 1], rng), q.rvs([50, 1], rng)) for _ in range(4000)]
  error = np.std(estimates) / math.sqrt(len(estimates))
  assert error < 0.1 * expected
  assert abs(np.mean(estimates) - expected) < 3 * error


def test_distant_sets_are_distant_by_the_sixth_power_of_the_distance():
  """For rows 0 and c, the kernel is 1 in the first set, 1 between the sets, and (c^2 + 1)^3 in the second set."""
  x, y = np.zeros([4, 3]), np.full([5, 3], 10.0)
  np.testing.assert_allclose(squared_mmd(x, y), 1 + (100 + 1) ** 3 - 2, rtol=1e-14)
  # The kernel divides by d, so that d features equal to c differ as much as a single one.
  np.testing.assert_allclose(squared_mmd(x[:, :1], y[:, :1]), squared_mmd(x, y), rtol=1e-14)


# Over subsets.


def test_distance_of_one_subset_of_everything_is_the_estimate():
  x, y = np.random.default_rng(0).normal(size=[2, 30, 4])
  score = kernel_distance(x, y, subsets=1)
  np.testing.assert_allclose(score.mean, squared_mmd(x, y), rtol=1e-10)
  assert score.std == 0


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
  assert abs(score.mean - np.mean(values)) < 3 * np.std(values) / math.sqrt(4000)
  np.testing.assert_allclose(score.std, np.std(values), rtol=0.05)


def test_smaller_set_bounds_the_size_of_both_subsets():
  x, y = np.zeros([3, 1]), np.arange(10.0)[:, np.newaxis]
  # The subsets of y have three rows, and not always the same three.
  score = kernel_distance(x, y, subsets=20)
  possible = [squared_mmd(x, y[list(rows)]) for rows in itertools.combinations(range(10), 3)]
  assert min(possible) <= score.mean <= max(possible)
  assert score.std > 0
  score = kernel_distance(y, x, subsets=20)
  assert min(possible) <= score.mean <= max(possible)


def test_subsets_follow_the_seed():
  x, y = np.random.default_rng(0).normal(size=[2, 40, 4])
  scores = [kernel_distance(x, y, subsets=3, subset_size=10, seed=seed) for seed in (0, 0, 1)]
  assert scores[0] == scores[1] != scores[2]
  assert scores[0] == kernel_distance(x, y, subsets=3, subset_size=10)


# Mistakes.


@pytest.mark.parametrize('distance', [squared_mmd, kernel_distance])
def test_bad_features_are_refused(distance):
  good = np.ones([4, 3])
  with pytest.raises(ValueError, match=r'`x` must have shape \[n, d\] with n >= 2 .* Got: \(1, 3\)'):
    distance(good[:1], good)
  with pytest.raises(ValueError, match=r'`y` must have shape .* Got: \(4,\)'):
    distance(good, good[:, 0])
  with pytest.raises(ValueError, match=r'`x` and `y` must be of the same dimension. Got: 3 and 2'):
    distance(good, good[:, :2])
  for value in (math.nan, math.inf):
    bad = good.copy()
    bad[3, 1] = value
    with pytest.raises(ValueError, match=r'`y` must be finite. Got: 1 of 4 rows'):
      distance(good, bad)


def test_a_bad_row_is_refused_whether_a_subset_holds_it_or_not():
  x = np.ones([1000, 1])
  x[7] = math.nan
  with pytest.raises(ValueError, match=r'`x` must be finite. Got: 1 of 1000 rows'):
    kernel_distance(x, np.ones([5, 1]), subsets=1, subset_size=2)


def test_bad_subsets_are_refused():
  x = np.ones([4, 3])
  with pytest.raises(ValueError, match=r'`subsets` must be at least 1. Got: 0'):
    kernel_distance(x, x, subsets=0)
  with pytest.raises(ValueError, match=r'`subset_size` must be at least 2. Got: 1'):
    kernel_distance(x, x, subset_size=1)
