import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks import (
  NORMALIZATIONS,
  KerasModule,
  ResidualConditioner,
  WeightNormConv2D,
  dense_conditioner,
)


@pytest.fixture(autouse=True)
def seeded_initial_weights():
  keras.utils.set_random_seed(0)


def parameters(variables):
  return sum(int(np.prod(v.shape)) for v in variables)


def randomise(variables, scale=0.3):
  rng = np.random.default_rng(0)
  for variable in variables:
    variable.assign(variable.numpy() + rng.normal(0.0, scale, variable.shape))


def test_the_network_of_the_papers_nice():
  """392 -> 6 x 1000 -> 392, with gain and bias of seven scalar norms; four such networks and a diagonal scale."""
  network = dense_conditioner(392, normalization='scalar_batch')
  network.build((None, 392))
  dense = (392 * 1000 + 1000) + 5 * (1000 * 1000 + 1000) + (1000 * 392 + 392)
  assert dense == 5_790_392
  assert parameters(network.trainable_variables) == dense + 7 * 2
  assert 4 * parameters(network.trainable_variables) + 784 == 23_162_408


def test_dense_conditioner_against_numpy_in_double_precision():
  network = dense_conditioner(2, 5, 2, normalization='scalar_batch', dtype='float64')
  module = KerasModule(network, (3,))
  randomise(network.trainable_variables)
  norms, layers = network.layers[0::2], network.layers[1::2]
  assert len(norms) == len(layers) == 3
  for i, norm in enumerate(norms):
    norm.mean.assign(0.1 * i)
    norm.variance.assign(1.5 + i)
  x = np.random.default_rng(1).normal(size=(4, 3))
  h = x
  for i, (norm, layer) in enumerate(zip(norms, layers, strict=True)):
    gain, bias, kernel, offset = (w.numpy() for w in (norm.gain, norm.bias, layer.kernel, layer.bias))
    h = (gain * (h - 0.1 * i) / np.sqrt(1.5 + i + norm.epsilon) + bias) @ kernel + offset
    h = np.maximum(h, 0) if i < 2 else h
  # A float32 step anywhere would show at 1e-8.
  np.testing.assert_allclose(module(tf.constant(x)), h, rtol=1e-12)


@pytest.mark.parametrize('normalization', NORMALIZATIONS)
@pytest.mark.parametrize('training', [True, False])
def test_the_output_is_zero_until_trained(normalization, training):
  dense = dense_conditioner(3, 8, 2, normalization)
  np.testing.assert_array_equal(dense(tf.ones((2, 4)), training=training), np.zeros((2, 3)))
  residual = ResidualConditioner(3, 4, 1, normalization)
  np.testing.assert_array_equal(residual(tf.ones((2, 3, 3, 2)), training=training), np.zeros((2, 3, 3, 3)))


def test_the_last_layer_can_leave_zero():
  """Zero output, but not zero gradient."""
  for network, x in (
    (dense_conditioner(3, 8, 2), tf.random.stateless_normal((5, 4), seed=(0, 0))),
    (ResidualConditioner(3, 4, 1), tf.random.stateless_normal((5, 3, 3, 2), seed=(0, 0))),
  ):
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(network(x))
    gradients = tape.gradient(loss, [v.value for v in network.trainable_variables])
    assert any(g is not None and np.any(g) for g in gradients)


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


def test_the_network_of_the_papers_real_nvp():
  """64 channels, 8 blocks of two 3x3 convolutions, batch norm before each ReLU; for the first checkerboard coupling."""
  network = ResidualConditioner(6, normalization='batch')
  network(tf.zeros((1, 4, 4, 3)))
  first = 9 * 3 * 64 + 2 * 64
  block = 2 * (9 * 64 * 64 + 2 * 64 + 2 * 64)
  last = 2 * 64 + 64 * 6 + 2 * 6
  assert parameters(network.trainable_variables) == first + 8 * block + last


@pytest.mark.parametrize('normalization', ['batch', 'scalar_batch'])
def test_training_reaches_the_norms_inside(normalization):
  for network, shape in (
    (dense_conditioner(3, 8, 1, normalization), (4,)),
    (ResidualConditioner(3, 4, 1, normalization), (2, 2, 4)),
  ):
    module = KerasModule(network, shape)
    x = tf.random.stateless_normal((6, *shape), seed=(0, 0), mean=2.0)
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
  for build, shape in (
    (lambda dtype: dense_conditioner(3, 64, 2, normalization, dtype), (8,)),
    (lambda dtype: ResidualConditioner(3, 16, 2, normalization, dtype), (3, 3, 4)),
  ):
    half, single = (KerasModule(build(dtype), shape) for dtype in (policy, 'float32'))
    randomise(single.trainable_variables, 0.1)
    for a, b in zip(half.layer.variables, single.layer.variables, strict=True):
      a.assign(b)
    x = tf.random.stateless_normal((6, *shape), seed=(0, 0))
    for training in (False, True):
      a, b = half(x, training=training), single(x, training=training)
      assert a.dtype == b.dtype == tf.float32
      assert np.abs(a - b).max() < 0.05 * np.abs(b).max()


def test_dtype_is_a_policy_of_all_layers():
  for network in (dense_conditioner(3, 8, 1, dtype='float64'), ResidualConditioner(3, 4, 1, dtype='float64')):
    network(np.ones((1, 4)) if isinstance(network, keras.Sequential) else np.ones((1, 2, 2, 3)))
    assert {v.dtype for v in network.trainable_variables} == {'float64'}


def test_an_unknown_normalization_is_refused():
  with pytest.raises(ValueError, match=r'`normalization`.*Got: '):
    dense_conditioner(3, normalization='group')
  with pytest.raises(ValueError, match=r'`normalization`.*Got: '):
    ResidualConditioner(3, normalization='group')
