import math
import time
import tracemalloc

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import KernelDensity

from flowgan_tf import data
from flowgan_tf.estimators import parzen
from flowgan_tf.estimators.parzen import bandwidth_curve, choose_bandwidth, log_density


def uniform(number: int, d: int, seed: int = 0, dtype=np.float64) -> np.ndarray:
  return np.random.default_rng(seed).random((number, d)).astype(dtype)


def sklearn_log_density(images, centers, bandwidth):
  # One leaf, because scikit-learn's trees leave out too much in high dimensions (its issue 7492).
  density = KernelDensity(kernel='gaussian', bandwidth=bandwidth, leaf_size=len(centers))
  return density.fit(centers).score_samples(images)


def test_by_hand():
  """Centres at 0 and 1, bandwidth 1/2: at 0, (1 + e^-2) / 2 of the peak, which is 2 / sqrt(2 pi)."""
  value = log_density(np.array([[0.0]]), np.array([[0.0], [1.0]]), [0.5])
  assert value == pytest.approx(math.log((1 + math.exp(-2)) / math.sqrt(2 * math.pi)), rel=1e-12)


def test_is_scipys_mixture_of_normals():
  x, centers, bandwidths = uniform(7, 2), uniform(5, 2, seed=1), [0.05, 0.3, 2.0]
  expected = [
    np.log(np.mean([stats.multivariate_normal(c, h**2 * np.eye(2)).pdf(x) for c in centers], axis=0))
    for h in bandwidths
  ]
  np.testing.assert_allclose(log_density(x, centers, bandwidths), expected, rtol=1e-11)


