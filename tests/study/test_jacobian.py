import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.runs.seeds import Purpose, stateless_seed
from flowgan_tf.study.jacobian import Jacobian


def test_singular_values_are_those_of_the_autodiff_jacobian_in_float64(subject):
  numbers, arrays = Jacobian().measure(subject, Jacobian.Settings(noise_vectors=2, seed=3))
  wide = subject.run.generator.with_dtype('float64')
  noise = subject.run.generator.distribution.sample(2, seed=stateless_seed(3, Purpose.ANALYSIS))
  for values, z in zip(arrays['singular_values'], tf.cast(noise, tf.float64), strict=True):
    with tf.GradientTape() as tape:
      tape.watch(z)
      image = wide.decode(z[tf.newaxis])[0]
    matrix = tape.jacobian(image, z).numpy().reshape(16, 16)
    np.testing.assert_allclose(values, np.linalg.svd(matrix, compute_uv=False), rtol=1e-9)
  assert (numbers['n'], numbers['d']) == (2, 16)
  np.testing.assert_allclose(numbers['mean_log_det'], np.log(arrays['singular_values']).sum(axis=1).mean(), rtol=1e-9)
  assert numbers['largest_relative_difference'] < 1e-9


def test_the_share_below_precision_is_of_the_dimensions():
  [record] = Jacobian().records({'below_precision': 4.0, 'd': 16}).values()
  assert record['share_below_precision'] == pytest.approx(0.25)
