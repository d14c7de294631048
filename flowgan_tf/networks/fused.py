"""Functions of tensors that XLA compiles where the graph around them is not compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

__all__ = ['fused', 'gelu']

_GELU = 0.7978845608028654, 0.044715  # sqrt(2 / pi), and the weight of the cube


def fused(function: Callable) -> Callable:
  """Makes one pass over memory of what a function of tensors computes entry by entry, where the shapes are known.

  TensorFlow makes a pass for each operation, and in half precision each of them converts all entries to float32 and
  back. So XLA compiles the function, as a part of any graph that knows the shapes of its arguments. Eagerly, and in
  graphs that do not know them, such as exported ones, it is called as it is: XLA would compile it again for each new
  shape. Automatic differentiation would keep what it computes on the way; a `tf.custom_gradient` of two such functions
  computes that again, which is faster.

  Args:
    function: Maps tensors to a tensor, or a tuple of tensors. It uses no variables.
  """

  @functools.cache
  def compiled(signature):
    # A partial function for each: TensorFlow warns of one that it traces five times.
    del signature
    return tf.function(functools.partial(function), jit_compile=True, autograph=False)

  @functools.wraps(function)
  def call(*tensors):
    if tf.executing_eagerly() or not all(tensor.shape.is_fully_defined() for tensor in tensors):
      return function(*tensors)
    return compiled(tuple((tensor.dtype, *tensor.shape) for tensor in tensors))(*tensors)

  return call


def gelu(x: tf.Tensor) -> tf.Tensor:
  """Gaussian error linear unit, approximated by a tanh: `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.

  Values and gradients are those of `keras.activations.gelu(x, approximate=True)`, computed in float32 at least.

  #### References

  Dan Hendrycks, Kevin Gimpel. Gaussian Error Linear Units. 2016, section 2.
  """
  return _gelu(tf.convert_to_tensor(x))


@tf.custom_gradient
def _gelu(x):
  return _gelu_value(x), functools.partial(_gelu_gradient, x)


@fused
def _gelu_value(x):
  wide, _, tanh = _wide_square_and_tanh(x)
  return tf.cast(0.5 * wide * (1.0 + tanh), x.dtype)


@fused
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
