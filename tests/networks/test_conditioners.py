"""The dense and the convolutional conditioners, the networks of NICE and Real-NVP."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from flowgan_tf.networks import (
  NORMALIZATIONS,
  KerasModule,
  PaperConditioner,
  ResidualConditioner,
  WeightNormConv2D,
  dense_conditioner,
)


def randomise(variables, scale=0.3):
  rng = np.random.default_rng(0)
  for variable in variables:
    variable.assign(variable.numpy() + rng.normal(0.0, scale, variable.shape))


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_the_output_is_zero_until_trained(normalization):
  for network, shape in (
    (dense_conditioner(3, 8, 2, normalization), (4,)),
    (ResidualConditioner(3, 8, 1, normalization), (2, 3, 4)),
  ):
    x = tf.random.stateless_normal((5, *shape), seed=(0, 0))
    with tf.GradientTape() as tape:
      y = network(x, training=True)
      loss = tf.reduce_sum(y)
    np.testing.assert_array_equal(y, np.zeros((5, *shape[:-1], 3)))
    # But not the gradient.
    gradients = tape.gradient(loss, [v.value for v in network.trainable_variables])
    assert any(g is not None and np.any(g) for g in gradients)


def test_dense_conditioner_against_numpy_in_double_precision():
  network = dense_conditioner(2, 5, 2, normalization='scalar_batch', dtype='float64')
  module = KerasModule(network, (3,))
  randomise(network.trainable_variables)
  norms, layers = network.layers[0::2], network.layers[1::2]
  assert len(norms) == len(layers) == 3
  h = x = np.random.default_rng(1).normal(size=(4, 3))
  for i, (norm, layer) in enumerate(zip(norms, layers, strict=True)):
    norm.mean.assign(0.1 * i)
    norm.variance.assign(1.5 + i)
    gain, bias, kernel, offset = (w.numpy() for w in (norm.gain, norm.bias, layer.kernel, layer.bias))
    h = (gain * (h - 0.1 * i) / np.sqrt(1.5 + i + norm.epsilon) + bias) @ kernel + offset
    h = np.maximum(h, 0) if i < 2 else h
  # A float32 step anywhere would show at 1e-8.
  np.testing.assert_allclose(module(tf.constant(x)), h, rtol=1e-12)


def test_the_kernel_of_a_dense_layer_is_cast_when_its_input_is_there():
  network = dense_conditioner(3, 8, 1, dtype='mixed_bfloat16')
  network.build((None, 4))
  graph = tf.function(network).get_concrete_function(tf.TensorSpec((5, 4), tf.bfloat16)).graph
  casts = [op for op in graph.get_operations() if op.type == 'Cast']
  waits_for = {tuple(op.inputs[0].shape): [found.outputs[0].shape for found in op.control_inputs] for op in casts}
  assert waits_for[4, 8] == [(5, 4)] and waits_for[8, 3] == [(5, 8)]


def test_a_dense_conditioner_in_half_precision_can_be_vectorized():
  """TensorFlow fails at some variables that are read only when an input is there."""
  network = KerasModule(dense_conditioner(3, 8, 1, dtype='mixed_bfloat16'), (4,))
  randomise(network.variables)
  x = tf.random.stateless_normal((5, 4), seed=(0, 0))
  found = tf.vectorized_map(lambda row: network(row[tf.newaxis])[0], x)
  np.testing.assert_allclose(found, network(x), atol=0.02)
  assert np.std(found) > 0.1


def test_initial_weights_of_the_paper():
  """N(0, 0.02^2) within two standard deviations in every layer, and other numbers in each."""
  network = dense_conditioner(60, 60, 2, initial_weights='paper')
  network.build((None, 60))
  kernels = [layer.kernel.numpy().ravel() for layer in network.layers[1::2]]
  for kernel in kernels:
    assert stats.kstest(kernel / 0.02, stats.truncnorm(-2, 2).cdf).pvalue > 1e-3
  assert np.abs(np.corrcoef(kernels) - np.eye(3)).max() < 0.1
  assert not any(np.any(layer.bias) for layer in network.layers[1::2])
  with pytest.raises(ValueError, match=r"`initial_weights` must be one of zero_output, paper\. Got: 'large'"):
    dense_conditioner(3, initial_weights='large')


def convolutions_with(weights):
  """A function that is one convolution after the other, with weights from an iterator."""
  return lambda h: convolution(h, *(next(weights) for _ in range(3)))


def convolution(h, direction, gain, bias):
  kernel = gain * direction / np.linalg.norm(direction.reshape(-1, direction.shape[-1]), axis=0)
  return tf.nn.conv2d(h, kernel, 1, 'SAME').numpy() + bias


@pytest.mark.parametrize('kernel_size', [1, 3])
def test_weight_norm_convolution(kernel_size):
  layer = WeightNormConv2D(4, kernel_size, dtype='float64')
  x = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
  layer(x)
  np.testing.assert_array_equal(layer.gain, np.ones(4))
  randomise(layer.trainable_variables)
  expected = convolution(x, layer.direction.numpy(), layer.gain.numpy(), layer.bias.numpy())
  np.testing.assert_allclose(layer(x), expected, rtol=1e-9, atol=1e-9)
  # The direction's length has no effect.
  layer.direction.assign(10 * layer.direction)
  np.testing.assert_allclose(layer(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
  ('policy', 'length'), [('mixed_float16', 1e-4), ('mixed_float16', 1e3), ('mixed_bfloat16', 1.0)]
)
def test_weight_norm_in_half_precision_has_the_kernel_of_single_precision(policy, length):
  """The squares of 1e-4 vanish in float16, those of 1e3 are infinite; a kernel rounded once is what is right."""
  layers = [WeightNormConv2D(4, 3, dtype=dtype) for dtype in (policy, 'float32')]
  impulse = np.zeros((1, 3, 3, 2), np.float32)
  impulse[0, 1, 1, 0] = 1.0
  direction = np.random.default_rng(0).normal(0.0, length, (3, 3, 2, 4))
  for layer in layers:
    layer.build(impulse.shape)
    layer.direction.assign(direction)
    layer.gain.assign([1.0, -2.0, 0.5, 30.0])
  half, single = (layer(impulse).numpy() for layer in layers)
  assert np.abs(single).max() > 1
  assert half.dtype == layers[0].compute_dtype
  np.testing.assert_array_equal(half, single.astype(half.dtype))


@pytest.mark.parametrize('size', [1, 2])
def test_residual_conditioner_against_its_formula(size):
  network = ResidualConditioner(2, 3, blocks=2, normalization='none', dtype='float64', patch_size=size)
  x = np.random.default_rng(1).normal(size=(2, 2 * size, 3 * size, 5))
  network(x)
  randomise(network.trainable_variables)
  weights = iter(v.numpy() for v in network.trainable_variables)
  conv = convolutions_with(weights)
  h = conv(x.reshape(2, 2, size, 3, size, 5).swapaxes(2, 3).reshape(2, 2, 3, 5 * size**2))
  for _ in range(2):
    h = h + conv(np.maximum(conv(np.maximum(h, 0)), 0))
  y = conv(np.maximum(h, 0)).reshape(2, 2, 3, size, size, 2).swapaxes(2, 3).reshape(2, 2 * size, 3 * size, 2)
  np.testing.assert_allclose(network(x), y, rtol=1e-9, atol=1e-10)
  assert next(weights, None) is None


def test_paper_conditioner_against_its_formula():
  network = PaperConditioner(4, 3, blocks=2, dtype='float64')
  x = np.random.default_rng(1).normal(size=(2, 4, 3, 5))
  network(x)
  randomise(network.trainable_variables)
  weights = iter(v.numpy() for layer in network._convolutions for v in layer.trainable_variables)
  affine = iter([(1.0, 0.0)] + [(norm.gamma.numpy(), norm.beta.numpy()) for norm in network._norms[1::2]])
  conv = convolutions_with(weights)

  def norm(h, gain=1.0, bias=0.0):
    return gain * (h - h.mean(axis=(0, 1, 2))) / np.sqrt(h.var(axis=(0, 1, 2)) + 1e-4) + bias

  h = norm(x, *next(affine))
  h = norm(np.maximum(conv(h), 0), *next(affine))
  for _ in range(2):
    inner = norm(np.maximum(conv(h), 0))
    h = norm(np.maximum(h + conv(inner), 0), *next(affine))
  expected = conv(h)
  assert next(weights, None) is next(affine, None) is None
  expected[..., :2] = np.tanh(expected[..., :2])
  np.testing.assert_allclose(network(x, training=True), expected, rtol=1e-9, atol=1e-9)
  np.testing.assert_allclose(network._norms[0].moving_mean.numpy(), 0.1 * x.mean(axis=(0, 1, 2)), rtol=1e-9)


def test_the_network_of_the_papers_real_nvp():
  """8 blocks of two 3x3 convolutions of 64 channels, for the first checkerboard coupling."""
  real_nvp = ResidualConditioner(6, normalization='batch')
  real_nvp.build((None, 4, 4, 3))
  block = 2 * (9 * 64 * 64 + 2 * 64 + 2 * 64)
  expected = (9 * 3 * 64 + 2 * 64) + 8 * block + (2 * 64 + 64 * 6 + 2 * 6)
  assert sum(np.prod(v.shape) for v in real_nvp.trainable_variables) == expected


def test_biases_of_hidden_layers_start_in_their_range():
  keras.utils.set_random_seed(0)
  for bias_range in (0.0, 0.5):
    network = dense_conditioner(2, 100, 2, 'none', bias_range=bias_range)
    network.build((None, 3))
    *hidden, last = [layer.bias.numpy() for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    for bias in hidden:
      assert np.abs(bias).max() <= bias_range and bias.std() == pytest.approx(bias_range / np.sqrt(3), rel=0.2)
    assert not np.any(last)


def test_a_convolution_has_channels_last_whatever_keras_is_set_to():
  layer = WeightNormConv2D(4, 3)
  expected = layer(tf.ones((1, 5, 6, 2)))
  keras.config.set_image_data_format('channels_first')
  try:
    found = layer(tf.ones((1, 5, 6, 2)))
  finally:
    keras.config.set_image_data_format('channels_last')
  np.testing.assert_array_equal(found, expected)
