"""The network that sees the missing pixels of blocks."""

import keras
import numpy as np
import pytest
from scipy import special

from flowgan_tf.networks import MixerConditioner
from flowgan_tf.networks.block_means import BlockMeanConditioner


class Passes(keras.layers.Layer):
  """Returns the condition."""

  def call(self, inputs):
    return inputs[1]


@pytest.mark.parametrize('alpha', [0.0, 0.05])
def test_the_remainder_is_the_pixel_that_is_missing(alpha):
  images = np.random.default_rng(0).uniform(0.01, 0.99, (3, 4, 6, 2))
  means = images.reshape(3, 2, 2, 3, 2, 2).mean(axis=(2, 4))
  x = special.logit(alpha + (1 - 2 * alpha) * images)
  missing = x[:, ::2, ::2].copy()
  x[:, ::2, ::2] = 0
  network = BlockMeanConditioner(Passes(dtype='float64'), 2, alpha, 'float64')
  expected = np.concatenate([means, missing / 4], axis=-1)
  np.testing.assert_allclose(network([x, means]), expected, rtol=1e-9)
  # No pixel can give these means.
  for wrong in (0.0, 1.0):
    found = network([x, np.full_like(means, wrong)]).numpy()[..., 2:]
    np.testing.assert_allclose(special.expit(4 * found), wrong, atol=2e-4)


def test_a_network_with_a_remainder_is_made_again_from_its_settings():
  network = BlockMeanConditioner(MixerConditioner(2, 2, 5, dtype='mixed_bfloat16'), 2, 0.05)
  network.build([(None, 4, 6, 1), (None, 2, 3, 1)])
  again = BlockMeanConditioner.from_config(network.get_config())
  again.build([(None, 4, 6, 1), (None, 2, 3, 1)])
  assert again.get_config() == network.get_config() and (again.size, again.alpha) == (2, 0.05)
  assert [v.shape for v in again.variables] == [v.shape for v in network.variables]
