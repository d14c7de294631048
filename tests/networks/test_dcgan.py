import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks.dcgan import dcgan_critic, dcgan_generator


@pytest.fixture(autouse=True)
def seeded_initial_weights():
  keras.utils.set_random_seed(0)


CIFAR10 = {'channels': (64, 128, 256, 512), 'dense_units': 0}


def mnist():
  return dcgan_critic((28, 28, 1))


def cifar10():
  return dcgan_critic((32, 32, 3), layer_norm=True, **CIFAR10)


def parameters(model):
  return sum(math.prod(v.shape) for v in model.trainable_variables)


def test_the_mnist_critic():
  critic = mnist()
  convolutions = (25 * 1 * 1 + 1) + (25 * 1 * 64 + 64)
  dense = (7 * 7 * 64 * 1024 + 1024) + (1024 + 1)
  assert parameters(critic) == convolutions + dense == 3_215_003
  assert critic(tf.zeros((3, 28, 28, 1))).shape == (3, 1)


def test_the_cifar10_critic():
  critic = cifar10()
  convolutions = sum(25 * i * o + o for i, o in [(3, 64), (64, 128), (128, 256), (256, 512)])
  norms = 2 * (128 + 256 + 512)
  assert parameters(critic) == convolutions + norms + (2 * 2 * 512 + 1) == 4_310_401
  assert critic(tf.zeros((2, 32, 32, 3))).shape == (2, 1)


def test_a_small_critic_by_hand():
  critic = dcgan_critic((4, 4, 1), channels=(2,), dense_units=0, dtype='float64')
  kernel, bias, dense, dense_bias = (v.numpy() for v in critic.trainable_variables)
  bias[:] = [0.1, -0.2]
  critic.trainable_variables[1].assign(bias)
  x = np.random.default_rng(0).normal(size=(3, 4, 4, 1))
  h = tf.nn.conv2d(x, kernel, 2, 'SAME').numpy() + bias
  h = np.where(h > 0, h, 0.2 * h).reshape(3, -1)
  np.testing.assert_allclose(critic(x), h @ dense + dense_bias, rtol=1e-5)


