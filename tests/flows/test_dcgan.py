"""The DCGAN against its layers by hand, and what is used of it as of a flow."""

import copy
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.flows import ImplicitGenerator, dcgan

SHAPE = (4, 4, 1)


def trained(shape=SHAPE, seed=0, **arguments):
  """A generator whose images are not all grey, and whose statistics are not those of a new one."""
  generator = dcgan(shape, **{'channels': (6, 4)} | arguments)
  rng = np.random.default_rng(seed)
  for variable in generator.variables:
    variable.assign(rng.uniform(0.5, 1.5, variable.shape) - 1.0 * ('kernel' in variable.name))
  return generator


def noise(*batch_shape):
  return tf.random.stateless_normal((*batch_shape, *SHAPE), seed=(0, 1))


def test_samples_are_decoded_noise_of_any_batch_shape():
  generator, z = trained(), noise(2, 3)
  assert not generator.has_density
  images = generator.decode(z)
  assert images.shape == (2, 3, *SHAPE)
  np.testing.assert_allclose(images[1, 2], generator.decode(z[1, 2].numpy()), rtol=1e-5)
  decode = tf.function(generator.decode, input_signature=[tf.TensorSpec([None, *SHAPE])])
  np.testing.assert_allclose(decode(z[1]), images[1], rtol=1e-5)
  assert generator.sample(seed=(0, 0)).shape == SHAPE
  samples = generator.sample((2, 3), seed=(3, 4))
  np.testing.assert_array_equal(samples, generator.decode(generator.distribution.sample((2, 3), seed=(3, 4))))
  assert np.abs(samples - generator.sample((2, 3), seed=(3, 5))).max() > 0.1
  with pytest.raises(ValueError, match=r'`training` must be True or False\. Got: '):
    generator.sample(2, training=None)
  with pytest.raises(ValueError, match='`noise`'):
    generator.decode(tf.reshape(z, (2, 3, -1)))  # The network would reshape it.


def test_checkpoints_and_copies_are_exact(tmp_path):
  generator, other = trained(), trained(seed=2)
  expected = generator.decode(noise(4))
  assert np.abs(other.decode(noise(4)) - expected).max() > 0.1
  path = tf.train.Checkpoint(generator=generator).write(str(tmp_path / 'checkpoint'))
  tf.train.Checkpoint(generator=other).read(path).assert_consumed()
  wide, copied = generator.with_dtype('float64'), copy.deepcopy(generator)
  for same in (other, copied):
    np.testing.assert_array_equal(same.decode(noise(4)), expected)
  assert wide.dtype == copied.with_dtype('float64').dtype == tf.float64
  np.testing.assert_allclose(wide.decode(tf.cast(noise(4), tf.float64)), expected, atol=1e-5)
  assert not {id(v) for v in generator.variables} & {id(v) for v in (*copied.variables, *wide.variables)}


def test_a_network_that_changes_the_shape_is_rejected():
  prior = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), SHAPE)
  # 16 numbers, and a shape that would broadcast.
  for network in (keras.layers.Dense(3), keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(16)])):
    with pytest.raises(ValueError, match=r'`network` must return .*\(4, 4, 1\).*Got: '):
      ImplicitGenerator(prior, network, name='wrong')


def test_the_generators_of_the_data_sets():
  """Dense, gain and bias of three norms, two convolutions without bias, one with."""
  for shape, smallest in [((28, 28, 1), 4 * 4), ((32, 32, 3), 4 * 4), ((8, 8, 1), 1)]:
    dense = math.prod(shape) * smallest * 256
    convolutions = 25 * (256 * 128 + 128 * 64 + 64 * shape[-1]) + shape[-1]
    parameters = sum(math.prod(v.shape) for v in dcgan(shape).trainable_variables)
    assert parameters == dense + convolutions + 2 * (256 + 128 + 64)


@pytest.mark.parametrize('dtype', ['float64', 'mixed_bfloat16', 'mixed_float16'])
def test_images_of_other_types_and_gradients(dtype):
  generator = dcgan((7, 5, 1), channels=(6, 4, 2), dtype=dtype)
  wide = 'float64' if dtype == 'float64' else 'float32'
  assert {v.dtype.name for v in generator.variables} == {wide}
  with tf.GradientTape() as tape:
    images = generator.sample(4, seed=(0, 0), training=True)
    loss = tf.reduce_sum(images**2)
  assert images.shape == (4, 7, 5, 1) and images.dtype.name == wide
  assert np.all((images > 0) & (images < 1)) and np.std(images) > 1e-3
  assert all(np.any(gradient) for gradient in tape.gradient(loss, generator.trainable_variables))
  if dtype.startswith('mixed'):
    half = tf.as_dtype(dtype.removeprefix('mixed_'))
    assert np.mean(tf.cast(tf.cast(images, half), wide) != images) > 0.5
    assert {layer.compute_dtype for layer in generator._network.layer.layers[:-1]} == {half.name}


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
  """In training the norms have the moments of the batch, and the running statistics move towards them."""
  generator = trained((7, 5, 2), channels=(3, 2), dtype='float64')
  before = [v.numpy() for v in generator._network.layer.variables]
  dense, *norm_1, kernel_1 = before[:6]
  *norm_2, kernel_2, bias = before[6:]
  z = np.random.default_rng(1).normal(size=(4, 7, 5, 2))
  images = generator.decode(z, training=training)

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
  unchanged = [*norm_1[2:], *norm_2[2:]]
  expected = statistics if training else unchanged
  for variable, value in zip(generator._network.layer.non_trainable_variables, expected, strict=True):
    np.testing.assert_allclose(variable.numpy(), value, rtol=1e-9)


