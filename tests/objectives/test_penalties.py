import functools

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.objectives import gradient_penalty, zero_centered_penalty

SEED = (3, 14)


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=['graph', 'XLA'])
def compiled(request):
  return functools.partial(tf.function, jit_compile=request.param)


def images(shape, seed):
  return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def linear(weights):
  return lambda x: tf.linalg.matvec(tf.reshape(x, [tf.shape(x)[0], -1]), weights)


@pytest.mark.parametrize('shape', [(6, 5), (5, 4, 3, 2)])
def test_linear_critic(compiled, shape):
  """The norm is over all pixels of a sample."""
  weights = images([int(np.prod(shape[1:]))], seed=1)
  penalty = compiled(lambda real, fake: gradient_penalty(linear(weights), real, fake, SEED))
  expected = (np.linalg.norm(weights) - 1) ** 2
  result = penalty(images(shape, seed=2), images(shape, seed=3))
  assert result.dtype == tf.float32 and result.shape == ()
  np.testing.assert_allclose(result, expected, rtol=1e-5)
  column = lambda x: linear(weights)(x)[:, tf.newaxis]  # noqa: E731
  np.testing.assert_allclose(gradient_penalty(column, images(shape, 2), images(shape, 3), SEED), expected, rtol=1e-5)


def test_interpolates_are_on_the_segment_of_each_sample_with_its_own_position():
  seen = []

  def critic(x):
    seen.append(x)
    return tf.reduce_sum(x, axis=[1, 2, 3])

  real, fake = images([2000, 2, 2, 1], seed=1), images([2000, 2, 2, 1], seed=2)
  gradient_penalty(critic, real, fake, SEED)
  positions = ((seen[0] - fake) / (real - fake)).numpy().reshape(2000, -1)
  epsilon = np.median(positions, axis=1)
  np.testing.assert_allclose(seen[0], fake + epsilon[:, None, None, None] * (real - fake), atol=1e-5)
  assert epsilon.min() >= -1e-5 and epsilon.max() <= 1 + 1e-5
  # Mean and variance of U[0, 1), within 5 standard errors.
  assert abs(epsilon.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 2000)
  assert abs(epsilon.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / 2000)


def test_seed_decides_the_interpolates(compiled):
  real, fake = images([8, 4], seed=1), images([8, 4], seed=2)
  penalty = compiled(lambda seed: gradient_penalty(lambda x: tf.reduce_sum(x**3, axis=1), real, fake, seed))
  first, again, other = (penalty(tf.constant(seed)) for seed in (SEED, SEED, (3, 15)))
  assert first == again
  assert abs(first - other) > 1e-3


def test_a_critic_that_ignores_its_images_has_penalty_1():
  assert gradient_penalty(lambda x: tf.zeros([3]), images([3, 6], 1), images([3, 6], 2), SEED) == 1.0


def test_one_vanishing_gradient_leaves_the_others_alone():
  # critic(x) = w . relu(x): the first sample is dead, the second has the gradient w.
  weights = tf.Variable([0.6, -0.3])
  real = tf.constant([[-1.0, -2.0], [1.0, 2.0]])
  with tf.GradientTape() as tape:
    penalty = gradient_penalty(lambda x: tf.linalg.matvec(tf.nn.relu(x), weights), real, real, SEED)
  norm = np.linalg.norm(weights)
  np.testing.assert_allclose(penalty, (1 + (norm - 1) ** 2) / 2, rtol=1e-6)
  np.testing.assert_allclose(tape.gradient(penalty, weights), (norm - 1) * weights.numpy() / norm, rtol=1e-6)


def test_gradient_of_a_nonlinear_critic_against_differences(compiled):
  first, second = images([4, 3], seed=1), images([3], seed=2)
  real, fake = images([6, 4], seed=3), images([6, 4], seed=4)

  @compiled
  def penalty_and_gradient(first):
    with tf.GradientTape() as tape:
      tape.watch(first)
      penalty = gradient_penalty(lambda x: tf.linalg.matvec(tf.tanh(x @ first), second), real, fake, SEED)
    return penalty, tape.gradient(penalty, first)

  step = 1e-2 * images([4, 3], seed=5)
  _, gradient = penalty_and_gradient(first)
  difference = (penalty_and_gradient(first + step)[0] - penalty_and_gradient(first - step)[0]) / 2
  np.testing.assert_allclose(tf.reduce_sum(gradient * step), difference, rtol=5e-3)


def test_half_precision_norm_does_not_overflow():
  # The sum of 4096 squares of 8 is 2^18, above the largest float16.
  real = tf.zeros([2, 64, 64, 1], tf.float16)
  penalty = gradient_penalty(lambda x: tf.reduce_sum(8 * x, axis=[1, 2, 3]), real, real, SEED)
  assert penalty.dtype == tf.float32
  np.testing.assert_allclose(penalty, (8 * 64 - 1) ** 2, rtol=1e-5)


def test_batches_of_different_size_are_refused():
  with pytest.raises(ValueError, match='incompatible'):
    gradient_penalty(lambda x: tf.reduce_sum(x, axis=1), images([1, 3], 1), images([4, 3], 2), SEED)


def test_the_zero_centered_penalty_of_a_quadratic(compiled):
  """critic(x) = w |x|^2 / 2 has the gradient w x."""
  real, fake, weight = images((4, 3, 2, 1), 0), images((6, 3, 2, 1), 1), tf.Variable(2.0)

  @compiled
  def penalty_and_gradient():
    with tf.GradientTape() as tape:
      penalty = zero_centered_penalty(lambda x: weight * tf.reduce_sum(x**2, axis=(1, 2, 3)) / 2, real, fake)
    return penalty, tape.gradient(penalty, weight)

  squares = sum(np.mean(np.sum(np.square(x), axis=(1, 2, 3))) for x in (real, fake))
  np.testing.assert_allclose(penalty_and_gradient(), [4 * squares / 2, 2 * squares], rtol=1e-5)
