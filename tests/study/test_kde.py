"""The mixture of Gaussians against scikit-learn, SciPy and closed forms, and the analysis that uses it."""

import math

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import KernelDensity

from flowgan_tf.errors import UsageError
from flowgan_tf.study import GaussianMixture, kde
from flowgan_tf.study.kde import Kde


def uniform(number: int, *shape: int, seed: int = 0, dtype=np.float64) -> np.ndarray:
  return np.random.default_rng(seed).random((number, *shape)).astype(dtype)


def log_prob(images, centers, bandwidths):
  return GaussianMixture(centers).log_prob(images, bandwidths)


def sklearn_log_prob(images, centers, bandwidth):
  # One leaf, because scikit-learn's trees leave out too much in high dimensions (its issue 7492).
  density = KernelDensity(kernel='gaussian', bandwidth=bandwidth, leaf_size=len(centers))
  return density.fit(centers).score_samples(images)


def test_by_hand():
  """Centres at 0 and 1, bandwidth 1/2: at 0, (1 + e^-2) / 2 of the peak, which is 2 / sqrt(2 pi)."""
  value = log_prob(np.array([[0.0]]), np.array([[0.0], [1.0]]), [0.5])
  assert value == pytest.approx(math.log((1 + math.exp(-2)) / math.sqrt(2 * math.pi)), rel=1e-12)


@pytest.mark.parametrize(('d', 'dtype'), [(1, np.float64), (2, np.float32), (784, np.float32), (784, np.float64)])
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
  np.testing.assert_allclose(log_prob(x, centers, [h])[0], sklearn_log_prob(x, centers, h), rtol=1e-6)


@pytest.mark.parametrize(('m', 'n'), [(1, 1), (16, 40), (17, 41), (50, 123)])
def test_blocks_make_no_difference(monkeypatch, m, n):
  """Fewer than a block, whole blocks, and one more. The farthest images and the nearest centres come last."""
  monkeypatch.setattr(kde, '_IMAGES', 8)
  monkeypatch.setattr(kde, '_CENTERS', 20)
  x = uniform(m, 6) * np.linspace(0.1, 5, m)[:, np.newaxis]
  centers = uniform(n, 6, seed=1) + np.linspace(4, 0, n)[:, np.newaxis]
  squared = cdist(x, centers, 'sqeuclidean')
  for h, value in zip([0.01, 0.2], log_prob(x, centers, [0.01, 0.2]), strict=True):
    expected = logsumexp(-squared / (2 * h**2), axis=1) - math.log(n) - 3 * math.log(2 * math.pi * h**2)
    np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_images_of_any_shape_are_vectors():
  x, centers = uniform(4, 24), uniform(9, 24, seed=1)
  images = log_prob(x.reshape(4, 4, 3, 2), centers.reshape(9, 4, 3, 2), [0.3])
  np.testing.assert_array_equal(images, log_prob(x, centers, [0.3]))


def test_integrates_to_1_on_a_line():
  centers = np.array([[0.1], [0.4], [0.45]])
  total, _ = integrate.quad(lambda x: math.exp(log_prob(np.array([[x]]), centers, [0.07]).item()), -1, 2, limit=200)
  assert total == pytest.approx(1, abs=1e-7)


def test_extreme_bandwidths_are_finite():
  x, centers = uniform(20, 784), uniform(300, 784, seed=1)
  values = log_prob(x, centers, [1e-100, 1e-30, 1e30, 1e100])
  assert np.isfinite(values).all()
  nearest = cdist(x, centers, 'sqeuclidean').min(axis=1)
  np.testing.assert_allclose(values[1], -nearest / 2e-60, rtol=1e-9)
  # At a bandwidth far larger than the data, all centres coincide.
  np.testing.assert_allclose(values[2], -392 * math.log(2 * math.pi * 1e60), rtol=1e-12)


def test_rounding_lifts_no_density_above_the_peak():
  centers = uniform(200, 784)
  assert np.all(log_prob(centers, centers, [1e-8]) <= -392 * math.log(2 * math.pi * 1e-16))


def test_samples_have_the_moments_of_the_mixture():
  """Mean of the centres; covariance of the centres plus h^2 I."""
  centers, n, h = uniform(7, 3, dtype=np.float32), 200_000, 0.2
  samples = GaussianMixture(centers).sample(n, h, seed=0)
  assert samples.shape == (n, 3) and samples.dtype == np.float32
  covariance = np.cov(centers, rowvar=False, bias=True) + h**2 * np.eye(3)
  tolerance = 5 / math.sqrt(n)
  np.testing.assert_allclose(samples.mean(axis=0), centers.mean(axis=0), atol=tolerance * 0.4)
  np.testing.assert_allclose(np.cov(samples, rowvar=False), covariance, atol=tolerance * 0.2)


def test_samples_of_one_seed_have_the_same_centres_and_noise():
  mixture = GaussianMixture(uniform(50, 4, 3, 2, dtype=np.float32))
  first = mixture.sample(10, 0.1, seed=0)
  assert first.shape == (10, 4, 3, 2)
  assert not np.array_equal(first, mixture.sample(10, 0.1, seed=1))
  near = mixture.sample(10, 1e-3, seed=0)
  noise = (first - near) / (0.1 - 1e-3)
  assert 0.8 < noise.std() < 1.2
  np.testing.assert_allclose(mixture.sample(10, 0.5, seed=0), near + (0.5 - 1e-3) * noise, atol=1e-5)