@pytest.mark.parametrize('d', [1, 2, 64, 784])
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_is_sklearns_kernel_density(d, dtype):
  x, centers, bandwidths = uniform(30, d, dtype=dtype), uniform(200, d, seed=1, dtype=dtype), [1e-3, 0.02, 0.1, 0.5, 3]
  values = log_density(x, centers, bandwidths)
  assert values.shape == (5, 30) and values.dtype == np.float64
  for h, value in zip(bandwidths, values, strict=True):
    np.testing.assert_allclose(value, sklearn_log_density(x, centers, h), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('h', [1e-5, 1e-4, 1e-3, 1e-2])
def test_digits_of_small_distances_survive_small_bandwidths(h):
  """|x|^2 + |c|^2 - 2 xc in float32 is off by 1e-5 here, up to 1e5 nats after division by 2 h^2."""
  centers = uniform(100, 784, dtype=np.float32)
  x = np.concatenate([centers[:5], centers[5:10] + np.float32(h) * np.random.default_rng(2).standard_normal((5, 784))])
  np.testing.assert_allclose(log_density(x, centers, [h])[0], sklearn_log_density(x, centers, h), rtol=1e-6)


@pytest.mark.parametrize(('m', 'n'), [(1, 1), (1, 40), (41, 1), (16, 40), (17, 41), (15, 39), (50, 123)])
def test_blocks_make_no_difference(monkeypatch, m, n):
  """Fewer than a block, exactly one block, and one more. The farthest images and the nearest centres come last."""
  monkeypatch.setattr(parzen, '_IMAGES', 8)
  monkeypatch.setattr(parzen, '_CENTERS', 20)
  x = uniform(m, 6) * np.linspace(0.1, 5, m)[:, np.newaxis]
  centers = uniform(n, 6, seed=1) + np.linspace(4, 0, n)[:, np.newaxis]
  squared = cdist(x, centers, 'sqeuclidean')
  for h, value in zip([0.01, 0.2], log_density(x, centers, [0.01, 0.2]), strict=True):
    expected = logsumexp(-squared / (2 * h**2), axis=1) - math.log(n) - 3 * math.log(2 * math.pi * h**2)
    np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_images_of_any_shape_are_vectors():
  x, centers = uniform(4, 24, dtype=np.float32), uniform(9, 24, seed=1, dtype=np.float32)
  images = log_density(x.reshape(4, 4, 3, 2), centers.reshape(9, 4, 3, 2), [0.3])
  np.testing.assert_array_equal(images, log_density(x, centers, [0.3]))


def test_integrates_to_1_on_a_line():
  centers = np.array([[0.1], [0.4], [0.45]])
  total, _ = integrate.quad(lambda x: math.exp(log_density(np.array([[x]]), centers, [0.07]).item()), -1, 2, limit=200)
  assert total == pytest.approx(1, abs=1e-7)


def test_integrates_to_1_in_the_plane():
  axis = np.linspace(-1.5, 2.5, 401)
  points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
  densities = np.exp(log_density(points, uniform(7, 2), [0.1, 0.25]))
  # The trapezoidal rule converges exponentially for functions that vanish at the border.
  np.testing.assert_allclose(densities.sum(axis=1) * 0.01**2, 1, atol=1e-8)


def test_extreme_bandwidths_are_finite():
  x, centers = uniform(20, 784), uniform(300, 784, seed=1)
  values = log_density(x, centers, [1e-100, 1e-30, 1e30, 1e100])
  assert np.isfinite(values).all()
  nearest = cdist(x, centers, 'sqeuclidean').min(axis=1)
  np.testing.assert_allclose(values[1], -nearest / 2e-60, rtol=1e-9)
  # At a bandwidth far larger than the data, all centres coincide.
  np.testing.assert_allclose(values[2], -392 * math.log(2 * math.pi * 1e60), rtol=1e-12)


def test_a_centre_has_the_density_of_the_peak_at_any_bandwidth():
  centers = uniform(50, 784, dtype=np.float32)
  np.testing.assert_allclose(
    log_density(centers[:3], centers, [1e-5, 1e-2]),
    np.repeat([[-math.log(50) - 392 * math.log(2 * math.pi * h**2)] for h in (1e-5, 1e-2)], 3, axis=1),
    rtol=1e-6,
  )


def test_rounding_lifts_no_density_above_the_peak():
  centers = uniform(200, 784)
  assert np.all(log_density(centers, centers, [1e-8]) <= -392 * math.log(2 * math.pi * 1e-16))


BAD = {
  'integers': (np.zeros([2, 3], np.uint8), uniform(4, 3), [1], '`images` must be floats. Got: uint8'),
  'integer centres': (uniform(4, 3), np.zeros([2, 3], int), [1], '`centers` must be floats. Got: int64'),
  'shapes': (uniform(2, 3), uniform(4, 5), [1], r'one shape. Got: \(3,\) and \(5,\)'),
  'layout': (uniform(2, 4).reshape(2, 2, 2), uniform(4, 4), [1], r'one shape. Got: \(2, 2\) and \(4,\)'),
  'rank': (uniform(2, 3)[0], uniform(4, 3), [1], r'`images` must have shape \[number, ...\], not empty. Got: \(3,\)'),
  'no centres': (uniform(2, 3), uniform(0, 3), [1], r'`centers` must have shape .* Got: \(0, 3\)'),
  'NaN': (uniform(2, 3) * [[1], [np.nan]], uniform(4, 3), [1], '`images` must be finite. Got: 1 of 2'),
  'infinity': (uniform(2, 3), uniform(4, 3) + np.inf, [1], '`centers` must be finite. Got: 4 of 4'),
  'no bandwidth': (uniform(2, 3), uniform(4, 3), [], r'`bandwidths` must be one or more .* Got: \[\]'),
  'a number': (uniform(2, 3), uniform(4, 3), 0.1, '`bandwidths` must be .* Got: 0.1'),
  'zero': (uniform(2, 3), uniform(4, 3), [0.1, 0], '`bandwidths` must be .* 1e-100 to 1e100'),
  'negative': (uniform(2, 3), uniform(4, 3), [-0.1], '`bandwidths` must be '),
  'NaN bandwidth': (uniform(2, 3), uniform(4, 3), [math.nan], '`bandwidths` must be '),
  'infinite bandwidth': (uniform(2, 3), uniform(4, 3), [math.inf], '`bandwidths` must be '),
}


@pytest.mark.parametrize(('x', 'centers', 'bandwidths', 'message'), BAD.values(), ids=BAD.keys())
def test_refuses(x, centers, bandwidths, message):
  with pytest.raises(ValueError, match=message):
    log_density(x, centers, bandwidths)


@pytest.mark.parametrize('spread', [0.002, 0.03, 0.4])
def test_choice_is_the_closed_form_of_one_centre(spread):
  """For a single Gaussian, h^2 = mean |x - c|^2 / d."""
  x = spread * np.random.default_rng(0).standard_normal((300, 50))
  choice = choose_bandwidth(x, np.zeros([1, 50]))
  best = math.sqrt(np.mean(x**2))
  assert choice.bandwidth == pytest.approx(best, rel=1e-3)
  expected = stats.norm(scale=best).logpdf(x).sum(axis=1)
  assert choice.mean_log_density == pytest.approx(expected.mean(), abs=1e-3)
  assert choice.standard_error == pytest.approx(stats.sem(expected), rel=1e-2)
  assert choice.n == 300


def test_choice_is_sklearns_grid_search():
  rng = np.random.default_rng(3)
  centers = np.concatenate([rng.normal(0.2, 0.05, (80, 2)), rng.normal(0.8, 0.1, (60, 2))])
  x = np.concatenate([rng.normal(0.2, 0.05, (40, 2)), rng.normal(0.8, 0.1, (30, 2))])
  grid = np.geomspace(0.01, 0.2, 120)
  search = GridSearchCV(
    KernelDensity(leaf_size=200),
    {'bandwidth': grid},
    cv=PredefinedSplit(np.repeat([-1, 0], [len(centers), len(x)])),
    refit=False,
  ).fit(np.concatenate([centers, x]))
  choice = choose_bandwidth(x, centers)
  assert choice.bandwidth == pytest.approx(search.best_params_['bandwidth'], rel=grid[1] / grid[0] - 1)
  assert choice.mean_log_density * len(x) == pytest.approx(search.best_score_, abs=0.02)
  assert choice.mean_log_density * len(x) >= search.best_score_ - 1e-3


def test_search_uses_some_images_and_the_result_is_for_all(monkeypatch):
  monkeypatch.setattr(parzen, '_SEARCH_IMAGES', 100)
  # Sorted, as if by class: the first or the last 100 would give 0.1 or 0.4.
  x = np.repeat([0.1, 0.4], 500)[:, np.newaxis] * np.random.default_rng(0).standard_normal((1000, 20))
  choice = choose_bandwidth(x, np.zeros([1, 20]))
  assert choice.n == 1000
  best = math.sqrt(np.mean(x**2))
  assert choice.bandwidth == pytest.approx(best, rel=0.1) and choice.bandwidth != pytest.approx(best, rel=2e-3)
  expected = stats.norm(scale=choice.bandwidth).logpdf(x).sum(axis=1)
  assert choice.mean_log_density == pytest.approx(expected.mean(), rel=1e-9)
  assert choice.standard_error == pytest.approx(stats.sem(expected), rel=1e-9)


def test_search_ends_at_the_ends_of_its_range():
  centers = uniform(20, 5)
  assert choose_bandwidth(centers, centers).bandwidth == 1e-4
  assert choose_bandwidth(centers + 100, centers).bandwidth == 1


def test_curve_keeps_the_order_of_the_bandwidths():
  x, centers = uniform(60, 3), uniform(80, 3, seed=1)
  curve = bandwidth_curve(x, centers, [0.5, 0.1])
  expected = [sklearn_log_density(x, centers, h) for h in (0.5, 0.1)]
  np.testing.assert_array_equal(curve.bandwidths, [0.5, 0.1])
  np.testing.assert_allclose(curve.mean_log_densities, np.mean(expected, axis=1), rtol=1e-9)
  np.testing.assert_allclose(curve.standard_errors, stats.sem(expected, axis=1), rtol=1e-9)
  assert curve.n == 60


def parzen_nll(samples, validation, test):
  """The NLL of test images under samples, with the bandwidth of the validation images, as in the analysis `kde`."""
  return -log_density(test, samples, [choose_bandwidth(validation, samples).bandwidth]).mean()


def normal(number, d, seed):
  return 0.5 + 0.1 * np.random.default_rng(seed).standard_normal((number, d))


def test_the_nll_is_near_the_entropy_in_one_dimension_and_far_from_it_in_many():
  """The estimate is for a perfect generator, from 3,000 samples. Theis et al. warn of this."""

  def excess(d):
    samples, validation, test = (normal(n, d, seed) for seed, n in enumerate([3000, 1000, 1000]))
    return parzen_nll(samples, validation, test) / d - stats.norm(scale=0.1).entropy()

  assert abs(excess(1)) < 0.1
  assert excess(64) > 0.15


def test_a_collapsed_generator_is_found_out():
  validation, test = normal(100, 16, 0), normal(100, 16, 1)
  collapsed = np.repeat(normal(1, 16, 3), 500, axis=0)
  assert parzen_nll(normal(500, 16, 2), validation, test) + 1 < parzen_nll(collapsed, validation, test)


def test_one_image_has_no_standard_error():
  choice = choose_bandwidth(uniform(1, 5), uniform(20, 5, seed=1))
  assert math.isnan(choice.standard_error) and math.isfinite(choice.mean_log_density)


@pytest.mark.slow
def test_mnist_takes_a_minute_and_4_gib_at_most(mnist_dir):
  mnist = data.load('mnist', data_dir=mnist_dir)
  tracemalloc.start()
  centers = data.dequantize(mnist.train.images, 256, seed=0)
  x = data.dequantize(mnist.validation.images, 256, seed=1)
  assert len(centers) == 50_000 and len(x) == 10_000
  start, cpu = time.perf_counter(), time.process_time()
  values = log_density(x, centers, [0.15])
  seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  print(f'{seconds:.1f} s, {cpu:.1f} s of CPU, {peak / 2**30:.2f} GiB, mean {values.mean():.2f} nats')
  assert seconds < 60 and peak < 4 * 2**30
  expected = sklearn_log_density(x[:10].reshape(10, -1), centers.reshape(50_000, -1), 0.15)
  np.testing.assert_allclose(values[0, :10], expected, rtol=1e-6)
