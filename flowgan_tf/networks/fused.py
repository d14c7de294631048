"""Functions of tensors that XLA compiles where the graph around them is not compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

__all__ = ['fused']


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
