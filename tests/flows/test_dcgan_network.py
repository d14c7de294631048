import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.flows.dcgan import dcgan_network


@pytest.fixture(autouse=True)
def seeded_initial_weights():
  keras.utils.set_random_seed(0)


def parameters(model):
  return sum(math.prod(v.shape) for v in model.trainable_variables)


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
    assert parameters(dcgan_network(shape)) == dense + convolutions + 2 * (256 + 128 + 64)


@pytest.mark.parametrize('dtype', ['float32', 'float64', 'mixed_bfloat16', 'mixed_float16'])
@pytest.mark.parametrize('shape', [(28, 28, 1), (32, 32, 3), (8, 8, 1), (7, 5, 1)])
def test_images_of_every_size_and_type(shape, dtype):
  generator = dcgan_network(shape, channels=(6, 4, 2), dtype=dtype)
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
  generator = randomised(dcgan_network((7, 5, 2), channels=(3, 2), dtype='float64'))
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
  generator = randomised(dcgan_network((8, 8, 1), channels=(6, 4), dtype='float64'))
  noise = tf.constant(np.random.default_rng(0).normal(size=(3, 8, 8, 1)))
  others = tf.concat([noise[:1], 5 * noise[1:]], axis=0)
  np.testing.assert_allclose(generator(others)[0], generator(noise)[0], rtol=1e-12)
  np.testing.assert_allclose(generator(noise[:1])[0], generator(noise)[0], rtol=1e-12)
  assert np.abs(generator(others, training=True) - generator(noise, training=True))[0].max() > 1e-3


def test_an_empty_batch_leaves_the_running_statistics_of_the_generator_alone():
  generator = dcgan_network((8, 8, 1), channels=(3, 2))
  noise = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype(np.float32)
  generator(noise, training=True)
  before = [v.numpy() for v in generator.non_trainable_variables]
  assert len(before) == 4 and all(np.any(v != 0) for v in before)
  generator(noise[:0], training=True)
  for variable, value in zip(generator.non_trainable_variables, before, strict=True):
    np.testing.assert_array_equal(variable.numpy(), value)


def test_initial_weights_of_the_generator():
  kernels = [v.numpy() for v in dcgan_network((8, 8, 1), channels=(64, 64, 64)).variables if 'kernel' in v.name]
  assert len(kernels) == 4
  for kernel in kernels:
    # The standard error of a standard deviation is s / sqrt(2 n).
    assert abs(kernel.std() / 0.02 - 1) < 5 / math.sqrt(2 * kernel.size)
    assert abs(kernel.mean() / 0.02) < 5 / math.sqrt(kernel.size)
  # Two layers of one shape do not start alike.
  assert kernels[1].shape == kernels[2].shape and np.abs(kernels[1] - kernels[2]).max() > 0.01


def test_a_generator_without_feature_maps_is_refused():
  with pytest.raises(ValueError, match=r'`channels`.*Got: \(\)'):
    dcgan_network((8, 8, 1), channels=())
