"""Counts against hand counts from the shapes, and against TensorFlow's own profiler."""

import keras
import pytest
import tensorflow as tf

from benchmarks.flops import count_flops
from flowgan_tf import flows, networks


def _built(layer, *input_shape):
  layer.build((None, *input_shape))
  return layer


def _loss_gradient(layer, by):
  """Gradient of a loss by the layer's kernel, by its input, or by both."""

  def gradient(x):
    kernel = layer.trainable_variables[0].value
    with tf.GradientTape() as tape:
      tape.watch(x)
      loss = tf.reduce_sum(tf.square(layer(x)))
    return tape.gradient(loss, {'kernel': kernel, 'input': x, 'both': [kernel, x]}[by])

  return gradient


@pytest.mark.parametrize(
  ('product', 'shapes'),
  [
    (lambda a, b: a @ b, [(3, 4), (4, 5)]),
    (lambda a, b: tf.matmul(a, b, transpose_a=True), [(4, 3), (4, 5)]),
    (lambda a, b: tf.matmul(a, b, transpose_b=True), [(3, 4), (5, 4)]),
    (lambda a, b: tf.matmul(a, b, adjoint_a=True), [(1, 4, 3), (1, 4, 5)]),
    (keras.layers.Dense(5), [(3, 4)]),
    (keras.layers.Dense(5), [(1, 3, 4)]),
    (keras.layers.EinsumDense('abc,cd->abd', output_shape=(None, 5)), [(1, 3, 4)]),
  ],
)
def test_matrix_product(product, shapes):
  assert count_flops(product, *map(tf.TensorSpec, shapes)) == 2 * 3 * 4 * 5


def test_batched_matrix_product_with_broadcast():
  assert count_flops(tf.matmul, tf.TensorSpec((7, 1, 3, 4)), tf.TensorSpec((2, 4, 5))) == 7 * 2 * 2 * 3 * 4 * 5


# 9x9 with stride 2 and padding: 5x5 outputs; without padding, a kernel of 5: 3x3.
@pytest.mark.parametrize(
  ('layer', 'flops'),
  [
    (keras.layers.Conv2D(8, 5, strides=2, padding='same'), 2 * (2 * 5 * 5 * 8) * (5 * 5 * 6)),
    (keras.layers.Conv2D(8, 5, strides=2, padding='valid'), 2 * (2 * 3 * 3 * 8) * (5 * 5 * 6)),
    (keras.layers.Conv2D(8, 3, groups=2, padding='same'), 2 * (2 * 9 * 9 * 8) * (3 * 3 * 3)),
    (keras.layers.DepthwiseConv2D(5, padding='same', depth_multiplier=2), 2 * (2 * 9 * 9 * 12) * (5 * 5)),
    # Each entry of the input meets every output channel at every place of the kernel.
    (keras.layers.Conv2DTranspose(8, 5, strides=2, padding='same'), 2 * (2 * 9 * 9 * 6) * (5 * 5 * 8)),
  ],
)
def test_convolution_and_its_gradients(layer, flops):
  layer, images = _built(layer, 9, 9, 6), tf.TensorSpec((2, 9, 9, 6))
  assert count_flops(layer, images) == flops
  assert count_flops(_loss_gradient(layer, 'kernel'), images) == 2 * flops
  assert count_flops(_loss_gradient(layer, 'input'), images) == 2 * flops
  assert count_flops(_loss_gradient(layer, 'both'), images) == 3 * flops


@pytest.mark.parametrize(('by', 'passes'), [('kernel', 2), ('input', 2), ('both', 3)])
def test_gradients_of_a_dense_layer(by, passes):
  layer = _built(keras.layers.Dense(5), 4)
  assert count_flops(_loss_gradient(layer, by), tf.TensorSpec((3, 4))) == passes * 2 * 3 * 4 * 5


def test_nice():
  flow = flows.nice((4, 4, 1), couplings=3, hidden_units=10, hidden_layers=2, normalization='none')
  one_image = 3 * 2 * (8 * 10 + 10 * 10 + 10 * 8)
  assert count_flops(flow.log_prob, tf.TensorSpec((5, 4, 4, 1))) == 5 * one_image

  def loss_gradient(x):
    with tf.GradientTape() as tape:
      nll = -tf.reduce_mean(flow.log_prob(x, training=True))
    return tape.gradient(nll, flow.trainable_variables)

  # What the first layer sees are pixels, whose gradient nobody needs.
  assert count_flops(loss_gradient, tf.TensorSpec((5, 4, 4, 1))) == 5 * (3 * one_image - 2 * 8 * 10)


