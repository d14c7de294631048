import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from flowgan_tf.networks import NORMALIZATIONS, KerasModule, dense_conditioner


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
  network = dense_conditioner(3, 8, 2, normalization)
  np.testing.assert_array_equal(network(tf.ones((2, 4)), training=training), np.zeros((2, 3)))


def test_initial_weights_of_the_paper():
  """N(0, 0.02^2) within two standard deviations in every layer, and other numbers in each."""
  network = dense_conditioner(60, 60, 2, initial_weights='paper')
  network.build((None, 60))
  kernels = [layer.kernel.numpy().ravel() for layer in network.layers[1::2]]
  for kernel in kernels:
    assert stats.kstest(kernel / 0.02, stats.truncnorm(-2, 2).cdf).pvalue > 1e-3
  assert np.abs(np.corrcoef(kernels) - np.eye(3)).max() < 0.1
  assert not any(np.any(layer.bias) for layer in network.layers[1::2])


def test_unknown_initial_weights_are_refused():
  with pytest.raises(ValueError, match=r"`initial_weights` must be one of zero_output, paper\. Got: 'large'"):
    dense_conditioner(3, initial_weights='large')


def test_the_last_layer_can_leave_zero():
  """Zero output, but not zero gradient."""
  network = dense_conditioner(3, 8, 2)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(network(tf.random.stateless_normal((5, 4), seed=(0, 0))))
  gradients = tape.gradient(loss, [v.value for v in network.trainable_variables])
  assert any(g is not None and np.any(g) for g in gradients)


@pytest.mark.parametrize('normalization', ['batch', 'scalar_batch'])
def test_training_reaches_the_norms_inside(normalization):
  network = dense_conditioner(3, 8, 1, normalization)
  module = KerasModule(network, (4,))
  x = tf.random.stateless_normal((6, 4), seed=(0, 0), mean=2.0)
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
  half, single = (KerasModule(dense_conditioner(3, 64, 2, normalization, dtype), (8,)) for dtype in (policy, 'float32'))
  randomise(single.trainable_variables, 0.1)
  for a, b in zip(half.layer.variables, single.layer.variables, strict=True):
    a.assign(b)
  x = tf.random.stateless_normal((6, 8), seed=(0, 0))
  for training in (False, True):
    a, b = half(x, training=training), single(x, training=training)
    assert a.dtype == b.dtype == tf.float32
    assert np.abs(a - b).max() < 0.05 * np.abs(b).max()


def test_dtype_is_a_policy_of_all_layers():
  network = dense_conditioner(3, 8, 1, dtype='float64')
  network(np.ones((1, 4)))
  assert {v.dtype for v in network.trainable_variables} == {'float64'}


def test_an_unknown_normalization_is_refused():
  with pytest.raises(ValueError, match=r'`normalization`.*Got: '):
    dense_conditioner(3, normalization='group')
