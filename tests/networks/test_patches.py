import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks import MixerConditioner, TransformerConditioner
from flowgan_tf.networks.patches import from_patches, to_patches


def test_patches_come_row_by_row_and_fit_together_again():
  images = tf.reshape(tf.range(2 * 4 * 6 * 3), (2, 4, 6, 3))
  patches = to_patches(images, 2)
  assert patches.shape == (6, 2, 12)
  for n in range(2):
    for row in range(2):
      for column in range(3):
        block = images[n, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(patches[3 * row + column, n], np.ravel(block))
  np.testing.assert_array_equal(from_patches(patches, 2, (4, 6, 3)), images)


@pytest.mark.parametrize('network', [MixerConditioner, TransformerConditioner])
@pytest.mark.parametrize(
  'name, value',
  [('output_channels', 0), ('patch_size', 0), ('patch_size', True), ('width', 2.5), ('width', '8'), ('blocks', 0)],
)
def test_arguments_are_checked(network, name, value):
  with pytest.raises(ValueError, match=rf'^`{name}` must be an integer of at least 1\. Got: {value!r}\.$'):
    network(**{'output_channels': 1, name: value})


def test_a_patch_must_divide_the_image():
  with pytest.raises(ValueError, match=r'^`patch_size` must be a divisor of height and width, 4 and 6\. Got: 4\.$'):
    MixerConditioner(1, patch_size=4).build((None, 4, 6, 1))


def randomised(network, shape):
  network.build((None, *shape))
  rng = np.random.default_rng(0)
  for weight in network.weights:
    weight.assign(weight.numpy() + rng.normal(0.0, 0.3, weight.shape))
  return network


def test_the_network_around_the_blocks():
  network = randomised(MixerConditioner(3, 2, 5, 2, 4, 6, 'float64'), (2, 4, 1))
  x = np.random.default_rng(1).normal(size=(3, 2, 4, 1))
  # Two patches, one beside the other.
  h = np.stack([x[:, :, :2].reshape(3, 4), x[:, :, 2:].reshape(3, 4)]) / 4
  h = h @ network._embedding.kernel.numpy() + network._embedding.bias.numpy() + network._positions.numpy()
  for block in network._blocks:
    h = block(h).numpy()
  norm = network._norm
  h = (h - h.mean(-1, keepdims=True)) / np.sqrt(
    h.var(-1, keepdims=True) + 1e-3
  ) * norm.gamma.numpy() + norm.beta.numpy()
  y = (h @ network._last.kernel.numpy() + network._last.bias.numpy()).reshape(2, 3, 2, 2, 3)
  np.testing.assert_allclose(network(x), np.concatenate([y[0], y[1]], axis=2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('network', [MixerConditioner, TransformerConditioner])
def test_every_output_depends_on_every_pixel_and_on_no_other_image(network):
  network = randomised(network(2, patch_size=2, width=4, hidden_units=6, dtype='float64'), (4, 4, 1))
  x = tf.random.stateless_normal((2, 4, 4, 1), seed=(0, 0), dtype=tf.float64)
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = network(x)
  jacobian = tape.jacobian(y, x).numpy().reshape(2, 32, 2, 16)
  assert np.all(jacobian[0, :, 0] != 0) and np.all(jacobian[1, :, 1] != 0)
  assert not np.any(jacobian[0, :, 1]) and not np.any(jacobian[1, :, 0])


@pytest.mark.parametrize('network', [MixerConditioner, TransformerConditioner])
def test_an_empty_batch(network):
  assert network(2, width=4)(tf.zeros((0, 4, 4, 1))).shape == (0, 4, 4, 2)
