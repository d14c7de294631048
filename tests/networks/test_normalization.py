import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks import (
  GuardedBatchNormalization,
  ImageNormalization,
  LastAxisNormalization,
  ScalarBatchNormalization,
)
from flowgan_tf.networks.normalization import make_normalization
from tests.tiny import MODES

X = np.random.default_rng(0).normal(2.0, 3.0, (7, 2, 5))


@pytest.mark.parametrize(('momentum', 'epsilon', 'arguments'), [(0.8, 1e-2, True), (0.9, 1e-6, False)])
def test_scalar_batch_normalization(momentum, epsilon, arguments):
  """With given arguments, and with the defaults of the paper's code on inputs whose variance shows the epsilon."""
  layer = ScalarBatchNormalization(**({'momentum': momentum, 'epsilon': epsilon} if arguments else {}), dtype='float64')
  layer.build((None, 2, 5))
  for weight, value in ((layer.gain, 1.5), (layer.bias, -0.5), (layer.mean, 0.7), (layer.variance, 2.0)):
    weight.assign(value)
  x = X if arguments else 3e-4 * X
  np.testing.assert_allclose(layer(x), 1.5 * (x - 0.7) / np.sqrt(2.0 + epsilon) - 0.5, rtol=1e-10)
  assert layer.mean.numpy() == 0.7 and layer.variance.numpy() == 2.0
  expected = 1.5 * (x - x.mean()) / np.sqrt(x.var() + epsilon) - 0.5
  np.testing.assert_allclose(layer(x, training=True), expected, rtol=1e-9)
  kept = momentum, 1 - momentum
  np.testing.assert_allclose(layer.mean.numpy(), np.dot(kept, (0.7, x.mean())), rtol=1e-12)
  np.testing.assert_allclose(layer.variance.numpy(), np.dot(kept, (2.0, x.var())), rtol=1e-12)


@pytest.mark.parametrize('name', ['batch', 'scalar_batch'])
def test_an_empty_batch_leaves_the_running_statistics_alone(name):
  layer = make_normalization(name, 'float64')
  layer(X, training=True)
  expected = layer(X)
  for call in (layer, tf.function(layer)):
    assert call(tf.constant(X[:0]), training=True).shape == (0, 2, 5)
    np.testing.assert_array_equal(layer(X), expected)


def test_formulas_of_the_other_norms():
  batch, layer = make_normalization('batch', 'float64'), make_normalization('layer', 'float64')
  mean, std = X.mean(axis=(0, 1)), X.std(axis=(0, 1))
  np.testing.assert_allclose(batch(X, training=True), (X - mean) / np.sqrt(std**2 + 1e-3), rtol=1e-6)
  np.testing.assert_allclose(batch.moving_mean.numpy(), 0.05 * mean, rtol=1e-6)
  std = np.sqrt(0.95 + 0.05 * std**2 + 1e-3)
  np.testing.assert_allclose(batch(X), (X - 0.05 * mean) / std, rtol=1e-6, atol=1e-6)
  mean, variance = X.mean(axis=-1, keepdims=True), X.var(axis=-1, keepdims=True)
  np.testing.assert_allclose(layer(X), (X - mean) / np.sqrt(variance + 1e-3), rtol=1e-6)
  np.testing.assert_array_equal(make_normalization('none', 'float64')(X), X)


def values_and_gradients(layer, weights, mode, **kwargs):
  """A function of the input: the layer's values, and a loss's gradients by the input and by the layer's weights."""

  def calculate(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = layer(x, **kwargs)
      loss = tf.reduce_sum(weights * tf.sin(tf.cast(y, weights.dtype)))
    return [y, *tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])]

  return MODES[mode](calculate)


def layer_norms(dtype='float32'):
  """Ours and Keras', with the same gain and bias."""
  layers = LastAxisNormalization(dtype=dtype), keras.layers.LayerNormalization(dtype=dtype)
  rng = np.random.default_rng(1)
  gamma, beta = rng.normal(1.0, 0.3, 32), rng.normal(size=32)
  for layer in layers:
    layer.build((None, 32))
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
  return layers


