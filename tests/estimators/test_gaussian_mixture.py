import math

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KernelDensity

from flowgan_tf.estimators.gaussian_mixture import GaussianMixture, bandwidth_study, winning_range


def images(number: int, shape=(4, 3, 2), seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).random((number, *shape), dtype=np.float32)


def test_log_prob_is_sklearns():
  mixture, x = GaussianMixture(images(50)), images(9, seed=1)
  for h, log_prob in zip([0.05, 0.3], mixture.log_prob(x, [0.05, 0.3]), strict=True):
    expected = KernelDensity(bandwidth=h, leaf_size=50).fit(images(50).reshape(50, -1)).score_samples(x.reshape(9, -1))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-9)


def test_samples_have_the_moments_of_the_mixture():
  """Mean of the centres; covariance of the centres plus h^2 I."""
  centers, n, h = images(7, shape=(3,)), 200_000, 0.2
  samples = GaussianMixture(centers).sample(n, h, seed=0)
  assert samples.shape == (n, 3) and samples.dtype == np.float32
  covariance = np.cov(centers, rowvar=False, bias=True) + h**2 * np.eye(3)
  tolerance = 5 / math.sqrt(n)
  np.testing.assert_allclose(samples.mean(axis=0), centers.mean(axis=0), atol=tolerance * 0.4)
  np.testing.assert_allclose(np.cov(samples, rowvar=False), covariance, atol=tolerance * 0.2)


def test_samples_are_normal_around_centres_chosen_alike():
  centers = np.array([[0.0], [1.0], [5.0]], np.float32)
  samples = GaussianMixture(centers).sample(3000, 0.1, seed=1)
  nearest = np.abs(samples - centers.T).argmin(axis=1)
  assert stats.chisquare(np.bincount(nearest)).pvalue > 1e-3
  assert stats.kstest((samples - centers[nearest]).ravel() / 0.1, 'norm').pvalue > 1e-3


def test_samples_come_from_the_seed():
  mixture = GaussianMixture(images(50))
  first = mixture.sample(10, 0.1, seed=0)
  assert first.shape == (10, 4, 3, 2)
  np.testing.assert_array_equal(first, mixture.sample(10, 0.1, seed=0))
  assert not np.array_equal(first, mixture.sample(10, 0.1, seed=1))
  # The same centres and noise for another bandwidth: what remains is the noise, scaled.
  near = mixture.sample(10, 1e-3, seed=0)
  noise = (first - near) / (0.1 - 1e-3)
  assert 0.8 < noise.std() < 1.2
  np.testing.assert_allclose(mixture.sample(10, 0.5, seed=0), near + (0.5 - 1e-3) * noise, atol=1e-5)


@pytest.mark.parametrize(
  ('centers', 'message'),
  [
    (np.zeros([5, 4, 4, 1], np.uint8), '`centers` must be dequantised images, floats .* Got: uint8'),
    (images(0), r'`centers` must have shape .* Got: \(0, 4, 3, 2\)'),
    (np.zeros(5), r'`centers` must have shape .* Got: \(5,\)'),
  ],
)
def test_refuses_centres(centers, message):
  with pytest.raises(ValueError, match=message):
    GaussianMixture(centers)


def test_study():
  mixture, x, bandwidths = GaussianMixture(images(40)), images(15, seed=1), [0.4, 0.01]
  scored = []

  def score(samples):
    scored.append(samples)
    return {'spread': float(samples.std()), 'score_samples': len(samples)}

  records = bandwidth_study(mixture, x, score, bandwidths, samples=30, seed=5)
  for h, record, samples in zip(bandwidths, records, scored, strict=True):
    log_density = (
      KernelDensity(bandwidth=h, leaf_size=50).fit(images(40).reshape(40, -1)).score_samples(x.reshape(15, -1))
    )
    assert record['bandwidth'] == h and record['n'] == 15
    assert record['nll'] == pytest.approx(-log_density.mean(), rel=1e-9)
    assert record['standard_error'] == pytest.approx(stats.sem(log_density), rel=1e-6)
    np.testing.assert_array_equal(samples, np.clip(mixture.sample(30, h, seed=5), 0, 1))
    assert record['spread'] == float(samples.std()) and record['score_samples'] == 30
  assert mixture.sample(30, 0.4, seed=5).max() > 1 >= scored[0].max()


def test_study_without_scores():
  (record,) = bandwidth_study(GaussianMixture(images(40)), images(1, seed=1), None, [0.2], samples=0, seed=0)
  assert list(record) == ['bandwidth', 'nll', 'standard_error', 'n']
  assert math.isnan(record['standard_error'])


def records(bandwidths, nlls, scores):
  rows = zip(bandwidths, nlls, scores, strict=True)
  return [{'bandwidth': h, 'nll': nll, 'mode_score': score} for h, nll, score in rows]


DECADES = [1e-3, 1e-2, 1e-1, 1.0]


def test_winning_range_by_hand():
  """NLL falls through 50 halfway between 1e-3 and 1e-2, the score through 7 a third of the way from 0.1 to 1."""
  curve = records(DECADES, [100, 0, -10, 40], [9, 9, 8, 5])
  assert winning_range(curve, 50, 7, 'mode_score') == pytest.approx((10**-2.5, 10 ** (-1 + 1 / 3)))
  assert winning_range(curve[::-1], 50, 7, 'mode_score') == pytest.approx((10**-2.5, 10 ** (-1 + 1 / 3)))


def test_winning_range_ends_where_either_loses():
  """NLL wins between log10 h = -2.5 and -0.5, the score below -1.5."""
  curve = records(DECADES, [100, 0, 0, 100], [9, 9, 5, 5])
  assert winning_range(curve, 50, 7, 'mode_score') == pytest.approx((10**-2.5, 10**-1.5))


def test_winning_range_may_lie_between_two_bandwidths_visited():
  """NLL wins above log10 h = -1.75, the score below -1.25."""
  curve = records(DECADES, [100, 100, 0, 0], [9, 9, 1, 1])
  assert winning_range(curve, 75, 3, 'mode_score') == pytest.approx((10**-1.75, 10**-1.25))


def test_everything_wins_as_far_as_was_visited():
  assert winning_range(records(DECADES, [1, 2, 3, 4], [9, 9, 9, 9]), 5, 8, 'mode_score') == pytest.approx((1e-3, 1))


@pytest.mark.parametrize(
  ('nll', 'score'),
  [(-20, 0), (1000, 10), (50, 8.5), (-10, 0), (1000, 9)],
  ids=['NLL', 'score', 'each, but elsewhere', 'equal NLL', 'equal score'],
)
def test_nothing_wins(nll, score):
  assert winning_range(records(DECADES, [200, 150, 100, -10], [9, 8, 3, 2]), nll, score, 'mode_score') is None


def test_the_widest_of_several_ranges():
  """The score wins below -2.5 and from there only above -1.5."""
  curve = records(DECADES, [0, 0, 0, 0], [9, 5, 9, 9])
  assert winning_range(curve, 1, 7, 'mode_score') == pytest.approx((10**-1.5, 1))


def test_winning_range_refuses():
  with pytest.raises(
    ValueError, match=r"`records` must hold `score_name`, 'inception_score'. Got: none at bandwidths \[0.001, 0.0"
  ):
    winning_range(records(DECADES, [1] * 4, [1] * 4), 1, 1, 'inception_score')
  with pytest.raises(ValueError, match=r'two or more bandwidths. Got: \[0.1\]'):
    winning_range(records([0.1], [1], [1]), 2, 0, 'mode_score')
