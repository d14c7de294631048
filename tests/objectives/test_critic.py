import math

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks import KerasModule
from flowgan_tf.objectives import dcgan_critic, dense_critic, zero_centered_penalty


def assert_slope(penalty, kernel, gradient):
  """Checks a gradient that is not zero against the difference of the penalty along it."""
  assert np.any(gradient)
  before, direction = kernel.numpy(), gradient.numpy() / np.linalg.norm(gradient)
  values = []
  for step in (1e-6, -1e-6):
    kernel.assign(before + step * direction)
    values.append(penalty().numpy())
  kernel.assign(before)
  np.testing.assert_allclose((values[0] - values[1]) / 2e-6, np.linalg.norm(gradient), rtol=1e-4)


@pytest.mark.parametrize(
  ('shape', 'arguments', 'parameters'),
  [
    ((28, 28, 1), {}, (25 + 1) + (25 * 64 + 64) + (7 * 7 * 64 * 1024 + 1024) + (1024 + 1)),
    (
      (32, 32, 3),
      {'channels': (64, 128, 256, 512), 'dense_units': 0, 'layer_norm': True},
      sum(25 * i * o + o for i, o in [(3, 64), (64, 128), (128, 256), (256, 512)]) + 2 * 896 + (2 * 2 * 512 + 1),
    ),
  ],
)
def test_the_critics_of_the_paper(shape, arguments, parameters):
  critic = dcgan_critic(shape, **arguments)
  assert sum(math.prod(v.shape) for v in critic.trainable_variables) == parameters
  assert critic.output_shape == (None, 1)


def test_a_small_critic_by_hand():
  critic = dcgan_critic((4, 4, 1), channels=(2,), dense_units=0, dtype='float64')
  kernel, bias, dense, dense_bias = (v.numpy() for v in critic.trainable_variables)
  bias[:] = [0.1, -0.2]
  critic.trainable_variables[1].assign(bias)
  x = np.random.default_rng(0).normal(size=(3, 4, 4, 1))
  h = tf.nn.conv2d(x, kernel, 2, 'SAME').numpy() + bias
  h = np.where(h > 0, h, 0.2 * h).reshape(3, -1)
  np.testing.assert_allclose(critic(x), h @ dense + dense_bias, rtol=1e-5)


def test_a_critic_with_all_kinds_of_layers_by_hand():
  critic = dcgan_critic((4, 4, 1), channels=(2, 3), dense_units=4, layer_norm=True, dtype='float64')
  for i, variable in enumerate(critic.trainable_variables):
    variable.assign_add(0.3 * tf.random.stateless_normal(variable.shape, (1, i), dtype=variable.dtype))
  layers = [layer.get_weights() for layer in critic.layers if layer.get_weights()]
  x = np.random.default_rng(0).normal(size=(3, 4, 4, 1))

  def leaky(h):
    return np.where(h > 0, h, 0.2 * h)

  h = leaky(tf.nn.conv2d(x, layers[0][0], 2, 'SAME').numpy() + layers[0][1])
  h = tf.nn.conv2d(h, layers[1][0], 2, 'SAME').numpy() + layers[1][1]
  mean, variance = h.mean(axis=(1, 2, 3), keepdims=True), h.var(axis=(1, 2, 3), keepdims=True)
  h = leaky((h - mean) / np.sqrt(variance + 1e-3) * layers[2][0] + layers[2][1]).reshape(3, -1)
  h = leaky(h @ layers[3][0] + layers[3][1])
  np.testing.assert_allclose(critic(x), h @ layers[4][0] + layers[4][1], rtol=1e-5)


def test_a_dense_critic_by_hand():
  critic = dense_critic((2, 2, 1), hidden_units=(5, 3), dtype='float64')
  kernels, biases = ([v.numpy() for v in critic.trainable_variables[i::2]] for i in (0, 1))
  h = x = np.random.default_rng(0).normal(size=(9, 2, 2, 1))
  h = h.reshape(9, -1)
  for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
    h = np.maximum(h @ kernel + bias, 0)
  np.testing.assert_allclose(critic(x), h @ kernels[-1] + biases[-1], rtol=1e-6)


@pytest.mark.parametrize(
  ('layer_norm', 'dtype'), [(True, 'float32'), (False, 'mixed_bfloat16'), (True, 'mixed_float16')]
)
def test_one_output_and_its_gradient_do_not_depend_on_the_other_images(layer_norm, dtype):
  """The gradient penalty takes the gradient of the summed outputs for the gradient of each output."""
  critic = dcgan_critic((16, 16, 3), channels=(8, 16, 32, 64), dense_units=0, layer_norm=layer_norm, dtype=dtype)
  images = tf.random.stateless_uniform((2, 16, 16, 3), seed=(0, 0))

  def first_output_and_gradient(images):
    with tf.GradientTape() as tape:
      tape.watch(images)
      output = critic(images, training=True)[0]
    return output, tape.gradient(output, images)

  assert {v.dtype for v in critic.trainable_variables} == {'float32'}
  output, gradient = first_output_and_gradient(images)
  assert output.dtype == critic.layers[-1].compute_dtype == dtype.removeprefix('mixed_')
  assert np.mean(gradient[0] != 0) > 0.9
  np.testing.assert_array_equal(gradient[1:], 0)
  beside_others = first_output_and_gradient(tf.concat([images[:1], 5 * images[1:]], axis=0))
  np.testing.assert_array_equal(beside_others[0], output)
  np.testing.assert_array_equal(beside_others[1], gradient)