@pytest.mark.parametrize(
  ('mode', 'shape', 'dtype', 'tolerance'),
  [
    ('eager', (32,), 'float64', 1e-13),
    ('eager', (6, 3, 5, 32), 'float32', 5e-6),
    ('graph', (8, 32), 'float64', 1e-13),
    ('graph', (6, 3, 5, 32), 'float32', 5e-6),
    ('XLA', (8, 32), 'float32', 5e-6),
  ],
)
def test_last_axis_normalization_against_keras(mode, shape, dtype, tolerance):
  rng = np.random.default_rng(0)
  x, weights = (tf.constant(rng.normal(size=shape), dtype) for _ in range(2))
  results = [values_and_gradients(layer, weights, mode)(x) for layer in layer_norms(dtype)]
  for ours, reference in zip(*results, strict=True):
    assert ours.shape == reference.shape
    np.testing.assert_allclose(ours, reference, rtol=0, atol=tolerance * np.abs(reference).max())


def test_last_axis_normalization_of_a_large_mean_is_as_exact_as_keras():
  x = np.random.default_rng(0).normal(100.0, 1.0, (2000, 32)).astype(np.float32)
  ours, reference = layer_norms()
  exact = layer_norms('float64')[1](x.astype(np.float64))
  errors = [np.abs(layer(x) - tf.cast(exact, tf.float32)).max() for layer in (ours, reference)]
  assert errors[0] <= errors[1] < 1e-4


def test_rows_of_another_width_are_rejected():
  layer, _ = layer_norms('float64')
  with pytest.raises(ValueError, match='expected axis -1 of input shape to have value 32'):
    layer(tf.zeros((3, 64)))


@pytest.mark.parametrize(
  ('mode', 'shape', 'axes'), [('eager', (1, 5, 32), -1), ('graph', (5, 32), -1), ('eager', (5, 32), None)]
)
def test_second_derivatives(mode, shape, axes):
  """Against automatic differentiation of the formula; Keras' own layers and moments give something else."""
  rng = np.random.default_rng(0)
  x, *weights = (tf.constant(rng.normal(size=shape)) for _ in range(3))
  if axes is None:
    norm = ScalarBatchNormalization(epsilon=1e-3, dtype='float64')
    norm.build(shape)
    layer, variables = functools.partial(norm, training=True), [norm.gain.value, norm.bias.value]
  else:
    layer, _ = layer_norms('float64')
    variables = [layer.gamma.value, layer.beta.value]

  def formula(x):
    centred = x - tf.reduce_mean(x, axis=axes, keepdims=True)
    variance = tf.reduce_mean(centred**2, axis=axes, keepdims=True)
    return variables[0] * centred / tf.sqrt(variance + 1e-3) + variables[1]

  def second_derivatives(function, variables):
    with tf.GradientTape() as outer:
      outer.watch(x)
      with tf.GradientTape() as inner:
        inner.watch(x)
        loss = tf.reduce_sum(weights[0] * tf.sin(function(x)))
      scalar = sum(tf.reduce_sum(tf.sin(3 * g) * weights[1]) for g in inner.gradient(loss, [x, *variables]))
    return outer.gradient(scalar, [x, *variables])

  run = MODES[mode](second_derivatives)
  expected = run(formula, variables)
  for ours, exact in zip(run(layer, variables), expected, strict=True):
    assert np.abs(exact).max() > 0.1
    np.testing.assert_allclose(ours, exact, rtol=1e-10, atol=1e-10)


