"""Functions that XLA compiles as parts of a graph, and the activation made of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks.fused import fused, gelu

X = np.random.default_rng(0).normal(0.0, 2.0, (3, 5))

# Not the derivatives, so that they are told from automatic differentiation. There is none with respect to z.
cubed = fused(lambda x, y, z: x**3 * y + z, lambda x, y, z, dy: (x * dy, tf.reduce_sum(y * dy) * y))


def value_and_gradients(x, y, z):
  with tf.GradientTape() as tape:
    tape.watch((x, y))
    value = cubed(x, y, z)
  return value, *tape.gradient(value, (x, y))


@pytest.mark.parametrize('mode', ['eager', 'graph', 'graph without shapes', 'XLA'])
def test_values_and_gradients(mode):
  arguments = tuple(tf.constant(x) for x in (X, X + 1, X - 1))
  signature = [tf.TensorSpec((None, 5) if 'without' in mode else (3, 5), tf.float64)] * 3
  function = value_and_gradients
  if mode != 'eager':
    function = tf.function(function, input_signature=signature, jit_compile=mode == 'XLA', autograph=False)
  value, by_x, by_y = function(*arguments)
  np.testing.assert_allclose(value, X**3 * (X + 1) + X - 1, rtol=1e-12)
  np.testing.assert_allclose(by_x, X, rtol=1e-12)
  np.testing.assert_allclose(by_y, (X + 1).sum() * (X + 1), rtol=1e-12)


@pytest.mark.parametrize('shape', [(3, 5), (None, 5)])
def test_parts_of_a_graph_that_knows_its_shapes_are_compiled(shape):
  signature = [tf.TensorSpec(shape, tf.float64)] * 3
  graph = tf.function(value_and_gradients, input_signature=signature).get_concrete_function().graph
  compiled = [
    node for function in graph.as_graph_def().library.function for node in function.node_def if 'Call' in node.op
  ]
  assert bool(compiled) == (None not in shape) and all(node.attr['_XlaMustCompile'].b for node in compiled)


def test_each_shape_is_traced_once(caplog):
  traced = []

  def square(x):
    traced.append(x.shape)
    return x**2

  square = fused(square, lambda x, dy: 2 * x * dy)
  for _ in range(2):
    for n in range(1, 8):
      calls = tf.function(lambda x: square(x) + square(x + 1.0))
      np.testing.assert_allclose(calls(tf.fill([n], 2.0)), np.full(n, 13.0))
  assert [shape[0] for shape in traced] == list(range(1, 8))
  assert not any('square' in message for message in caplog.messages)  # TensorFlow would warn of its traces.


def slope_of(function):
  def slope(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      total = tf.reduce_sum(function(x))
    return tape.gradient(total, x)

  return slope


@pytest.mark.parametrize(
  ('mode', 'dtype', 'tolerance'),
  [('eager', 'float64', 1e-6), ('eager', 'float16', 3e-3), ('graph', 'float32', 1e-5), ('graph', 'bfloat16', 0.02)],
)
def test_gelu_and_its_gradient_against_keras(mode, dtype, tolerance):

  def value_and_slope(x):
    return gelu(x), slope_of(lambda x: tf.sin(gelu(x)))(x)

  x = tf.cast(X, dtype)
  found = (tf.function(value_and_slope, autograph=False) if mode == 'graph' else value_and_slope)(x)
  # Keras rounds sqrt(2 / pi) to float32.
  wide, of_keras = tf.cast(x, tf.float64), lambda x: keras.activations.gelu(x, approximate=True)
  for ours, reference in zip(found, (of_keras(wide), slope_of(lambda x: tf.sin(of_keras(x)))(wide)), strict=True):
    assert ours.dtype == dtype
    np.testing.assert_allclose(tf.cast(ours, tf.float64), reference, atol=tolerance)


def test_second_derivatives_of_gelu():
  """Against central differences of the first."""
  x, step, slope = tf.constant(X), 1e-5, slope_of(gelu)
  differences = (slope(x + step) - slope(x - step)) / (2 * step)
  np.testing.assert_allclose(tf.function(slope_of(slope), autograph=False)(x), differences, atol=1e-8)
