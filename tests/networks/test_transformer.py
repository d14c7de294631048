import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks.transformer import TransformerBlock, TransformerConditioner


def test_attention_is_that_of_keras():
  """Keras' MultiHeadAttention has its projections apart and its batch first."""
  keras.utils.set_random_seed(0)
  h = np.random.default_rng(0).normal(size=(5, 2, 6)).astype(np.float32)
  block = TransformerBlock(heads=3, hidden_units=4)
  block.build(h.shape)
  # Without the second half of the block.
  block._narrow.kernel.assign(np.zeros((4, 6)))
  attention = keras.layers.MultiHeadAttention(num_heads=3, key_dim=2)
  normed = block._norms[0](h.reshape(-1, 6)).numpy().reshape(h.shape).transpose(1, 0, 2)
  attention(normed, normed)
  kernels = block._query_key_value.kernel.numpy().reshape(6, 3, 3, 2)
  zeros = np.zeros((3, 2))
  attention.set_weights(
    [
      *(array for i in range(3) for array in (kernels[:, i], zeros)),
      block._output.kernel.numpy().reshape(3, 2, 6),
      np.zeros(6),
    ]
  )
  expected = h + attention(normed, normed).numpy().transpose(1, 0, 2)
  np.testing.assert_allclose(block(h), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', ['heads', 'hidden_units'])
def test_arguments_are_checked(name):
  with pytest.raises(ValueError, match=f'`{name}` must be an integer of at least 1. Got: 0.'):
    TransformerConditioner(1, **{name: 0})


def test_heads_must_divide_the_width():
  with pytest.raises(ValueError, match=r'`width` must be a multiple of the number of heads, 4. Got: 6.'):
    TransformerConditioner(1, width=6)
  with pytest.raises(ValueError, match=r'`heads` must be a divisor of the number of features, 10. Got: 4.'):
    TransformerBlock(4, 8)(tf.zeros((2, 4, 10)))
