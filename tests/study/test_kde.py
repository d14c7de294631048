import numpy as np
import pytest
import scipy.stats
from sklearn.neighbors import KernelDensity

from flowgan_tf.study.kde import Kde


def test_the_estimate_is_that_of_a_kernel_density_on_the_samples(subject):
  numbers, arrays = Kde().measure(subject, Kde.Settings(samples=60))
  images = (subject.samples(60, 0), subject.images('validation'), subject.images('test'))
  samples, validation, test = (x.reshape(len(x), -1) for x in images)

  def log_densities(x, bandwidth):
    # Its default of 40 samples a leaf is wrong in high dimensions.
    return KernelDensity(bandwidth=bandwidth, leaf_size=len(samples)).fit(samples).score_samples(x)

  expected = log_densities(test, numbers['bandwidth'])
  assert numbers['nll'] == pytest.approx(-expected.mean(), rel=1e-6)
  assert numbers['standard_error'] == pytest.approx(scipy.stats.sem(expected), rel=1e-6)
  assert (numbers['n_samples'], numbers['n_validation'], numbers['n_test']) == (60, len(validation), len(test))
  assert arrays == {}
  # The bandwidth is chosen on the validation images.
  best = log_densities(validation, numbers['bandwidth']).mean()
  for factor in (0.97, 1.03):
    assert best > log_densities(validation, factor * numbers['bandwidth']).mean()


def test_the_exact_value_is_that_of_the_same_images(subject):
  numbers, _ = Kde().measure(subject, Kde.Settings(samples=60))
  log_prob = subject.run.generator.log_prob(subject.images('test')).numpy().astype(np.float64)
  np.testing.assert_allclose(numbers['exact_nll'], -log_prob.mean(), rtol=1e-5, atol=1e-5)
  assert numbers['exact_n'] == len(log_prob)
