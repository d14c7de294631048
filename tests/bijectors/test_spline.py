"""Splines against TFP's, which have other code, and where rounding is hard."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.bijectors import SplineCoupling, masks

BINS, BOUND = 5, 3.0
OUTPUTS = 3 * BINS - 1


class Outputs(tf.Module):
  """A conditioner that returns a variable, whatever it sees."""

  def __init__(self, values):
    super().__init__()
    self.values = tf.Variable(values)

  def __call__(self, x, training=False):
    return self.values


def coupling(outputs):
  """A coupling that changes the second of two numbers; `outputs` are `[batch, 14]`."""
  return SplineCoupling(Outputs(outputs), masks.even_odd(2), bins=BINS, bound=BOUND)


def both(bijector, inverse, x):
  """Value and log-det of the second number."""
  events = tf.stack([tf.zeros_like(x), x], axis=-1)
  if inverse:
    return bijector.inverse(events)[:, 1], bijector.inverse_log_det_jacobian(tf.identity(events), event_ndims=1)
  return bijector.forward(events)[:, 1], bijector.forward_log_det_jacobian(tf.identity(events), event_ndims=1)


def draw(scale, dtype, n=2000):
  rng = np.random.default_rng(0)
  return rng.normal(0.0, scale, (n, OUTPUTS)).astype(dtype), tf.constant(rng.uniform(-3.5, 3.5, n), dtype)


def by_tfp(outputs, inverse, x):
  widths, heights, slopes = tf.split(outputs, [BINS, BINS, BINS - 1], axis=-1)
  widths, heights = (2 * BOUND * (1e-3 + (1 - 1e-3 * BINS) * tf.nn.softmax(h)) for h in (widths, heights))
  slopes = 1e-3 + tf.math.log1p(tf.exp(slopes) * np.expm1(1 - 1e-3))
  spline = tfp.bijectors.RationalQuadraticSpline(widths, heights, slopes, range_min=-BOUND)
  if inverse:
    return spline.inverse(x), spline.inverse_log_det_jacobian(x, event_ndims=0)
  return spline.forward(x), spline.forward_log_det_jacobian(x, event_ndims=0)


@pytest.mark.parametrize('inverse', [False, True])
def test_values_log_dets_and_gradients_are_those_of_tfp(inverse):
  outputs, x = draw(1.0, 'float64')
  bijector = coupling(outputs)
  [variable] = bijector.trainable_variables
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(x)
    (y, log_det), expected = both(bijector, inverse, x), by_tfp(variable, inverse, x)
  for ours, theirs in zip((y, log_det), expected, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    for gradients in zip(*(tape.gradient(each, [x, variable]) for each in (ours, theirs)), strict=True):
      np.testing.assert_allclose(*gradients, rtol=1e-6, atol=1e-8)
  outside = np.abs(x) > BOUND
  assert 200 < outside.sum() < 400
  np.testing.assert_array_equal(y[outside], x[outside])


def test_outputs_of_zero_give_the_identity():
  x = tf.linspace(-4.0, 4.0, 1001)
  for inverse in (False, True):
    y, log_det = both(coupling(np.zeros((1001, OUTPUTS), np.float32)), inverse, x)
    np.testing.assert_allclose(y, x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(log_det, 0, atol=1e-6)


@pytest.mark.parametrize('scale', [1.0, 10.0, 1000.0])
def test_extreme_outputs_and_numbers_are_finite_and_have_an_inverse(scale):
  outputs, x = draw(scale, 'float32', n=20_000)
  x = tf.concat([x[:-4], [1e30, -1e30, BOUND, -BOUND]], axis=0)
  bijector = coupling(outputs)
  for inverse in (False, True):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y, log_det = both(bijector, inverse, x)
    gradients = tape.gradient([y, log_det], [x, *bijector.trainable_variables])
    assert all(np.all(np.isfinite(value)) for value in (y, log_det, *gradients))
  # A rounding error of y becomes one of x, and is as many times as large as the spline is steep near there.
  for dtype, tolerance in (('float64', 1e-9), *([('float32', 1e-5)] if scale == 1 else [])):
    outputs, x = draw(scale, dtype, n=20_000)
    bijector = coupling(outputs)
    y, _ = both(bijector, True, x)
    found, log_det = both(bijector, False, y)
    assert np.max(np.abs(found - x) / (1 + np.exp(log_det))) < tolerance


def test_nan_stays_nan():
  y, log_det = both(coupling(np.zeros((1, OUTPUTS), np.float32)), True, tf.constant([np.nan]))
  assert np.isnan(y) and np.isnan(log_det)
