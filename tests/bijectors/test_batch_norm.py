import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.bijectors import BatchNormalization

EPSILON = 1e-3
Y = np.random.default_rng(0).normal(2.0, 3.0, (8, 2, 3, 4))
MEAN, VARIANCE = Y.mean(axis=(0, 1, 2)), Y.var(axis=(0, 1, 2))


def statistics(bijector):
  by_name = {v.name.split('/')[-1]: v for v in bijector.variables}
  return by_name['running_mean:0'], by_name['running_variance:0']


def new():
  bijector = BatchNormalization((2, 3, 4), momentum=0.9, epsilon=EPSILON, dtype=tf.float64)
  for variable, value in zip(statistics(bijector), ([0.5, -1.0, 0.0, 2.0], [0.5, 4.0, 1.0, 2.0]), strict=True):
    variable.assign(value)
  return bijector


def test_only_training_uses_the_batch_and_moves_the_running_statistics_once():
  bijector = new()
  mean, variance = statistics(bijector)
  before = mean.numpy(), variance.numpy()
  std = np.sqrt(before[1] + EPSILON)
  y = tf.constant(Y)
  np.testing.assert_allclose(bijector.inverse(y), (Y - before[0]) / std, rtol=1e-10)
  np.testing.assert_allclose(bijector.forward(y, training=True), Y * std + before[0], rtol=1e-10)
  np.testing.assert_array_equal([mean, variance], before)
  x = bijector.inverse(y, training=True)
  np.testing.assert_allclose(x, (Y - MEAN) / np.sqrt(VARIANCE + EPSILON), rtol=1e-10)
  log_det = bijector.inverse_log_det_jacobian(y, event_ndims=3, training=True)
  np.testing.assert_allclose(log_det, -0.5 * 6 * np.log(VARIANCE + EPSILON).sum(), rtol=1e-10)
  np.testing.assert_allclose(mean, 0.9 * before[0] + 0.1 * MEAN, rtol=1e-12)
  np.testing.assert_allclose(variance, 0.9 * before[1] + 0.1 * VARIANCE, rtol=1e-12)
  assert bijector.is_constant_jacobian and not bijector.trainable_variables


def test_gradients_pass_through_the_moments_of_the_batch():
  # Whatever y is, the normalised batch sums to zero in each channel: the gradient of that sum must vanish.
  bijector = new()
  y = tf.constant(Y)
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(y)
    trained = tf.reduce_sum(bijector.inverse(y, training=True) * [1.0, 2.0, 3.0, 4.0])
    evaluated = tf.reduce_sum(bijector.inverse(y, training=False) * [1.0, 2.0, 3.0, 4.0])
  np.testing.assert_allclose(tape.gradient(trained, y), np.zeros_like(Y), atol=1e-12)
  assert np.all(tape.gradient(evaluated, y) > 0.1)


def test_an_empty_batch_leaves_the_running_statistics_alone():
  bijector = new()
  before = [v.numpy() for v in statistics(bijector)]
  for function in (bijector.inverse, tf.function(bijector.inverse)):
    assert function(tf.constant(Y[:0]), training=True).shape == (0, 2, 3, 4)
    np.testing.assert_array_equal(statistics(bijector), before)


def test_a_variance_beyond_the_range_of_float16():
  bijector = BatchNormalization((3,), dtype=tf.float32)
  y = np.random.default_rng(0).normal(0, 400, (2000, 3)).astype(np.float16)
  x = bijector.inverse(tf.constant(y), training=True)
  assert x.dtype == tf.float16 and np.std(x.numpy().astype(np.float64)) == pytest.approx(1, rel=1e-2)
  assert np.all(np.isfinite(statistics(bijector)))
  for variable, value in zip(statistics(bijector), (0.0, 160_000.0), strict=True):
    variable.assign(tf.fill([3], value))
  np.testing.assert_allclose(bijector.forward(bijector.inverse(tf.constant(y)) * 1), y, rtol=5e-3, atol=0.5)


def test_arguments_out_of_range_are_rejected():
  for name, value in (('epsilon', -1e-9), ('momentum', -0.1), ('momentum', 1.0)):
    with pytest.raises(ValueError, match=rf'`{name}` must be a number .*Got: '):
      BatchNormalization((4,), **{name: value})
