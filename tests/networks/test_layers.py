"""Layers whose biases have right gradients in half precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import flowgan_tf as fg
from flowgan_tf.networks import MixerConditioner, TransformerConditioner
from flowgan_tf.networks.conditioners import dense_conditioner

NETWORKS = {
  'dcgan_critic': (lambda dtype: fg.objectives.dcgan_critic((28, 28, 1), dense_units=8, dtype=dtype), (28, 28, 1)),
  'dense_critic': (lambda dtype: fg.objectives.dense_critic((4, 4, 1), hidden_units=(8, 8), dtype=dtype), (4, 4, 1)),
  'dense_conditioner': (lambda dtype: dense_conditioner(4, 8, 2, dtype=dtype), (6,)),
  'mixer': (lambda dtype: MixerConditioner(2, 2, 8, 1, 8, 8, dtype=dtype), (16, 16, 1)),
  'transformer': (lambda dtype: TransformerConditioner(2, 2, 8, 1, 8, dtype=dtype), (16, 16, 1)),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_gradients_of_biases_in_bfloat16(name):
  """They sum over up to 156,800 pixels, of which each gradient is positive."""
  make, shape = NETWORKS[name]
  x = tf.random.stateless_uniform((800 if len(shape) == 1 else 200, *shape), (0, 1))
  found = {}
  start = None
  for dtype in ('float32', 'mixed_bfloat16'):
    network = make(dtype)
    network.build((None, *shape))
    rng = np.random.default_rng(0)
    start = start or [rng.uniform(0.01, 0.2, variable.shape) for variable in network.trainable_variables]
    for variable, value in zip(network.trainable_variables, start, strict=True):
      variable.assign(value)
    biases = [variable for variable in network.trainable_variables if 'bias' in variable.name]
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(tf.cast(network(x), tf.float32))
    found[dtype] = tape.gradient(loss, [bias.value for bias in biases])
    assert biases and isinstance(network, keras.Layer)
  for right, half in zip(*found.values(), strict=True):
    # A bias in front of a norm over the same axis has the gradient 0.
    atol = 1e-5 + 0.02 * float(tf.reduce_max(tf.abs(right)))
    np.testing.assert_allclose(half, right, rtol=0.1, atol=atol)
