import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from scipy import special, stats

from flowgan_tf.bijectors import AlphaLogit


@pytest.mark.parametrize('alpha', [0.0, 1e-7, 0.05, 0.4])
@hypothesis.settings(deadline=None, max_examples=30, derandomize=True)
@hypothesis.given(x=st.floats(1e-6, 1 - 1e-6))
def test_against_scipy(alpha, x):
  bijector = AlphaLogit(alpha)
  p = alpha + (1 - 2 * alpha) * x
  y = bijector.forward(tf.constant(x, tf.float64))
  np.testing.assert_allclose(y, special.logit(p), rtol=1e-9, atol=1e-12)
  np.testing.assert_allclose(bijector.inverse(tf.identity(y)), x, rtol=1e-9)
  # d logit(p) / dx = (1 - 2 alpha) / logistic density at logit(p).
  expected = np.log(1 - 2 * alpha) - stats.logistic.logpdf(special.logit(p))
  np.testing.assert_allclose(
    bijector.forward_log_det_jacobian(tf.constant(x, tf.float64)), expected, rtol=1e-9, atol=1e-9
  )
  np.testing.assert_allclose(bijector.inverse_log_det_jacobian(tf.identity(y)), -expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_black_and_white_stay_finite_and_symmetric(dtype):
  bijector = AlphaLogit(1e-7)
  ends = tf.constant([0.0, 1.0], dtype)
  end = np.log(1e-7 / (1 - 1e-7))
  np.testing.assert_allclose(bijector.forward(ends), [end, -end], rtol=1e-6)
  expected = np.log(1 - 2e-7) - np.log(1e-7) - np.log(1 - 1e-7)
  np.testing.assert_allclose(bijector.forward_log_det_jacobian(tf.identity(ends)), [expected] * 2, rtol=1e-6)
  np.testing.assert_allclose(bijector.inverse(bijector.forward(tf.identity(ends)) + 0.0), ends, atol=1e-7)


def test_the_inverse_is_finite_everywhere_and_reaches_alpha_beyond_the_interval():
  bijector = AlphaLogit(0.05)
  far = tf.constant([-200.0, 200.0])
  np.testing.assert_allclose(bijector.inverse(far), [-0.05 / 0.9, 0.95 / 0.9], rtol=1e-6)
  np.testing.assert_allclose(bijector.inverse_log_det_jacobian(far), -200 - np.log(0.9), rtol=1e-6)


@pytest.mark.parametrize('alpha', [-1e-9, 0.5, 1.0, float('nan'), '0.1', None])
def test_alpha_out_of_range_is_refused(alpha):
  with pytest.raises(ValueError, match=r'`alpha`.*Got: '):
    AlphaLogit(alpha)