def test_real_nvp_conditioner():
  layer = networks.ResidualConditioner(6, channels=4, blocks=2)
  flops = 2 * 3 * (8 * 8) * (9 * 5 * 4 + 2 * 2 * 9 * 4 * 4 + 4 * 6)
  assert count_flops(layer, tf.TensorSpec((3, 8, 8, 5))) == flops


def test_tensorflows_profiler_agrees(tmp_path):
  """On a network whose other operations are so few that they cannot hide a missing product."""
  conv, dense = _built(keras.layers.Conv2D(16, 3, use_bias=False), 8, 8, 16), keras.layers.Dense(32, use_bias=False)

  @tf.function
  def network(x):
    return dense(keras.ops.reshape(conv(x), (2, 6 * 6 * 16)))

  images = tf.TensorSpec((2, 8, 8, 16))
  options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
  options['output'] = f'file:outfile={tmp_path / "profile"}'
  graph = network.get_concrete_function(images).graph
  expected = tf.compat.v1.profiler.profile(graph, cmd='scope', options=options).total_float_ops
  assert count_flops(network, images) == expected > 0


def test_each_call_of_an_inner_function_counts():
  @tf.function
  def square(x):
    return x @ x

  @tf.function
  def outer(x):
    return square(square(x))

  assert count_flops(outer, tf.TensorSpec((3, 3))) == 2 * 2 * 27


def test_work_without_use_is_pruned():
  total = tf.Variable(tf.zeros((3, 3)))

  @tf.function
  def pair(x):
    return x + 1.0, x @ x

  @tf.function
  def with_side_effect(x):
    total.assign_add(x @ x)
    return x @ x, x + 1.0

  square = tf.TensorSpec((3, 3))
  assert count_flops(lambda x: pair(x)[0], square) == 0
  assert count_flops(lambda x: pair(x)[1], square) == 2 * 27
  assert count_flops(lambda x: with_side_effect(x)[0], square) == 2 * 2 * 27
  assert count_flops(lambda x: with_side_effect(x)[1], square) == 2 * 27


def test_a_function_whose_gradient_was_taken_before():
  """TensorFlow then keeps more outputs of it than a call has."""

  @tf.function
  def square(x):
    return x @ x

  @tf.function
  def pair(x):
    return x + 1.0, square(x) @ x

  def gradient(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = pair(x)[1]
    return tape.gradient(y, x)

  spec = tf.TensorSpec((3, 3))
  gradient(tf.ones((3, 3)))
  assert count_flops(lambda x: pair(x)[0], spec) == 0
  assert count_flops(pair, spec) == count_flops(lambda x: pair(x)[1], spec) == 2 * 2 * 27
  assert count_flops(gradient, spec) == 5 * 2 * 27  # Without the last product of `pair`, which no gradient needs.


def test_unknown_shape():
  with pytest.raises(ValueError, match=r"`inputs` must make every shape known\. Got: \(None, 5\) at MatMul '"):
    count_flops(_built(keras.layers.Dense(5), 4), tf.TensorSpec((None, 4)))


@pytest.mark.parametrize(
  ('function', 'op'),
  [
    (lambda x: tf.map_fn(lambda y: y[:, None] @ y[None], x), 'StatelessWhile'),
    (lambda x: tf.cond(x[0, 0] > 0, lambda: x @ x, lambda: x), 'StatelessIf'),
    (lambda x: tf.switch_case(tf.cast(x[0, 0], tf.int32), [lambda: x, lambda: x @ x]), 'StatelessCase'),
    (lambda x: tf.einsum('ij,jk->ik', x, x), 'Einsum'),
  ],
)
def test_a_count_that_would_be_a_guess(function, op):
  with pytest.raises(ValueError, match=rf'`function` must .* Got: {op} '):
    count_flops(function, tf.TensorSpec((3, 3)))


def test_loops_and_branches_without_products():
  def function(x):
    y = tf.cond(x[0, 0] > 0, lambda: x + 1.0, lambda: x)
    return tf.map_fn(tf.sin, y) @ x

  assert count_flops(function, tf.TensorSpec((3, 3))) == 2 * 27