@pytest.mark.parametrize(
  ('centers', 'images', 'bandwidth', 'message'),
  [
    (np.zeros([5, 4], np.uint8), uniform(2, 4), 1, r"`centers` must be floats .*Got: 'uint8 of \(5, 4\)'"),
    (uniform(0, 4), uniform(2, 4), 1, r'`centers` must be floats .* of \(0, 4\)'),
    (uniform(5), uniform(2, 4), 1, r'`centers` must be floats .* of \(5,\)'),
    (uniform(5, 4), uniform(2, 4) * [[1], [np.nan]], 1, "`images` must be finite. Got: 'NaN or infinity'"),
    (uniform(5, 4), uniform(2, 2, 2), 1, r"`images` must be of the centres' shape, \(4,\)\. Got: \(2, 2, 2\)"),
    (uniform(5, 4), uniform(2, 4), 0, '`bandwidths` must be numbers from 1e-100 to 1e100'),
    (uniform(5, 4), uniform(2, 4), math.nan, '`bandwidths` must be '),
  ],
)
def test_what_would_give_wrong_densities_is_refused(centers, images, bandwidth, message):
  with pytest.raises(UsageError, match=message):
    log_prob(images, centers, [0.1, bandwidth])


@pytest.mark.parametrize('spread', [0.002, 0.4])
def test_the_bandwidth_is_the_closed_form_of_one_centre(spread):
  """For a single Gaussian, h^2 = mean |x - c|^2 / d."""
  x = spread * np.random.default_rng(0).standard_normal((300, 50))
  assert GaussianMixture(np.zeros([1, 50])).choose_bandwidth(x) == pytest.approx(math.sqrt(np.mean(x**2)), rel=1e-3)


def test_the_bandwidth_is_sklearns_grid_search():
  rng = np.random.default_rng(3)
  centers = np.concatenate([rng.normal(0.2, 0.05, (80, 2)), rng.normal(0.8, 0.1, (60, 2))])
  x = np.concatenate([rng.normal(0.2, 0.05, (40, 2)), rng.normal(0.8, 0.1, (30, 2))])
  grid = np.geomspace(0.03, 0.1, 60)
  search = GridSearchCV(
    KernelDensity(leaf_size=200),
    {'bandwidth': grid},
    cv=PredefinedSplit(np.repeat([-1, 0], [len(centers), len(x)])),
    refit=False,
  ).fit(np.concatenate([centers, x]))
  best = search.best_params_['bandwidth']
  assert grid[0] < best < grid[-1]
  assert GaussianMixture(centers).choose_bandwidth(x) == pytest.approx(best, rel=grid[1] / grid[0] - 1)


def test_the_search_uses_some_images_at_random(monkeypatch):
  monkeypatch.setattr(kde, '_SEARCH_IMAGES', 100)
  # Sorted, as if by class: the first or the last 100 would give 0.1 or 0.4.
  x = np.repeat([0.1, 0.4], 500)[:, np.newaxis] * np.random.default_rng(0).standard_normal((1000, 20))
  best, found = math.sqrt(np.mean(x**2)), GaussianMixture(np.zeros([1, 20])).choose_bandwidth(x)
  assert found == pytest.approx(best, rel=0.1) and found != pytest.approx(best, rel=2e-3)


def test_the_search_ends_at_the_ends_of_its_range():
  centers = uniform(20, 5)
  mixture = GaussianMixture(centers)
  assert mixture.choose_bandwidth(centers) == 1e-4
  assert mixture.choose_bandwidth(centers + 100) == 1


def test_the_estimate_is_far_from_the_likelihood_in_many_dimensions():
  """The estimate is for a perfect generator, from 3,000 samples. Theis et al. warn of this."""

  def excess(d):
    samples, validation, test = (
      0.5 + 0.1 * np.random.default_rng(seed).standard_normal((n, d)) for seed, n in enumerate([3000, 1000, 1000])
    )
    window = GaussianMixture(samples)
    nll = -window.log_prob(test, [window.choose_bandwidth(validation)]).mean()
    return nll / d - stats.norm(scale=0.1).entropy()

  assert abs(excess(1)) < 0.1
  assert excess(64) > 0.15


def test_the_analysis_is_a_kernel_density_on_the_samples(subject):
  numbers, arrays = Kde().measure(subject, Kde.Settings(samples=60))
  images = (subject.samples(60, 0), subject.images('validation'), subject.images('test'))
  samples, validation, test = (x.reshape(len(x), -1) for x in images)
  expected = sklearn_log_prob(test, samples, numbers['bandwidth'])
  assert numbers['nll'] == pytest.approx(-expected.mean(), rel=1e-6)
  assert numbers['standard_error'] == pytest.approx(stats.sem(expected), rel=1e-6)
  assert (numbers['n_samples'], numbers['n_validation'], numbers['n_test']) == (60, len(validation), len(test))
  assert arrays == {}
  # The bandwidth is chosen on the validation images.
  best = sklearn_log_prob(validation, samples, numbers['bandwidth']).mean()
  for factor in (0.97, 1.03):
    assert best > sklearn_log_prob(validation, samples, factor * numbers['bandwidth']).mean()
  # The exact value is of the same images.
  exact = subject.run.generator.log_prob(subject.images('test')).numpy().astype(np.float64)
  np.testing.assert_allclose(numbers['exact_nll'], -exact.mean(), rtol=1e-5, atol=1e-5)
  assert numbers['exact_n'] == len(exact)
