"""How conditions enter networks, against plain operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks import (
  KerasModule,
  LastAxisNormalization,
  MixerConditioner,
  ResidualConditioner,
  TransformerConditioner,
  dense_conditioner,
)
from flowgan_tf.networks.modulation import ConditionalSequential, Modulation, beside
from tests.tiny import MODES

RNG = np.random.default_rng(0)


def randomise(layer, scale=0.3, seed=0):
  rng = np.random.default_rng(seed)
  for variable in layer.trainable_variables:
    variable.assign(variable.numpy() + rng.normal(0.0, scale, variable.shape))
  return layer


@pytest.mark.parametrize('shape', [(5,), (2, 3, 5)])
def test_modulation_by_hand(shape):
  layer, x, c = Modulation(dtype='float64'), RNG.normal(size=(4, *shape)), RNG.normal(size=(4, 3))
  np.testing.assert_array_equal(layer([x, c]), x)  # It starts at the identity.
  kernel, bias = (v.numpy() for v in randomise(layer).trainable_variables)
  scale, shift = np.split(c @ kernel + bias, 2, axis=-1)
  expected = [x[i] * (1 + scale[i]) + shift[i] for i in range(4)]
  np.testing.assert_allclose(layer([x, c]), expected, rtol=1e-6)
  unconditional = Modulation(dtype='float64')
  np.testing.assert_array_equal(unconditional(x), x)
  assert not unconditional.variables


def test_images_beside_an_input_are_resized():
  x, c = RNG.normal(size=(2, 4, 6, 1)).astype(np.float32), RNG.normal(size=(2, 2, 3, 2)).astype(np.float32)
  y = beside(tf.constant(x), tf.constant(c)).numpy()
  assert y.shape == (2, 4, 6, 3)
  np.testing.assert_array_equal(y[..., :1], x)
  # Between the centres of pixels it is linear: a quarter of the way from the first to the second one, at the border
  # the first one alone.
  np.testing.assert_allclose(y[:, 0, 0, 1:], c[:, 0, 0], rtol=1e-5)
  np.testing.assert_allclose(y[:, 0, 1, 1:], 0.75 * c[:, 0, 0] + 0.25 * c[:, 0, 1], rtol=1e-4, atol=1e-6)
  middle = 0.75 * (0.75 * c[:, 0, 1] + 0.25 * c[:, 0, 2]) + 0.25 * (0.75 * c[:, 1, 1] + 0.25 * c[:, 1, 2])
  np.testing.assert_allclose(y[:, 1, 3, 1:], middle, rtol=1e-4, atol=1e-6)
  same = RNG.normal(size=(2, 4, 6, 2)).astype(np.float32)
  np.testing.assert_array_equal(beside(tf.constant(x), tf.constant(same))[..., 1:], same)
  larger = RNG.normal(size=(2, 8, 18, 2)).astype(np.float32)
  means = larger.reshape(2, 4, 2, 6, 3, 2).mean(axis=(2, 4))
  np.testing.assert_allclose(beside(tf.constant(x), tf.constant(larger))[..., 1:], means, rtol=1e-4, atol=1e-6)
  vectors = beside(tf.constant(x[:, 0, :, 0]), tf.constant(c)).numpy()
  np.testing.assert_array_equal(vectors, np.concatenate([x[:, 0, :, 0], c.reshape(2, -1)], axis=1))


def test_a_dense_network_by_hand():
  network = KerasModule(
    dense_conditioner(2, 4, 1, 'none', 'float64', conditional=True), (3,), condition_shape=(2,)
  ).layer
  x, c = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 2))
  first, first_bias, kernel_1, bias_1, second, second_bias, kernel_2, bias_2 = (
    v.numpy() for v in randomise(network).trainable_variables
  )

  def modulated(h, kernel, bias):
    scale, shift = np.split(c @ kernel + bias, 2, axis=1)
    return h * (1 + scale) + shift

  h = np.maximum(modulated(x, first, first_bias) @ kernel_1 + bias_1, 0)
  expected = modulated(h, second, second_bias) @ kernel_2 + bias_2
  np.testing.assert_allclose(network([x, c]), expected, rtol=1e-6)


def adapted(layer, x, modulation):
  """The formula of a `LastAxisNormalization` with a modulation, of rows `[..., batch, features]`."""
  scale, shift = tf.split(modulation, 2, axis=-1)
  centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
  normed = centred / tf.sqrt(tf.reduce_mean(centred**2, axis=-1, keepdims=True) + 1e-3)
  return (normed * layer.gamma.value + layer.beta.value) * (1 + scale) + shift


@pytest.mark.parametrize(
  ('mode', 'shape'),
  [
    ('eager', (4, 8)),
    ('eager', (12, 8)),
    ('graph', (3, 4, 8)),
    pytest.param('XLA', (3, 4, 8), marks=pytest.mark.slow),
  ],
)
def test_values_and_both_derivatives_of_a_norm_with_modulation(mode, shape):
  """Of 4 conditions; flat rows belong to three patches, the batch of each after the other."""
  layer = LastAxisNormalization(dtype='float64')
  layer.build((None, 8))
  randomise(layer)
  x, modulation, weights = (tf.constant(RNG.normal(size=size)) for size in (shape, (4, 16), shape))
  arguments = [x, modulation, layer.gamma.value, layer.beta.value]
  patches = (-1, 4, 8)  # Which the formula needs for flat rows.

  def derivatives(function):
    with tf.GradientTape() as outer:
      outer.watch(arguments[:2])
      with tf.GradientTape() as inner:
        inner.watch(arguments[:2])
        y = tf.reshape(function(x, modulation), shape)
        loss = tf.reduce_sum(weights * tf.sin(y))
      first = inner.gradient(loss, arguments)
      scalar = sum(tf.reduce_sum(tf.sin(3 * gradient)) for gradient in first)
    return [y, *first, *outer.gradient(scalar, arguments)]

  found = MODES[mode](lambda: derivatives(layer))()
  expected = derivatives(lambda x, modulation: adapted(layer, tf.reshape(x, patches), modulation))
  assert len(found) == 9
  for ours, exact in zip(found, expected, strict=True):
    assert np.abs(exact).max() > 0.1
    np.testing.assert_allclose(ours, exact, rtol=1e-9, atol=1e-9)


NETWORKS = {
  'dense': (lambda: dense_conditioner(3, 8, 1, conditional=True), (6,)),
  'residual': (lambda: ResidualConditioner(3, 4, 1, patch_size=2), (4, 4, 2)),
  'mixer': (lambda: MixerConditioner(3, 2, 4, 1, 3, 5), (4, 4, 2)),
  'transformer': (lambda: TransformerConditioner(3, 2, 4, 1, 2, 5), (4, 4, 2)),
}


@pytest.mark.parametrize('condition_shape', [(3,), pytest.param((2, 2, 1), marks=pytest.mark.slow)])
@pytest.mark.parametrize('name', NETWORKS)
def test_conditional_networks_are_saved_loaded_and_copied(name, condition_shape, tmp_path):
  make, shape = NETWORKS[name]
  inputs = [keras.Input(shape), keras.Input(condition_shape)]
  network = make()
  model = randomise(keras.Model(inputs, network(inputs)))
  model.save(tmp_path / 'model.keras')
  loaded = keras.saving.load_model(tmp_path / 'model.keras')
  x, c = (tf.constant(RNG.normal(size=(5, *size)), tf.float32) for size in (shape, condition_shape))
  expected = model([x, c]).numpy()
  assert np.abs(expected - model([x, c[::-1]])).max(axis=tuple(range(1, expected.ndim)))[0] > 1e-3
  np.testing.assert_array_equal(loaded([x, c]), expected)
  module = KerasModule(network, shape, condition_shape=condition_shape)
  np.testing.assert_allclose(module(x, c), expected, rtol=1e-5, atol=1e-6)
  # A condition may lack the first batch dimensions.
  several = module(tf.stack([x, x]), c)
  np.testing.assert_allclose(several, [expected] * 2, rtol=1e-5, atol=1e-6)


def test_a_sequence_without_a_condition_is_that_of_keras():
  layers = [keras.layers.Dense(4, 'relu'), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
  keras_sequence, x = keras.Sequential(layers), RNG.normal(size=(5, 3)).astype(np.float32)
  expected = keras_sequence(x, training=True)
  ours = ConditionalSequential([layers[0], Modulation(), *layers[1:]])
  np.testing.assert_array_equal(ours(x, training=True), expected)
  assert len(ours.variables) == len(keras_sequence.variables)


@pytest.mark.parametrize('make', [MixerConditioner, TransformerConditioner])
def test_each_norm_of_each_block_has_a_modulation_of_its_own(make):
  """Two in each of two blocks, and the last one: a scale and a shift of 4 features each."""
  network = make(3, 2, 4, 2)
  x, c = (tf.constant(RNG.normal(size=size), tf.float32) for size in ((5, 4, 4, 2), (5, 3)))
  network([x, c])
  randomise(network)
  kernel, outputs = network._modulation.kernel, [network([x, c]).numpy()]
  for i in range(5):
    moved = kernel.numpy()
    moved[:, 8 * i : 8 * i + 8] += 0.5
    kernel.assign(moved)
    outputs.append(network([x, c]).numpy())
  assert kernel.shape == (3, 40) and min(np.abs(np.diff(outputs, axis=0)).max(axis=(1, 2, 3, 4))) > 1e-3
