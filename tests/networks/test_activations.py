import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks.fused import gelu

X = np.random.default_rng(0).normal(0.0, 2.0, (3, 5))

# How TensorFlow may run a function.
MODES = {
  'eager': lambda function: function,
  'graph': lambda function: tf.function(function, autograph=False),
  'XLA': lambda function: tf.function(function, autograph=False, jit_compile=True),
}


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize(
  ('dtype', 'tolerance'), [('float64', 1e-6), ('float32', 1e-5), ('bfloat16', 0.02), ('float16', 3e-3)]
)
def test_gelu_and_its_gradient_against_keras(dtype, tolerance, mode):
  x = tf.cast(X, dtype)

  def value_and_gradient(function):
    def calculate(x):
      with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
        loss = tf.reduce_sum(tf.sin(y))
      return y, tape.gradient(loss, x)

    return calculate

  found = MODES[mode](value_and_gradient(gelu))(x)
  # Keras rounds sqrt(2 / pi) to float32.
  expected = value_and_gradient(lambda x: keras.activations.gelu(x, approximate=True))(tf.cast(x, tf.float64))
  for ours, reference in zip(found, expected, strict=True):
    assert ours.dtype == dtype
    np.testing.assert_allclose(tf.cast(ours, tf.float64), reference, atol=tolerance)


@pytest.mark.parametrize('mode', ['eager', 'graph'])
def test_second_derivatives_of_gelu(mode):
  """Against central differences of the first."""

  def slope(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = tf.reduce_sum(gelu(x))
    return tape.gradient(y, x)

  def curvature(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = tf.reduce_sum(slope(x))
    return tape.gradient(y, x)

  x, step = tf.constant(X), 1e-5
  differences = (slope(x + step) - slope(x - step)) / (2 * step)
  np.testing.assert_allclose(MODES[mode](curvature)(x), differences, atol=1e-8)
