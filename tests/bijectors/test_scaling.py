import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from flowgan_tf.bijectors import DiagonalScaling


def test_against_the_formula():
  bijector = DiagonalScaling((2, 2), log_scale_bound=1.5, dtype=tf.float64)
  x = np.random.default_rng(0).normal(size=(3, 2, 2))
  np.testing.assert_array_equal(bijector.forward(tf.constant(x)), x)
  (raw,) = bijector.trainable_variables
  raw.assign([[0.5, -3.0], [100.0, 0.0]])
  s = 1.5 * np.tanh(np.array([[0.5, -3.0], [100.0, 0.0]]) / 1.5)
  np.testing.assert_allclose(bijector.log_scale(), s, rtol=1e-12)
  np.testing.assert_allclose(bijector.forward(tf.constant(x)), x * np.exp(s), rtol=1e-12)
  np.testing.assert_allclose(bijector.forward_log_det_jacobian(tf.constant(x)), s.sum(), rtol=1e-12)


def test_the_computation_follows_the_input_and_a_bound_out_of_range_is_rejected():
  assert DiagonalScaling((3,)).forward(tf.zeros((2, 3), tf.float64)).dtype == tf.float64
  for bound in (0.0, 1e39):
    with pytest.raises(ValueError, match=r'`log_scale_bound`.*Got: '):
      DiagonalScaling((3,), log_scale_bound=bound)


def test_a_scalar_is_increasing():
  """Quantiles and cumulative probabilities need to know that. Here they are those of a normal distribution."""
  bijector = DiagonalScaling(())
  bijector.trainable_variables[0].assign(10 * np.arctanh(np.log(3.0) / 10))
  distribution = tfp.distributions.TransformedDistribution(tfp.distributions.Normal(0.0, 1.0), bijector)
  np.testing.assert_allclose(distribution.cdf([-1.0, 2.0]), stats.norm(0, 3).cdf([-1.0, 2.0]), rtol=1e-5)
  np.testing.assert_allclose(distribution.quantile([0.1, 0.7]), stats.norm(0, 3).ppf([0.1, 0.7]), rtol=1e-5)
