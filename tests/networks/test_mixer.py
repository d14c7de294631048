import keras
import numpy as np
import pytest
from scipy import special

from flowgan_tf.networks.mixer import MixerBlock, MixerConditioner


def norm(h):
  return (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-3)


def test_a_block_is_two_perceptrons_over_patches_and_over_features():
  keras.utils.set_random_seed(0)
  h = np.random.default_rng(0).normal(size=(3, 4, 5))
  block = MixerBlock(patch_units=7, hidden_units=6, dtype='float64')
  block.build(h.shape)
  rng = np.random.default_rng(1)
  for weight in block.weights:
    weight.assign(rng.normal(size=weight.shape))
  weights = {weight.path.split('/', 1)[1]: weight.numpy() for weight in block.weights}
  actual = block(h)

  def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

  np.testing.assert_allclose(gelu(h), h * special.ndtr(h), atol=2e-3)
  (gamma, beta), (gamma_2, beta_2) = [[norm.gamma.numpy(), norm.beta.numpy()] for norm in block._norms]
  y = np.einsum('up,pbw->ubw', weights['patch_kernel_1'], norm(h) * gamma + beta) + weights['patch_bias_1'][..., None]
  y = np.einsum('pu,ubw->pbw', weights['patch_kernel_2'], gelu(y)) + weights['patch_bias_2'][..., None]
  mixed = h + y
  y = gelu((norm(mixed) * gamma_2 + beta_2) @ block._wide.kernel.numpy() + block._wide.bias.numpy())
  expected = mixed + y @ block._narrow.kernel.numpy() + block._narrow.bias.numpy()
  np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-7)  # Keras rounds sqrt(2 / pi) to float32.


@pytest.mark.parametrize('name', ['patch_units', 'hidden_units'])
def test_arguments_are_checked(name):
  with pytest.raises(ValueError, match=f'`{name}` must be an integer of at least 1. Got: 0.'):
    MixerConditioner(1, **{name: 0})