def test_initial_weights_of_the_generator():
  kernels = [v.numpy() for v in dcgan((8, 8, 1), channels=(64, 64, 64)).variables if 'kernel' in v.name]
  assert len(kernels) == 4
  for kernel in kernels:
    # The standard error of a standard deviation is s / sqrt(2 n).
    assert abs(kernel.std() / 0.02 - 1) < 5 / math.sqrt(2 * kernel.size)
    assert abs(kernel.mean() / 0.02) < 5 / math.sqrt(kernel.size)
  # Two layers of one shape do not start alike.
  assert kernels[1].shape == kernels[2].shape and np.abs(kernels[1] - kernels[2]).max() > 0.01


@pytest.mark.parametrize('arguments', [{'classes': 3}, {'condition_shape': (1, 2, 2)}])
def test_conditions_are_appended_to_the_noise(arguments, tmp_path):
  generator, rng = trained(dtype='float64', **arguments), np.random.default_rng(1)
  if generator.classes:
    generator.class_probs.assign([0.5, 0.3, 0.2])
  shape = generator.condition_shape or ()
  c = rng.integers(0, 3, 5) if generator.classes else rng.normal(size=(5, *shape))
  z = rng.normal(size=(5, *SHAPE))
  seen = np.eye(3)[c] if generator.classes else c.reshape(5, -1)
  # An unconditional generator whose dense layer sees the condition in its bias.
  plain = dcgan(SHAPE, channels=(6, 4), dtype='float64')
  dense = generator.trainable_variables[0].numpy()
  weights = [v.numpy() for v in generator._network.layer.variables]
  assert dense.shape == (16 + seen.shape[1], 6)
  for variable, value in zip(plain._network.layer.variables, weights, strict=True):
    variable.assign(value[: variable.shape[0]] if variable.shape != value.shape else value)
  # The least-squares noise that gives the dense layer the same input as noise and condition together.
  inputs = np.concatenate([z.reshape(5, -1), seen], axis=1) @ dense
  same = np.linalg.lstsq(dense[:16].T, inputs.T, rcond=None)[0].T.reshape(5, *SHAPE)
  images = generator.decode(z, condition=c)
  np.testing.assert_allclose(images, plain.decode(same), rtol=1e-9)
  assert np.abs(images - generator.decode(z, condition=c[::-1])).max() > 1e-3
  copied, other = copy.deepcopy(generator), generator.with_dtype('float32')
  np.testing.assert_array_equal(copied.decode(z, condition=c), images)
  np.testing.assert_allclose(other.decode(z.astype(np.float32), condition=c), images, rtol=1e-3)
  assert not {id(v) for v in generator.variables} & {id(v) for v in (*copied.variables, *other.variables)}


def test_conditional_samples():
  generator = trained(classes=3)
  generator.class_probs.assign([0.0, 0.0, 1.0])
  assert generator.classes == 3 and len(generator.trainable_variables) == len(trained().trainable_variables)
  samples = generator.sample((2, 4), seed=(0, 1), condition=[0, 1, 2, 2])
  z = generator.distribution.sample((2, 4), seed=(0, 1))
  np.testing.assert_array_equal(samples, generator.decode(z, condition=[[0, 1, 2, 2]] * 2))
  assert generator.sample(5, condition=1).shape == (5, *SHAPE) and generator.sample(condition=[0, 1]).shape[0] == 2
  # As from a flow, there are as many for each of the conditions that it was given.
  np.testing.assert_array_equal(generator.given([0, 1, 2, 2]).sample(2, seed=(0, 1)), samples)
  given = trained(condition_shape=(2,)).given(tf.ones((3, 2)))
  assert given.sample().shape == (3, *SHAPE) and given.sample((2, 4)).shape == (2, 4, 3, *SHAPE)
  # Without a label it draws one.
  rest, _ = tfp.random.split_seed((0, 1), salt='classes')
  np.testing.assert_array_equal(generator.sample(5, seed=(0, 1)), generator.sample(5, seed=rest, condition=2))
  decode = tf.function(lambda z, y: generator.decode(z, condition=y), jit_compile=True)
  np.testing.assert_allclose(decode(z[0], tf.constant([0, 1, 2, 2])), samples[0], rtol=1e-5)
  for call, message in (
    (lambda: generator.decode(z), "`condition` must be given, as 'dcgan' is conditional"),
    (lambda: generator.sample(2, condition=[0, 3]), r'`condition` must be ints from 0 to 2\. Got: 3\.'),
    (lambda: trained().sample(2, condition=1), "`condition` must be None, as 'dcgan' is not conditional"),
    (lambda: dcgan(SHAPE, classes=3, condition_shape=(2,)), '`condition_shape` must be None with `classes`'),
  ):
    with pytest.raises(ValueError, match=f'^{message}'):
      call()
