import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special, stats

from flowgan_tf.bijectors import AlphaLogit
from tests.tiny import MODES


@pytest.mark.parametrize('alpha', [0.0, 1e-7, 0.05, 0.4])
def test_against_scipy(alpha):
  bijector, small = AlphaLogit(alpha), np.geomspace(1e-6, 0.5, 30)
  x = np.concatenate([small, 1 - small])
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
def test_the_ends_of_the_interval_and_of_the_range(dtype):
  bijector, ends, end = AlphaLogit(1e-7), tf.constant([0.0, 1.0], dtype), np.log(1e-7 / (1 - 1e-7))
  np.testing.assert_allclose(bijector.forward(ends), [end, -end], rtol=1e-6)
  expected = np.log(1 - 2e-7) - np.log(1e-7) - np.log(1 - 1e-7)
  np.testing.assert_allclose(bijector.forward_log_det_jacobian(tf.identity(ends)), [expected] * 2, rtol=1e-6)
  bijector, far = AlphaLogit(0.05), tf.constant([-200.0, 200.0], dtype)
  np.testing.assert_allclose(bijector.inverse(far), [-0.05 / 0.9, 0.95 / 0.9], rtol=1e-6, atol=2e-7)
  np.testing.assert_allclose(bijector.inverse_log_det_jacobian(far), -200 - np.log(0.9), rtol=1e-6)
  assert np.isnan(bijector.inverse(np.nan))
  # Cumulative probabilities need to know that it is increasing. The sigmoid of logistic noise is uniform.
  uniform = tfp.bijectors.Invert(AlphaLogit(0.0))(tfp.distributions.Logistic(tf.zeros((), dtype), 1.0))
  np.testing.assert_allclose(uniform.cdf(tf.constant([0.2, 0.7], dtype)), [0.2, 0.7], rtol=1e-6)


def real_line(dtype):
  """Numbers over the whole range of the dtype, and densely where the images of logits are not yet rounded to an end."""
  largest = np.finfo(dtype).max
  beyond = 10.0 ** np.linspace(2, np.floor(np.log10(largest)), 200)
  half = np.concatenate([np.linspace(0.0, 99.0, 2000), beyond, [largest]])
  return np.concatenate([-half[:0:-1], half]).astype(dtype)


# How TensorFlow runs a function; the ends of the support must hold however the compiler orders its operations.
each_case = pytest.mark.parametrize(
  ('mode', 'dtype', 'alpha'),
  [
    ('eager', 'float32', 0.0),
    ('eager', 'float32', 1e-40),
    ('eager', 'float64', 1e-7),
    ('graph', 'float32', 1e-7),
    ('XLA', 'float32', 1e-7),
    ('XLA', 'float32', 0.0),
    ('XLA', 'float64', 0.4),
  ],
)


@each_case
def test_bijective_and_finite_over_the_range_of_the_dtype(alpha, dtype, mode):
  """What TFP's `assert_bijective_and_finite` asserts, with tolerances that follow from the rounding of `x`."""
  bijector, run, epsilon = AlphaLogit(alpha), MODES[mode], np.finfo(dtype).eps
  lowest, highest = bijector.support(dtype)
  y = real_line(dtype)
  x, log_det = run(lambda y: (bijector.inverse(y), bijector.inverse_log_det_jacobian(tf.identity(y))))(tf.constant(y))
  # Another call, or TFP's cache would answer with `y` itself.
  again, log_det_again, x_again = run(
    lambda x: (bijector.forward(x), bijector.forward_log_det_jacobian(x), bijector.inverse(bijector.forward(x) + 0.0))
  )(tf.identity(x))
  for values in (x, log_det, again, log_det_again, x_again):
    assert values.dtype == dtype and np.all(np.isfinite(values))
  assert lowest == np.min(x) and highest == np.max(x)
  # The largest error is that of the ends, which take the place of all numbers beyond them.
  expected = (special.expit(y.astype(float)) - alpha) / (1 - 2 * alpha)
  largest = (
    epsilon * np.where(y > 0, 4 * (highest - lowest), 10 * (np.abs(expected) + alpha)) + 2 * np.finfo(dtype).tiny
  )
  np.testing.assert_array_less(np.abs(x - expected), largest)
  np.testing.assert_allclose(x_again, x, rtol=0, atol=2 * epsilon * (highest - lowest))

  # `x` is rounded, by which `p` and `q` move at most this much, and their logarithms as much more as they are small.
  p = np.asarray(alpha + (1 - 2 * alpha) * x.numpy().astype(float))
  q = np.asarray(alpha + (1 - 2 * alpha) * (1 - x.numpy().astype(float)))
  inside = (x > lowest) & (x < highest)
  error = 3 * epsilon * ((alpha + p) / p + 1 / q + np.abs(y))
  assert np.sum(inside) > 500
  np.testing.assert_array_less(np.abs(again - y)[inside], error[inside])
  np.testing.assert_array_less(np.abs(log_det_again + log_det)[inside], error[inside])


@each_case
def test_outside_the_support_there_is_no_density_and_no_nan(alpha, dtype, mode):
  bijector, infinity = AlphaLogit(alpha), np.array(np.inf, dtype)
  lowest, highest = (np.array(end, dtype) for end in bijector.support(dtype))
  x = np.array([-infinity, -1e30, -3.0, np.nextafter(lowest, -infinity), lowest, 0.5], dtype)
  x = np.concatenate([x, np.array([highest, np.nextafter(highest, infinity), 4.0, 1e30, infinity, np.nan], dtype)])

  def values_and_gradients(x):
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(x)
      y, log_det = bijector.forward(x), bijector.forward_log_det_jacobian(x)
    return y, log_det, tape.gradient(y, x), tape.gradient(log_det, x)

  y, log_det, *gradients = (values.numpy() for values in MODES[mode](values_and_gradients)(tf.constant(x)))
  assert np.all(np.isnan([y[-1], log_det[-1]]))
  # XLA rounds the last numbers before an end in another way, and 8 roundings are all that is left of them.
  np.testing.assert_allclose(y[:4], np.full(4, y[4]), rtol=0, atol=0.2)
  np.testing.assert_allclose(y[7:-1], np.full(4, y[6]), rtol=0, atol=0.2)
  outside = [0, 1, 2, 3, 7, 8, 9, 10]
  assert np.all(np.isneginf(log_det[outside])) and np.all(np.isfinite(log_det[4:7]))
  for gradient in gradients:
    assert np.all(gradient[outside] == 0) and np.all(np.isfinite(gradient[4:7]))
  assert gradients[0][5] == pytest.approx(4 * (1 - 2 * alpha), rel=1e-6)


def test_integers_and_an_alpha_out_of_range_are_rejected():
  with pytest.raises(ValueError, match=r"^`dtype` must be a floating-point type\. Got: 'uint8'\.$"):
    AlphaLogit().forward(tf.zeros(2, tf.uint8))
  for alpha in (-1e-9, 0.4999999, float('nan'), tf.Variable(0.05)):
    with pytest.raises(ValueError, match=r'`alpha`.*Got: '):
      AlphaLogit(alpha)
  assert AlphaLogit(0.499).forward(0.5) == 0
