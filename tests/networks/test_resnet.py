import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks import NORMALIZATIONS, KerasModule, PaperConditioner, ResidualConditioner, WeightNormConv2D


@pytest.fixture(autouse=True)
def seeded_initial_weights():
  keras.utils.set_random_seed(0)


def parameters(variables):
  return sum(int(np.prod(v.shape)) for v in variables)


def randomise(variables, scale=0.3):
  rng = np.random.default_rng(0)
  for variable in variables:
    variable.assign(variable.numpy() + rng.normal(0.0, scale, variable.shape))


@pytest.mark.parametrize('kernel_size', [1, 3])
def test_weight_norm_convolution(kernel_size):
  layer = WeightNormConv2D(4, kernel_size, dtype='float64')
  x = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
  layer(x)
  randomise(layer.trainable_variables)
  direction, gain, bias = (w.numpy() for w in (layer.direction, layer.gain, layer.bias))
  kernel = np.stack(
    [gain[k] * direction[..., k] / np.linalg.norm(direction[..., k].ravel()) for k in range(4)], axis=-1
  )
  np.testing.assert_allclose(np.linalg.norm(kernel.reshape(-1, 4), axis=0), np.abs(gain), rtol=1e-12)
  np.testing.assert_allclose(layer(x), tf.nn.conv2d(x, kernel, 1, 'SAME') + bias, rtol=1e-9, atol=1e-9)
  # The direction's length has no effect.
  layer.direction.assign(10 * layer.direction)
  np.testing.assert_allclose(layer(x), tf.nn.conv2d(x, kernel, 1, 'SAME') + bias, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('policy', ['mixed_float16', 'mixed_bfloat16'])
@pytest.mark.parametrize('length', [1e-4, 1.0, 1e3])
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


def test_weight_norm_convolution_shows_its_kernel_to_an_impulse():
  layer = WeightNormConv2D(2, 3, dtype='float64')
  impulse = np.zeros((1, 3, 3, 1))
  impulse[0, 1, 1, 0] = 1.0
  response = layer(impulse).numpy()[0].reshape(9, 2)
  np.testing.assert_allclose(np.linalg.norm(response, axis=0), 1.0, rtol=1e-9)


def test_residual_conditioner_against_its_formula():
  network = ResidualConditioner(2, 3, blocks=2, normalization='none', dtype='float64')
  x = np.random.default_rng(1).normal(size=(2, 4, 3, 5))
  network(x)
  randomise(network.trainable_variables)
  weights = iter(network.trainable_variables)

  def conv(h):
    direction, gain, bias = (next(weights).numpy() for _ in range(3))
    kernel = gain * direction / np.linalg.norm(direction.reshape(-1, direction.shape[-1]), axis=0)
    return tf.nn.conv2d(h, kernel, 1, 'SAME') + bias

  h = conv(x)
  for _ in range(2):
    inner = conv(tf.nn.relu(h))
    h = h + conv(tf.nn.relu(inner))
  expected = conv(tf.nn.relu(h))
  assert next(weights, None) is None
  np.testing.assert_allclose(network(x), expected, rtol=1e-9, atol=1e-10)


def test_the_default_size_is_the_papers():
  """64 channels, 8 blocks of two 3x3 convolutions, batch norm before each ReLU; for the first checkerboard coupling."""
  network = ResidualConditioner(6, normalization='batch')
  network(tf.zeros((1, 4, 4, 3)))
  first = 9 * 3 * 64 + 2 * 64
  block = 2 * (9 * 64 * 64 + 2 * 64 + 2 * 64)
  last = 2 * 64 + 64 * 6 + 2 * 6
  assert parameters(network.trainable_variables) == first + 8 * block + last


def test_paper_conditioner_against_its_formula():
  network = PaperConditioner(4, 3, blocks=2, dtype='float64')
  x = np.random.default_rng(1).normal(size=(2, 4, 3, 5))
  network(x)
  randomise(network.trainable_variables)
  weights = iter(v.numpy() for convolution in network._convolutions for v in convolution.trainable_variables)
  affine = iter([(1.0, 0.0)] + [(norm.gamma.numpy(), norm.beta.numpy()) for norm in network._norms[1::2]])

  def conv(h):
    direction, gain, bias = (next(weights) for _ in range(3))
    kernel = gain * direction / np.linalg.norm(direction.reshape(-1, direction.shape[-1]), axis=0)
    return tf.nn.conv2d(h, kernel, 1, 'SAME').numpy() + bias

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


def test_an_odd_number_of_outputs_is_refused():
  with pytest.raises(ValueError, match=r'`output_channels` must be an even integer\. Got: 3\.'):
    PaperConditioner(3)


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
@pytest.mark.parametrize('training', [True, False])
def test_the_output_is_zero_until_trained(normalization, training):
  network = ResidualConditioner(3, 4, 1, normalization)
  np.testing.assert_array_equal(network(tf.ones((2, 3, 3, 2)), training=training), np.zeros((2, 3, 3, 3)))


def test_the_last_layer_can_leave_zero():
  """Zero output, but not zero gradient."""
  network = ResidualConditioner(3, 4, 1)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(network(tf.random.stateless_normal((5, 3, 3, 2), seed=(0, 0))))
  gradients = tape.gradient(loss, [v.value for v in network.trainable_variables])
  assert any(g is not None and np.any(g) for g in gradients)


@pytest.mark.parametrize('normalization', ['batch', 'scalar_batch'])
def test_training_reaches_the_norms_inside(normalization):
  network = ResidualConditioner(3, 4, 1, normalization)
  module = KerasModule(network, (2, 2, 4))
  x = tf.random.stateless_normal((6, 2, 2, 4), seed=(0, 0), mean=2.0)
  randomise(network.trainable_variables)
  before = [v.numpy() for v in network.non_trainable_variables]
  evaluated = module(x)
  assert all(np.array_equal(v, b) for v, b in zip(network.non_trainable_variables, before, strict=True))
  trained = module(x, training=True)
  assert np.abs(trained - evaluated).max() > 1e-2
  statistics = [v for v in network.non_trainable_variables if 'seed' not in v.name]
  assert not any(np.array_equal(v, b) for v, b in zip(statistics, before, strict=True))


@pytest.mark.parametrize('policy', ['mixed_float16', 'mixed_bfloat16'])
@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_half_precision_stays_near_single(policy, normalization):
  half, single = (
    KerasModule(ResidualConditioner(3, 16, 2, normalization, dtype), (3, 3, 4)) for dtype in (policy, 'float32')
  )
  randomise(single.trainable_variables, 0.1)
  for a, b in zip(half.layer.variables, single.layer.variables, strict=True):
    a.assign(b)
  x = tf.random.stateless_normal((6, 3, 3, 4), seed=(0, 0))
  for training in (False, True):
    a, b = half(x, training=training), single(x, training=training)
    assert a.dtype == b.dtype == tf.float32
    assert np.abs(a - b).max() < 0.05 * np.abs(b).max()


def test_dtype_is_a_policy_of_all_layers():
  network = ResidualConditioner(3, 4, 1, dtype='float64')
  network(np.ones((1, 2, 2, 3)))
  assert {v.dtype for v in network.trainable_variables} == {'float64'}


def test_an_unknown_normalization_is_refused():
  with pytest.raises(ValueError, match=r'`normalization`.*Got: '):
    ResidualConditioner(3, normalization='group')
