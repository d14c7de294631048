"""The mixture of Gaussians against scikit-learn, SciPy and closed forms, and the analysis that uses it."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import KernelDensity

from flowgan_tf.base.errors import UsageError
from flowgan_tf.study import GaussianMixture, kde
from flowgan_tf.study.kde import Kde


def uniform(n: int, d: int, seed: int = 0, dtype=np.float64) -> np.ndarray:
  return np.random.default_rng(seed).random((n, d)).astype(dtype)


def as_images(vectors):
  return np.reshape(vectors, (len(vectors), -1, 1, 1))


def log_prob(x, centers, bandwidths):
  return GaussianMixture(as_images(centers)).log_prob(as_images(x), bandwidths)


def chosen(centers, x):
  return GaussianMixture(as_images(centers)).choose_bandwidth(as_images(x))


def sklearn_log_prob(x, centers, bandwidth):
  # One leaf, because scikit-learn's trees leave out too much in high dimensions (its issue 7492).
  return KernelDensity(bandwidth=bandwidth, leaf_size=len(centers)).fit(centers).score_samples(x)


@pytest.mark.parametrize(('d', 'dtype'), [(1, np.float64), (2, np.float32), (784, np.float32)])
def test_is_sklearns_kernel_density(d, dtype):
  x, centers, bandwidths = uniform(30, d, dtype=dtype), uniform(200, d, seed=1, dtype=dtype), [1e-3, 0.02, 0.5, 3]
  values = log_prob(x, centers, bandwidths)
  assert values.shape == (4, 30) and values.dtype == np.float64
  for h, value in zip(bandwidths, values, strict=True):
    np.testing.assert_allclose(value, sklearn_log_prob(x, centers, h), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('h', [1e-5, 1e-3])
def test_digits_of_small_distances_survive_small_bandwidths(h):
  """|x|^2 + |c|^2 - 2 xc in float32 is off by 1e-5 here, up to 1e5 nats after division by 2 h^2."""
  centers = uniform(100, 784, dtype=np.float32)
  x = np.concatenate([centers[:5], centers[5:10] + np.float32(h) * np.random.default_rng(2).standard_normal((5, 784))])
  np.testing.assert_allclose(log_prob(x, centers, [h])[0], sklearn_log_prob(x, centers, h), rtol=3e-6)
  # Rounding lifts no density above the peak, which is higher by log n.
  assert np.all(log_prob(centers, centers, [1e-8]) <= -392 * math.log(2 * math.pi * 1e-16))


@pytest.mark.parametrize(('m', 'n'), [(1, 1), (16, 40), (17, 41), (50, 123)])
def test_blocks_make_no_difference(monkeypatch, m, n):
  """Fewer than a block, whole blocks, and one more. The farthest images and the nearest centres come last."""
  monkeypatch.setattr(kde, '_IMAGES', 8)
  monkeypatch.setattr(kde, '_CENTERS', 20)
  x = uniform(m, 6) * np.linspace(0.1, 5, m)[:, np.newaxis]
  centers = uniform(n, 6, seed=1) + np.linspace(4, 0, n)[:, np.newaxis]
  squared, bandwidths = cdist(x, centers, 'sqeuclidean'), [1e-30, 0.01, 0.2, 1e30]
  for h, value in zip(bandwidths, log_prob(x, centers, bandwidths), strict=True):
    expected = logsumexp(-squared / (2 * h**2), axis=1) - math.log(n) - 3 * math.log(2 * math.pi * h**2)
    np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_samples_have_the_moments_of_the_mixture():
  """Mean of the centres; covariance of the centres plus h^2 I. One seed gives the same centres and noise."""
  centers, n, h = uniform(7, 3, dtype=np.float32), 200_000, 0.2
  mixture = GaussianMixture(as_images(centers))
  images = mixture.sample(n, h, seed=0)
  assert images.shape == (n, 3, 1, 1) and images.dtype == np.float32
  samples, tolerance = images.reshape(n, 3), 5 / math.sqrt(n)
  covariance = np.cov(centers, rowvar=False, bias=True) + h**2 * np.eye(3)
  np.testing.assert_allclose(samples.mean(axis=0), centers.mean(axis=0), atol=tolerance * 0.4)
  np.testing.assert_allclose(np.cov(samples, rowvar=False), covariance, atol=tolerance * 0.2)
  near = mixture.sample(n, 1e-3, seed=0)
  np.testing.assert_allclose(mixture.sample(n, 0.5, seed=0), near + (images - near) * 0.499 / 0.199, atol=1e-5)
  assert not np.array_equal(images, mixture.sample(n, h, seed=1))


@pytest.mark.parametrize('spread', [0.002, 0.4])
def test_the_bandwidth_is_the_closed_form_of_one_centre(spread):
  """For a single Gaussian, h^2 = mean |x - c|^2 / d."""
  x = spread * np.random.default_rng(0).standard_normal((300, 50))
  assert chosen(np.zeros([1, 50]), x) == pytest.approx(math.sqrt(np.mean(x**2)), rel=1e-3)


def test_the_bandwidth_is_sklearns_grid_search():
  rng = np.random.default_rng(3)
  centers = np.concatenate([rng.normal(0.2, 0.05, (80, 2)), rng.normal(0.8, 0.1, (60, 2))])
  x = np.concatenate([rng.normal(0.2, 0.05, (40, 2)), rng.normal(0.8, 0.1, (30, 2))])
  grid = np.geomspace(0.03, 0.1, 60)
  fold = PredefinedSplit(np.repeat([-1, 0], [len(centers), len(x)]))
  search = GridSearchCV(KernelDensity(leaf_size=200), {'bandwidth': grid}, cv=fold, refit=False)
  best = search.fit(np.concatenate([centers, x])).best_params_['bandwidth']
  assert grid[0] < best < grid[-1]
  assert chosen(centers, x) == pytest.approx(best, rel=grid[1] / grid[0] - 1)
  # The search ends at the ends of its range.
  assert (chosen(centers, centers), chosen(centers, centers + 100)) == (1e-4, 1)


def test_the_search_uses_some_images_at_random(monkeypatch):
  monkeypatch.setattr(kde, '_SEARCH_IMAGES', 100)
  # Sorted, as if by class: the first or the last 100 would give 0.1 or 0.4.
  x = np.repeat([0.1, 0.4], 500)[:, np.newaxis] * np.random.default_rng(0).standard_normal((1000, 20))
  best, found = math.sqrt(np.mean(x**2)), chosen(np.zeros([1, 20]), x)
  assert found == pytest.approx(best, rel=0.1) and found != pytest.approx(best, rel=2e-3)


def test_grey_levels_are_rejected():
  with pytest.raises(UsageError, match='`images` must be floats'):
    GaussianMixture(np.zeros((2, 4, 4, 1), np.uint8))


def test_the_analysis_is_a_kernel_density_on_the_samples(subject):
  numbers, arrays = Kde().measure(subject, Kde.Settings(samples=60))
  images = (subject.samples(60, 0), subject.images('validation'), subject.images('test'))
  samples, validation, test = (x.reshape(len(x), -1) for x in images)
  expected = sklearn_log_prob(test, samples, numbers['bandwidth'])
  assert (numbers['nll'], numbers['standard_error']) == pytest.approx((-expected.mean(), stats.sem(expected)), rel=1e-6)
  assert (numbers['n_samples'], numbers['n_validation'], numbers['n_test']) == (60, len(validation), len(test))
  # The bandwidth is chosen on the validation images.
  best = sklearn_log_prob(validation, samples, numbers['bandwidth']).mean()
  for factor in (0.97, 1.03):
    assert best > sklearn_log_prob(validation, samples, factor * numbers['bandwidth']).mean()
  # The exact value is of the same images.
  exact = subject.run.generator.log_prob(images[-1]).numpy().astype(np.float64)
  assert numbers['exact_nll'] == pytest.approx(-exact.mean(), rel=1e-5, abs=1e-5)
  assert numbers['exact_n'] == len(exact) and arrays == {}
