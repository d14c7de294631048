import numpy as np
from sklearn.neighbors import KernelDensity

from flowgan_tf.study.kde import Kde


def test_the_estimate_is_that_of_a_kernel_density_on_the_samples(subject):
  numbers, arrays = Kde().measure(subject, Kde.Settings(samples=60))
  samples, test = (x.reshape(len(x), -1) for x in (subject.samples(60, 0), subject.images('test')))
  # Its default of 40 samples a leaf is wrong in high dimensions.
  density = KernelDensity(bandwidth=numbers['bandwidth'], leaf_size=len(samples)).fit(samples)
  np.testing.assert_allclose(numbers['nll'], -np.mean(density.score_samples(test)), rtol=1e-6)
  assert (numbers['n_samples'], numbers['n_test'], arrays) == (60, len(test), {})


def test_the_exact_value_is_that_of_the_same_images(subject):
  numbers, _ = Kde().measure(subject, Kde.Settings(samples=60))
  log_prob = subject.run.generator.log_prob(subject.images('test')).numpy().astype(np.float64)
  np.testing.assert_allclose(numbers['exact_nll'], -log_prob.mean(), rtol=1e-5, atol=1e-5)
  assert numbers['exact_n'] == len(log_prob)
