import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KernelDensity

from flowgan_tf.estimators.kernel_density import kde_estimate


def normal(number: int, shape, seed: int, scale: float = 0.1) -> np.ndarray:
  return (0.5 + scale * np.random.default_rng(seed).standard_normal((number, *shape))).astype(np.float32)


def test_is_sklearns_with_the_bandwidth_of_the_validation_images():
  samples, validation, test = (normal(n, (4, 4, 1), seed) for seed, n in enumerate([300, 80, 120]))
  estimate = kde_estimate(samples, validation, test)
  assert (estimate.n_samples, estimate.n_validation, estimate.n_test) == (300, 80, 120)

  def log_densities(images, bandwidth):
    # One leaf, because scikit-learn's trees leave out too much in high dimensions (its issue 7492).
    density = KernelDensity(bandwidth=bandwidth, leaf_size=300).fit(samples.reshape(300, -1))
    return density.score_samples(images.reshape(-1, 16))

  expected = log_densities(test, estimate.bandwidth)
  assert estimate.nll == pytest.approx(-expected.mean(), rel=1e-9)
  assert estimate.standard_error == pytest.approx(stats.sem(expected), rel=1e-6)
  best = log_densities(validation, estimate.bandwidth).mean()
  for factor in (0.97, 1.03):
    assert best > log_densities(validation, factor * estimate.bandwidth).mean()
  assert estimate.curve.mean_log_densities.max() == pytest.approx(best, rel=1e-9)


def test_bandwidth_is_not_chosen_on_test_images():
  """For a single sample, h^2 = mean |x - s|^2 / d over the validation images."""
  sample = np.full([1, 8], 0.5, np.float32)
  validation, test = normal(200, (8,), 0, scale=0.1), normal(200, (8,), 1, scale=0.3)
  estimate = kde_estimate(sample, validation, test)
  best = np.sqrt(np.mean((validation - sample) ** 2))
  assert estimate.bandwidth == pytest.approx(best, rel=1e-3)
  assert estimate.nll == pytest.approx(-stats.norm(0.5, best).logpdf(test).sum(axis=1).mean(), rel=5e-3)


def test_approaches_the_entropy_in_one_dimension_and_is_far_from_it_in_many():
  """The estimate is for a perfect generator, from 3,000 samples. Theis et al. warn of this."""

  def excess(d):
    samples, validation, test = (normal(n, (d,), seed) for seed, n in enumerate([3000, 1000, 1000]))
    return kde_estimate(samples, validation, test).nll / d - stats.norm(scale=0.1).entropy()

  assert abs(excess(1)) < 0.1
  assert excess(64) > 0.15


def test_a_collapsed_generator_is_found_out():
  validation, test = normal(100, (16,), 0), normal(100, (16,), 1)
  good = kde_estimate(normal(500, (16,), 2), validation, test)
  collapsed = kde_estimate(np.repeat(normal(1, (16,), 3), 500, axis=0), validation, test)
  assert good.nll + 3 * good.standard_error < collapsed.nll


def test_refuses_samples_that_blew_up():
  images = normal(5, (4,), 0)
  with pytest.raises(ValueError, match=r'`centers` must be finite\. Got: 1 of 5'):
    kde_estimate(np.where(np.arange(5)[:, np.newaxis] == 3, np.nan, images), images, images)