def test_image_normalization():
  layer = ImageNormalization(epsilon=1e-2, dtype='float64')
  layer(X)
  gain, bias = np.arange(1.0, 6.0), np.arange(5.0)
  layer.gain.assign(gain)
  layer.bias.assign(bias)
  mean, variance = X.mean(axis=(1, 2), keepdims=True), X.var(axis=(1, 2), keepdims=True)
  np.testing.assert_allclose(layer(X), gain * (X - mean) / np.sqrt(variance + 1e-2) + bias, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
  ('mode', 'affine', 'policy', 'tolerance', 'training'),
  [
    ('eager', True, 'float32', 1e-5, True),
    ('graph', False, 'float32', 1e-5, True),
    ('graph', True, 'mixed_bfloat16', 2e-2, True),
    ('graph', True, 'mixed_float16', 2e-3, True),
    ('XLA', True, 'float32', 1e-5, True),
    ('eager', True, 'float32', 1e-5, False),
    ('graph', False, 'mixed_bfloat16', 2e-2, False),
    ('XLA', True, 'mixed_float16', 2e-3, False),
  ],
)
def test_fused_batch_normalization_against_keras(mode, affine, policy, tolerance, training):
  """Values, gradients and running statistics on images, after two batches."""
  rng = np.random.default_rng(0)
  images = rng.normal(3.0, 2.0, (2, 6, 5, 4, 3))
  weights = rng.normal(size=images.shape[1:])
  results = []
  for kind in (GuardedBatchNormalization, keras.layers.BatchNormalization):
    layer = kind(momentum=0.8, epsilon=1e-6, center=affine, scale=affine, dtype=policy)
    layer.build((None, 5, 4, 3))
    for variable in layer.trainable_variables:
      variable.assign([0.5, 1.0, 1.5])
    for variable in layer.non_trainable_variables:
      variable.assign([0.8, 2.0, 3.0])
    run = values_and_gradients(layer, weights, mode, training=training)
    for batch in images:
      found = run(tf.constant(batch, layer.compute_dtype))
    assert found[0].dtype == layer.compute_dtype
    results.append([tf.cast(t, tf.float64) for t in [*found, *(v.value for v in layer.non_trainable_variables)]])
  for ours, reference in zip(*results, strict=True):
    np.testing.assert_allclose(ours, reference, rtol=0, atol=tolerance * np.abs(reference).max())


def test_fused_batch_normalization_of_a_single_pixel():
  """Its variance is 0, which the fused operation would divide by 0."""
  layer = GuardedBatchNormalization(momentum=0.5)
  np.testing.assert_array_equal(layer(tf.fill((1, 1, 1, 2), 3.0), training=True), tf.zeros((1, 1, 1, 2)))
  np.testing.assert_array_equal(layer.moving_mean, [1.5, 1.5])
  np.testing.assert_array_equal(layer.moving_variance, [0.5, 0.5])


@pytest.mark.parametrize('name, shape', [('batch', (6, 3)), ('batch', (6, 5, 4, 3)), ('scalar_batch', (6, 3))])
def test_a_frozen_batch_norm_is_that_of_evaluation(name, shape):
  x = tf.random.stateless_normal(shape, (0, 1), 3.0)
  layer = make_normalization(name, 'float32')
  layer(x, training=True)
  expected = layer(x)
  layer.trainable = False
  for _ in range(2):  # The first call leaves the statistics as they are.
    np.testing.assert_array_equal(layer(x, training=True), expected)


@pytest.mark.parametrize('dtype, tolerance', [('bfloat16', 0.02), ('float16', 2e-3), ('mixed_float16', 2e-3)])
def test_norms_in_half_precision(dtype, tolerance):
  """On squares beyond float16's 65504, and running statistics that half precision would keep where they are."""
  x = np.random.default_rng(0).normal(0.0, 400.0, (6, 5, 4, 3))
  for kind in (GuardedBatchNormalization, LastAxisNormalization, ImageNormalization, ScalarBatchNormalization):
    half, exact = kind(dtype=dtype), kind(dtype='float64')
    kwargs = {'training': True} if 'Batch' in kind.__name__ else {}
    inputs = tf.constant(x, half.compute_dtype)
    found, expected = half(inputs, **kwargs), exact(tf.cast(inputs, tf.float64), **kwargs)
    assert found.dtype == half.compute_dtype
    np.testing.assert_allclose(tf.cast(found, tf.float64), expected, atol=tolerance * np.abs(expected).max())
    assert kind is GuardedBatchNormalization or {weight.dtype for weight in half.weights} == {'float32'}
  half.mean.assign(1000.25)
  half(np.full((2, 2), 1000.0), training=True)
  np.testing.assert_allclose(half.mean.numpy(), 0.9 * 1000.25 + 0.1 * 1000.0, rtol=1e-6)


def test_keras_before_3_14_has_no_renorm():
  layer, images = GuardedBatchNormalization(), tf.ones((2, 4, 4, 3))
  layer.build(images.shape)
  vars(layer).pop('renorm', None)
  assert layer(images, training=True).shape == images.shape