def test_second_order_gradients():
  """Of the squared norm of the input gradient, against central differences of that norm in float64.

  Keras' own norms fail here: `tf.nn.moments` is made for first derivatives.
  """
  critic = dcgan_critic((4, 4, 1), channels=(2, 3), dense_units=4, layer_norm=True, dtype='float64')
  images = tf.constant(np.random.default_rng(0).normal(size=(3, 4, 4, 1)))

  def penalty():
    with tf.GradientTape() as inner:
      inner.watch(images)
      output = tf.reduce_sum(critic(images))
    return tf.reduce_sum(tf.square(inner.gradient(output, images)))

  with tf.GradientTape() as outer:
    value = penalty()
  kernels = [v.value for v in critic.trainable_variables if len(v.shape) > 1]
  gradients = outer.gradient(value, kernels)
  assert len(kernels) == 4
  for kernel, gradient in zip(kernels, gradients, strict=True):
    assert_slope(penalty, kernel, gradient)


def test_a_condition_is_a_vector_or_an_image():
  with pytest.raises(ValueError, match='`condition_shape` must be the shape of a vector or an image'):
    dense_critic((5,), condition_shape=(2, 3))


@pytest.mark.parametrize('condition_shape', [(3,), (2, 2, 2), (16, 16, 1)])
def test_a_conditional_critic_by_hand(condition_shape):
  """A projection of vectors, D(x, c) = w f(x) + b + f(x) V c, and further channels for images."""
  critic = dcgan_critic((4, 4, 1), channels=(2,), dense_units=0, condition_shape=condition_shape, dtype='float64')
  rng = np.random.default_rng(0)
  for variable in critic.trainable_variables:
    variable.assign(rng.normal(size=variable.shape))
  weights = {tuple(v.shape): v.numpy() for v in critic.trainable_variables}
  x, c = rng.normal(size=(3, 4, 4, 1)), rng.normal(size=(3, *condition_shape))
  inputs = x
  if len(condition_shape) == 3:
    resized = tf.image.resize(c, (4, 4)) if c.shape[1] == 2 else c.reshape(3, 4, 4, 4, 4, 1).mean(axis=(2, 4))
    inputs = np.concatenate([x, resized], axis=-1)
  h = tf.nn.conv2d(inputs, weights[5, 5, inputs.shape[-1], 2], 2, 'SAME').numpy() + weights[2,]
  f = np.where(h > 0, h, 0.2 * h).reshape(3, -1)
  expected = f @ weights[8, 1] + weights[1,]
  if len(condition_shape) == 1:
    expected += np.einsum('nf,df,nd->n', f, weights[3, 8], c)[:, np.newaxis]
  np.testing.assert_allclose(critic([x, c]), expected, rtol=1e-5)
  assert critic.count_params() == sum(w.size for w in weights.values())


@pytest.mark.parametrize('condition_shape', [(3,), (2, 2, 2)])
def test_the_gradient_penalty_of_a_conditional_critic(condition_shape):
  """Its gradient by the images, and the penalty's by the weights, against central differences."""
  critic = dcgan_critic(
    (4, 4, 1), channels=(2, 3), dense_units=4, layer_norm=True, condition_shape=condition_shape, dtype='float64'
  )
  rng = np.random.default_rng(0)
  images, c = tf.constant(rng.normal(size=(3, 4, 4, 1))), tf.constant(rng.normal(size=(3, *condition_shape)))
  module = KerasModule(critic, (4, 4, 1), condition_shape=condition_shape)

  def slope():
    with tf.GradientTape() as tape:
      tape.watch(images)
      output = module(images, c)
    return tape.gradient(output, images)

  def penalty():
    return tf.reduce_sum(slope() ** 2)

  direction = rng.normal(size=images.shape)
  steps = [tf.reduce_sum(module(images + step * direction, c)) for step in (1e-6, -1e-6)]
  np.testing.assert_allclose(np.sum(slope() * direction), (steps[0] - steps[1]) / 2e-6, rtol=1e-5)
  kernels = [v for v in critic.trainable_variables if len(v.shape) > 1]
  with tf.GradientTape() as tape:
    value = penalty()
  found = zero_centered_penalty(lambda images: module(images, condition=c), images, images)
  np.testing.assert_allclose(found, value / 3, rtol=1e-5)
  for kernel, gradient in zip(kernels, tape.gradient(value, [v.value for v in kernels]), strict=True):
    assert_slope(penalty, kernel, gradient)