@pytest.mark.parametrize('critic, shape', [(mnist, (28, 28, 1)), (cifar10, (32, 32, 3))], ids=['mnist', 'cifar10'])
def test_one_output_does_not_depend_on_the_other_images(critic, shape):
  critic = critic()
  images = tf.random.stateless_uniform((3, *shape), seed=(0, 0))
  others = tf.concat([images[:1], 5 * images[1:]], axis=0)
  for training in (True, False):
    alone = critic(images[:1], training=training)
    assert np.abs(alone) > 1e-4
    np.testing.assert_allclose(critic(images, training=training)[:1], alone, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(critic(others, training=training)[:1], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('dtype', ['float32', 'mixed_bfloat16', 'mixed_float16'])
@pytest.mark.parametrize('layer_norm', [True, False])
def test_one_gradient_does_not_depend_on_the_other_images(layer_norm, dtype):
  """The gradient penalty takes the gradient of the summed outputs for that of each image."""
  critic = dcgan_critic((16, 16, 3), layer_norm=layer_norm, dtype=dtype, **CIFAR10)
  images = tf.random.stateless_uniform((2, 16, 16, 3), seed=(0, 0))

  def first_output_and_gradient(images):
    with tf.GradientTape() as tape:
      tape.watch(images)
      output = critic(images, training=True)[0]
    return output, tape.gradient(output, images)

  output, gradient = first_output_and_gradient(images)
  assert np.mean(gradient[0] != 0) > 0.9
  np.testing.assert_array_equal(gradient[1:], 0)
  output_beside_others, gradient_beside_others = first_output_and_gradient(
    tf.concat([images[:1], 5 * images[1:]], axis=0)
  )
  np.testing.assert_array_equal(output_beside_others, output)
  np.testing.assert_array_equal(gradient_beside_others, gradient)


def test_the_cifar10_critic_has_no_batch_norm():
  layers = cifar10().layers
  assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
  assert [layer.filters for layer in layers if isinstance(layer, keras.layers.Conv2D)] == [64, 128, 256, 512]


@pytest.mark.parametrize('layer_norm', [True, False])
def test_second_order_gradients(layer_norm):
  """Of the squared norm of the input gradient, against central differences of that norm in float64.

  Keras' own norms fail here: `tf.nn.moments` is made for first derivatives.
  """
  critic = dcgan_critic((4, 4, 1), channels=(2, 3), dense_units=4, layer_norm=layer_norm, dtype='float64')
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
    assert np.any(gradient)
    before, direction = kernel.numpy(), gradient.numpy() / np.linalg.norm(gradient)
    values = []
    for step in (1e-6, -1e-6):
      kernel.assign(before + step * direction)
      values.append(penalty().numpy())
    kernel.assign(before)
    np.testing.assert_allclose((values[0] - values[1]) / 2e-6, np.linalg.norm(gradient), rtol=1e-4)


@pytest.mark.parametrize('dtype', ['mixed_bfloat16', 'mixed_float16'])
def test_half_precision_keeps_weights_in_single(dtype):
  critic = dcgan_critic((8, 8, 1), channels=(2, 4), dense_units=0, layer_norm=True, dtype=dtype)
  assert {v.dtype for v in critic.trainable_variables} == {'float32'}
  assert critic(tf.ones((2, 8, 8, 1))).dtype == critic.layers[-1].compute_dtype == dtype.removeprefix('mixed_')


def randomised(generator):
  """With larger weights than a new one, whose images are all grey outside of training."""
  rng = np.random.default_rng(0)
  for variable in generator.variables:
    variable.assign(rng.uniform(0.5, 1.5, variable.shape) - 1.0 * ('kernel' in variable.name))
  return generator


def test_the_generators_of_the_data_sets():
  """Dense, gain and bias of three norms, two convolutions without bias, one with."""
  for shape, smallest in [((28, 28, 1), 4 * 4), ((32, 32, 3), 4 * 4), ((8, 8, 1), 1)]:
    dense = math.prod(shape) * smallest * 256
    convolutions = 25 * (256 * 128 + 128 * 64 + 64 * shape[-1]) + shape[-1]
    assert parameters(dcgan_generator(shape)) == dense + convolutions + 2 * (256 + 128 + 64)


@pytest.mark.parametrize('dtype', ['float32', 'float64', 'mixed_bfloat16', 'mixed_float16'])
@pytest.mark.parametrize('shape', [(28, 28, 1), (32, 32, 3), (8, 8, 1), (7, 5, 1)])
def test_images_of_every_size_and_type(shape, dtype):
  generator = dcgan_generator(shape, channels=(6, 4, 2), dtype=dtype)
  wide = 'float64' if dtype == 'float64' else 'float32'
  noise = tf.random.stateless_normal((4, *shape), seed=(0, 0), dtype=wide)
  assert {v.dtype for v in generator.variables} == {wide}
  assert generator(noise).shape == noise.shape and generator(noise).dtype == wide
  images = generator(noise, training=True)
  assert images.shape == noise.shape and images.dtype == wide
  assert np.all((images > 0) & (images < 1)) and np.std(images) > 1e-3
  if dtype.startswith('mixed'):
    half = tf.as_dtype(dtype.removeprefix('mixed_'))
    assert np.mean(tf.cast(tf.cast(images, half), wide) != images) > 0.5
    assert {layer.compute_dtype for layer in generator.layers[:-1]} == {half.name}


def transposed_convolution(x, kernel):
  """By scattering: the adjoint of a 5x5 convolution with stride 2 that pads 1 before and 2 behind."""
  n, height, width, _ = x.shape
  y = np.zeros((n, 2 * height + 3, 2 * width + 3, kernel.shape[2]))
  for i in range(height):
    for j in range(width):
      y[:, 2 * i : 2 * i + 5, 2 * j : 2 * j + 5] += np.einsum('ni,hwoi->nhwo', x[:, i, j], kernel)
  return y[:, 1:-2, 1:-2]


@pytest.mark.parametrize('training', [True, False])
def test_a_small_generator_by_hand(training):
  generator = randomised(dcgan_generator((7, 5, 2), channels=(3, 2), dtype='float64'))
  before = [v.numpy() for v in generator.variables]
  dense, *norm_1, kernel_1 = before[:6]
  *norm_2, kernel_2, bias = before[6:]
  z = np.random.default_rng(1).normal(size=(4, 7, 5, 2))
  images = generator(z, training=training)

  statistics = []

  def norm_and_relu(h, gain, shift, mean, variance):
    batch_mean, batch_variance = h.mean(axis=(0, 1, 2)), h.var(axis=(0, 1, 2))
    statistics.extend([0.9 * mean + 0.1 * batch_mean, 0.9 * variance + 0.1 * batch_variance])
    if training:
      mean, variance = batch_mean, batch_variance
    return np.maximum(gain * (h - mean) / np.sqrt(variance + 1e-5) + shift, 0)

  h = norm_and_relu((z.reshape(4, -1) @ dense).reshape(4, 2, 2, 3), *norm_1)
  h = norm_and_relu(transposed_convolution(h, kernel_1), *norm_2)
  h = transposed_convolution(h, kernel_2) + bias
  assert h.shape == (4, 8, 8, 2)
  np.testing.assert_allclose(images, 1 / (1 + np.exp(-h[:, :7, 1:6])), rtol=1e-9)
  after = [v.numpy() for v in generator.non_trainable_variables]
  unchanged = [*norm_1[2:], *norm_2[2:]]
  for value, expected in zip(after, statistics if training else unchanged, strict=True):
    np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_only_in_training_an_image_depends_on_the_noise_beside_its_own():
  generator = randomised(dcgan_generator((8, 8, 1), channels=(6, 4), dtype='float64'))
  noise = tf.constant(np.random.default_rng(0).normal(size=(3, 8, 8, 1)))
  others = tf.concat([noise[:1], 5 * noise[1:]], axis=0)
  np.testing.assert_allclose(generator(others)[0], generator(noise)[0], rtol=1e-12)
  np.testing.assert_allclose(generator(noise[:1])[0], generator(noise)[0], rtol=1e-12)
  assert np.abs(generator(others, training=True) - generator(noise, training=True))[0].max() > 1e-3


def test_an_empty_batch_leaves_the_running_statistics_of_the_generator_alone():
  generator = dcgan_generator((8, 8, 1), channels=(3, 2))
  noise = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype(np.float32)
  generator(noise, training=True)
  before = [v.numpy() for v in generator.non_trainable_variables]
  assert len(before) == 4 and all(np.any(v != 0) for v in before)
  generator(noise[:0], training=True)
  for variable, value in zip(generator.non_trainable_variables, before, strict=True):
    np.testing.assert_array_equal(variable.numpy(), value)


def test_initial_weights_of_the_generator():
  kernels = [v.numpy() for v in dcgan_generator((8, 8, 1), channels=(64, 64, 64)).variables if 'kernel' in v.name]
  assert len(kernels) == 4
  for kernel in kernels:
    # The standard error of a standard deviation is s / sqrt(2 n).
    assert abs(kernel.std() / 0.02 - 1) < 5 / math.sqrt(2 * kernel.size)
    assert abs(kernel.mean() / 0.02) < 5 / math.sqrt(kernel.size)
  # Two layers of one shape do not start alike.
  assert kernels[1].shape == kernels[2].shape and np.abs(kernels[1] - kernels[2]).max() > 0.01


def test_a_generator_without_feature_maps_is_refused():
  with pytest.raises(ValueError, match=r'`channels`.*Got: \(\)'):
    dcgan_generator((8, 8, 1), channels=())
