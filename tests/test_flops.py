"""Counts against hand counts from the shapes."""

import keras
import pytest
import tensorflow as tf

from benchmarks.flops import count_flops
from flowgan_tf import flows

X = tf.TensorSpec((3, 3))


def gradient(function, variables, watched=True):
  """Returns a function that returns the gradient of a loss by the variables and, if it is watched, the input."""

  def found(x):
    with tf.GradientTape() as tape:
      if watched:
        tape.watch(x)
      loss = tf.reduce_sum(tf.square(function(x)))
    return tape.gradient(loss, [*variables, *([x] if watched else [])])

  return found


@pytest.mark.parametrize(
  ('product', 'shapes'),
  [
    (lambda a, b: tf.matmul(a, b, transpose_a=True), [(4, 3), (4, 5)]),
    (lambda a, b: tf.matmul(a, b, transpose_b=True), [(3, 4), (5, 4)]),
    (lambda a, b: tf.matmul(a, b, adjoint_a=True), [(1, 4, 3), (1, 4, 5)]),
    # Batched, with broadcasting of one size or the other.
    (tf.matmul, [(3, 1, 1, 4), (5, 4, 1)]),
    (keras.layers.Dense(5), [(1, 3, 4)]),
    (keras.layers.EinsumDense('abc,cd->abd', output_shape=(None, 5)), [(1, 3, 4)]),
  ],
)
def test_matrix_product(product, shapes):
  assert count_flops(product, *map(tf.TensorSpec, shapes)) == 2 * 3 * 4 * 5


# 9x9 with stride 2 and padding: 5x5 outputs; without padding, a kernel of 5: 3x3.
@pytest.mark.parametrize(
  ('layer', 'flops'),
  [
    (keras.layers.Conv2D(8, 5, strides=2, padding='same'), 2 * (2 * 5 * 5 * 8) * (5 * 5 * 6)),
    (keras.layers.Conv2D(8, 3, groups=2, padding='same'), 2 * (2 * 9 * 9 * 8) * (3 * 3 * 3)),
    (keras.layers.DepthwiseConv2D(5, padding='same', depth_multiplier=2), 2 * (2 * 9 * 9 * 12) * (5 * 5)),
    (keras.layers.Dense(5), 2 * (2 * 9 * 9 * 5) * 6),
    # Each entry of the input meets every output channel at every place of the kernel.
    (keras.layers.Conv2DTranspose(8, 5, strides=2, padding='same'), 2 * (2 * 9 * 9 * 6) * (5 * 5 * 8)),
  ],
)
def test_layers_and_their_gradients(layer, flops):
  layer.build((None, 9, 9, 6))
  images = tf.TensorSpec((2, 9, 9, 6))
  kernel = layer.trainable_variables[0].value
  assert count_flops(layer, images) == flops
  assert count_flops(gradient(layer, [kernel], watched=False), images) == 2 * flops
  assert count_flops(gradient(layer, []), images) == 2 * flops
  assert count_flops(gradient(layer, [kernel]), images) == 3 * flops


def test_nice():
  flow = flows.nice((4, 4, 1), couplings=3, hidden_units=10, hidden_layers=2, normalization='none')
  one_image, images = 3 * 2 * (8 * 10 + 10 * 10 + 10 * 8), tf.TensorSpec((5, 4, 4, 1))
  assert count_flops(flow.log_prob, images) == 5 * one_image
  # What the first layer sees are pixels, whose gradient nobody needs.
  step = gradient(lambda x: flow.log_prob(x, training=True), flow.trainable_variables, watched=False)
  assert count_flops(step, images) == 5 * (3 * one_image - 2 * 8 * 10)


@tf.function
def square(x):
  return x @ x


def test_each_call_of_an_inner_function_counts_and_work_without_use_does_not():
  total = tf.Variable(tf.zeros((3, 3)))

  @tf.function
  def with_side_effect(x):
    total.assign_add(x @ x)
    return x @ x, x + 1.0

  assert count_flops(tf.function(lambda x: square(square(x))), X) == 2 * 2 * 27
  assert count_flops(lambda x: with_side_effect(x)[0], X) == 2 * 2 * 27
  assert count_flops(lambda x: with_side_effect(x)[1], X) == 2 * 27


def test_a_function_whose_gradient_was_taken_before():
  """TensorFlow then keeps more outputs of it than a call has."""

  @tf.function
  def pair(x):
    return x + 1.0, square(x) @ x

  by_input = gradient(lambda x: pair(x)[1], [])
  by_input(tf.ones((3, 3)))
  assert count_flops(lambda x: pair(x)[0], X) == 0
  assert count_flops(pair, X) == count_flops(lambda x: pair(x)[1], X) == 2 * 2 * 27
  assert count_flops(by_input, X) == 6 * 2 * 27


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
    count_flops(function, X)


def test_loops_and_branches_without_products_and_an_unknown_shape():
  def function(x):
    y = tf.cond(x[0, 0] > 0, lambda: x + 1.0, lambda: x)
    return tf.map_fn(tf.sin, y) @ x

  assert count_flops(function, X) == 2 * 27
  with pytest.raises(ValueError, match=r"`inputs` must make every shape known\. Got: \(None, 5\) at MatMul '"):
    count_flops(lambda x: x @ tf.zeros((4, 5)), tf.TensorSpec((None, 4)))
