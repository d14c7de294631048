"""The networks over patches, and their blocks."""

import keras
import numpy as np
import pytest
from scipy import special

from flowgan_tf.networks import MixerConditioner
from flowgan_tf.networks.mixer import MixerBlock
from flowgan_tf.networks.transformer import TransformerBlock


def randomised(layer, shape):
  layer.build(shape)
  rng = np.random.default_rng(0)
  for weight in layer.weights:
    weight.assign(weight.numpy() + rng.normal(0.0, 0.3, weight.shape))
  return layer


def normalised(h, norm):
  return (h - h.mean(-1, keepdims=True)) / np.sqrt(
    h.var(-1, keepdims=True) + 1e-3
  ) * norm.gamma.numpy() + norm.beta.numpy()


def dense(h, layer):
  return h @ layer.kernel.numpy() + layer.bias.numpy()


def gelu(x):
  return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_the_network_around_the_blocks():
  network = randomised(MixerConditioner(3, 2, 5, 2, 4, 6, 'float64'), (None, 2, 4, 1))
  x = np.random.default_rng(1).normal(size=(3, 2, 4, 1))
  # Two patches, one beside the other.
  h = np.stack([x[:, :, :2].reshape(3, 4), x[:, :, 2:].reshape(3, 4)]) / 4
  h = dense(h, network._embedding) + network._positions.numpy()
  for block in network._blocks:
    h = block(h).numpy()
  y = dense(normalised(h, network._norm), network._last).reshape(2, 3, 2, 2, 3)
  np.testing.assert_allclose(network(x), np.concatenate([y[0], y[1]], axis=2), rtol=1e-9, atol=1e-9)
  assert network(x[:0]).shape == (0, 2, 4, 3)
  with pytest.raises(ValueError, match='`condition` must be None, as in the first call of the network'):
    network([x, x[:, 0, 0]])


def test_a_mixer_block_is_two_perceptrons_over_patches_and_over_features():
  h = np.random.default_rng(0).normal(size=(3, 4, 5))
  np.testing.assert_allclose(gelu(h), h * special.ndtr(h), atol=2e-3)
  block = randomised(MixerBlock(patch_units=7, hidden_units=6, dtype='float64'), h.shape)
  up, up_bias, down, down_bias = (w.numpy() for w in (block._up, block._up_bias, block._down, block._down_bias))
  y = np.einsum('up,pbw->ubw', up, normalised(h, block._norms[0])) + up_bias[..., None]
  mixed = h + np.einsum('pu,ubw->pbw', down, gelu(y)) + down_bias[..., None]
  expected = mixed + dense(gelu(dense(normalised(mixed, block._norms[1]), block._wide)), block._narrow)
  np.testing.assert_allclose(block(h), expected, rtol=1e-7, atol=1e-7)  # Keras rounds sqrt(2 / pi) to float32.


def test_attention_is_that_of_keras():
  """Keras' MultiHeadAttention has its projections apart and its batch first."""
  h = np.random.default_rng(0).normal(size=(5, 2, 6))
  block = randomised(TransformerBlock(heads=3, hidden_units=4, dtype='float64'), h.shape)
  attention = keras.layers.MultiHeadAttention(num_heads=3, key_dim=2, dtype='float64')
  normed = normalised(h, block._norms[0]).transpose(1, 0, 2)
  attention(normed, normed)
  kernels = block._query_key_value.kernel.numpy().reshape(6, 3, 3, 2)
  biases = block._query_key_value.bias.numpy().reshape(3, 3, 2)
  projections = [array for i in range(3) for array in (kernels[:, i], biases[i])]
  attention.set_weights([*projections, block._output.kernel.numpy().reshape(3, 2, 6), block._output.bias.numpy()])
  mixed = h + attention(normed, normed).numpy().transpose(1, 0, 2)
  expected = mixed + dense(gelu(dense(normalised(mixed, block._norms[1]), block._wide)), block._narrow)
  np.testing.assert_allclose(block(h), expected, rtol=1e-6, atol=1e-6)
  assert block(h[:, :0]).shape == (5, 0, 6)
