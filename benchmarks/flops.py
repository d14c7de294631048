"""Floating-point operations of a TensorFlow function, counted on its graph."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import tensorflow as tf

__all__ = ['count_flops', 'matmul_gflops']

_CALLS = ('PartitionedCall', 'StatefulPartitionedCall')

_MATRIX_PRODUCTS = ('MatMul', 'BatchMatMul', 'BatchMatMulV2', 'BatchMatMulV3')

# Output and kernel of a convolution, or of the convolution that a gradient belongs to.
_CONVOLUTIONS = {
  'Conv2D': lambda op: (op.outputs[0], op.inputs[1]),
  'Conv2DBackpropInput': lambda op: (op.inputs[2], op.inputs[1]),
  'Conv2DBackpropFilter': lambda op: (op.inputs[2], op.outputs[0]),
  'DepthwiseConv2dNative': lambda op: (op.outputs[0], op.inputs[1]),
  'DepthwiseConv2dNativeBackpropInput': lambda op: (op.inputs[2], op.inputs[1]),
  'DepthwiseConv2dNativeBackpropFilter': lambda op: (op.inputs[2], op.outputs[0]),
}

# Products of other kinds, which no network here uses: Keras' own einsum becomes a matrix product.
_UNSUPPORTED = ('Conv', 'Conv3D', 'Einsum', 'SparseMatMul', 'SparseTensorDenseMatMul')


def count_flops(function: Callable, *inputs: tf.TensorSpec) -> int:
  """Counts the operations of the matrix products and convolutions in one call of a function.

  ```none
  matrix product [m, k] x [k, n]:                    2 m k n
  convolution:                                       2 (entries of the output) (height width channels of the kernel)
  its gradient by the image or by the kernel:        the same
  ```

  A multiply-add counts as two operations, even where it meets padding. A transposed convolution is the gradient of a
  convolution by its image. Depthwise kernels have one channel. Operations per element (activation, norm, optimizer,
  random numbers) are not counted, nor are products with a constant column, which is how norms sum along rows. Functions
  inside the function are counted at each call, and so are gradients that the function takes. TensorFlow prunes
  operations that neither a result nor a side effect needs, and they are not counted.

  Args:
    function: A Python function or `tf.function` of tensors.
    *inputs: Shapes and dtypes of its arguments, with all dimensions known.

  Returns:
    The number of operations.

  Raises:
    ValueError: If the count would be a guess: a shape is unknown, a loop or a branch holds a matrix product or a
      convolution, or there is a product of another kind, such as `tf.einsum`.

  #### Examples

  ```python
  flow = flowgan_tf.flows.nice((28, 28, 1))
  count_flops(flow.log_prob, tf.TensorSpec((1, 28, 28, 1)))  # 46272000
  ```
  """
  graph = tf.function(function, autograph=False).get_concrete_function(*inputs).graph
  return _graph_flops(graph, graph.outputs)


def _graph_flops(graph: tf.Graph, outputs: Sequence[tf.Tensor]) -> int:
  """Operations behind the given outputs and the side effects of a graph."""
  used = {tensor.name for tensor in outputs}
  needed: set[tf.Operation] = set()
  # Side effects are control outputs. A convolution's gradient by its image is in the graph even if it is not used.
  to_visit = [*graph.control_outputs, *(tensor.op for tensor in outputs)]
  while to_visit:
    op = to_visit.pop()
    if op not in needed:
      needed.add(op)
      used.update(tensor.name for tensor in op.inputs)
      to_visit += [*op.control_inputs, *(tensor.op for tensor in op.inputs)]
  return sum(_operation_flops(op, used) for op in needed)


def _operation_flops(op: tf.Operation, used: set[str]) -> int:
  if op.type in _CALLS:
    body = op.graph._get_function(op.get_attr('f').name).graph
    # TensorFlow appends what a gradient needs to the outputs of a function, also for calls without a gradient.
    outputs = zip(body.outputs, op.outputs, strict=False)
    return _graph_flops(body, [inner for inner, outer in outputs if outer.name in used])
  if op.type in _MATRIX_PRODUCTS and not _is_sum(op):
    rows, columns = _shape(op, op.outputs[0]), _shape(op, op.inputs[0])
    transposed = op.get_attr('transpose_a' if op.type == 'MatMul' else 'adj_x')
    return 2 * math.prod(rows) * columns[-2 if transposed else -1]
  if op.type in _CONVOLUTIONS:
    output, kernel = (_shape(op, tensor) for tensor in _CONVOLUTIONS[op.type](op))
    return 2 * math.prod(output) * math.prod(kernel[: 2 if op.type.startswith('Depthwise') else 3])
  if op.type in _UNSUPPORTED:
    raise ValueError(f'`function` must hold matrix products and 2-d convolutions only. Got: {op.type} {op.name!r}.')
  for body in _bodies(op):
    if _graph_flops(body, body.outputs):
      raise ValueError(
        f'`function` must not hold matrix products or convolutions in a loop or a branch. Got: {op.type} {op.name!r}.'
      )
  return 0


def _is_sum(op: tf.Operation) -> bool:
  column = op.inputs[1]
  return column.op.type in ('Const', 'Fill') and column.shape[-1] == 1


def _shape(op: tf.Operation, tensor: tf.Tensor) -> list[int]:
  if not tensor.shape.is_fully_defined():
    raise ValueError(f'`inputs` must make every shape known. Got: {tensor.shape} at {op.type} {op.name!r}.')
  return tensor.shape.as_list()


def _bodies(op: tf.Operation) -> list[tf.Graph]:
  """Graphs of the functions that a loop or a branch may run."""
  attributes = [op.get_attr(a.name) for a in op.op_def.attr if a.type in ('func', 'list(func)')]
  functions = [f for a in attributes for f in (a if isinstance(a, list) else [a])]
  return [op.graph._get_function(f.name).graph for f in functions]


@tf.function
def _products(a: tf.Tensor, b: tf.Tensor, repeats: tf.Tensor) -> tf.Tensor:
  """Multiplies `a` by the square matrix `b` repeatedly."""
  # Each product needs the previous one, so that none can be optimised away.
  return tf.foldl(lambda x, _: tf.matmul(x, b) / b.shape[0], tf.range(repeats), initializer=a)


def matmul_gflops(rows: int, size: int, dtype: str) -> float:
  """Measures the GFLOP/s of the matrix product `[rows, size] x [size, size]` in a dtype."""
  a, b = (tf.cast(tf.random.stateless_uniform((n, size), seed=(0, n)), dtype) for n in (rows, size))
  repeats = math.ceil(2e10 / (2 * rows * size**2))
  _products(a, b, tf.constant(1))
  start = time.perf_counter()
  _products(a, b, tf.constant(repeats)).numpy()
  return repeats * 2 * rows * size**2 / (time.perf_counter() - start) / 1e9
