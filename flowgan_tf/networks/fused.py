"""Functions with gradients of their own that XLA compiles within any graph, and the activation made of them."""

import functools
from collections.abc import Callable

import tensorflow as tf


def fused(value: Callable, gradient: Callable) -> Callable:
  """Returns `value` with a gradient of its own. Where the shapes are known, each is one pass over memory.

  TensorFlow makes a pass for each operation, and in half precision each pass converts all entries to float32 and back.
  So XLA compiles the two functions within any graph that knows the shapes of the arguments. In eager mode, and in
  graphs with unknown shapes such as exported ones, they run uncompiled, because XLA would compile them again for each
  new shape. Automatic differentiation would keep what `value` computes on the way. A gradient that computes it again is
  faster.

  TensorFlow keeps the gradient of a graph for ever, and with it the graph. So each signature has a small graph of its
  own, which the graphs of models call.

  `value` maps tensors to a tensor and uses no variables. `gradient` maps these tensors and the gradient with respect to
  the value to the gradients with respect to the tensors, or to the first if the others have none. It can be
  differentiated.
  """

  def with_gradient(value, gradient):
    @tf.custom_gradient
    def call(*tensors):
      def backward(dy):
        gradients = tf.nest.flatten(gradient(*tensors, dy))
        return gradients + [None] * (len(tensors) - len(gradients))

      return value(*tensors), backward

    return call

  plain = with_gradient(value, gradient)

  @functools.cache
  def graph_of(*signature):
    # We make new partial functions each time, because TensorFlow warns of one that it traces five times.
    parts = [functools.partial(part) for part in (value, gradient)]
    if all(spec.shape.is_fully_defined() for spec in signature):
      parts = [tf.function(part, jit_compile=True, autograph=False) for part in parts]
    return tf.function(with_gradient(*parts), autograph=False)

  @functools.wraps(value)
  def call(*tensors):
    if tf.executing_eagerly():
      return plain(*tensors)
    return graph_of(*(tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors))(*tensors)

  return call


_GELU = 0.7978845608028654, 0.044715  # sqrt(2 / pi), and the weight of the cube


def gelu(x: tf.Tensor) -> tf.Tensor:
  """Gaussian error linear unit, approximated by a tanh: `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.

  It has the values and gradients of `keras.activations.gelu(x, approximate=True)`, computed in float32 at least.

  Source: Dan Hendrycks, Kevin Gimpel. Gaussian Error Linear Units. 2016, section 2.
  """
  return _gelu(tf.convert_to_tensor(x))


def _gelu_value(x):
  wide, _, tanh = _wide_square_and_tanh(x)
  return tf.cast(0.5 * wide * (1.0 + tanh), x.dtype)


def _gelu_gradient(x, dy):
  wide, square, tanh = _wide_square_and_tanh(x)
  scale, cubic = _GELU
  slope = 0.5 * (1.0 + tanh + wide * (1.0 - tanh**2) * scale * (1.0 + 3.0 * cubic * square))
  return tf.cast(tf.cast(dy, wide.dtype) * slope, x.dtype)


def _wide_square_and_tanh(x):
  wide = x if x.dtype == tf.float64 else tf.cast(x, tf.float32)
  scale, cubic = _GELU
  square = tf.square(wide)
  return wide, square, tf.tanh(scale * wide * (1.0 + cubic * square))


_gelu = fused(_gelu_value, _gelu_gradient)
