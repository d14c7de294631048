"""Writes a function of a SavedModel as an ONNX file. It needs TensorFlow and tf2onnx, but not flowgan_tf.

python examples/to_onnx.py runs/demo/export log_prob log_prob.onnx

`decode` and `log_prob` work. We have tried `encode` without labels, and not `class_log_probs`. ONNX Runtime lacks the
random numbers of `sample`: draw the noise yourself, and decode it. See docs/serving.md.
"""

import os
import sys

from onnx import TensorProto
from tf2onnx import convert, handler, tf_loader

OPSET = 18


@handler.tf_op('BroadcastArgs')
class BroadcastArgs:
  """The shape that two shapes are broadcast to: an operator of TensorFlow that tf2onnx 1.17 lacks."""

  @classmethod
  def version_8(cls, graph, node, **_):
    """Makes an array of the first shape, expands it to the second, and takes its shape."""
    dtypes, shapes = node.output_dtypes, node.output_shapes
    first, second = (graph.make_node('Cast', [name], attr={'to': TensorProto.INT64}).output[0] for name in node.input)
    array = graph.make_node('ConstantOfShape', [first]).output[0]
    shape = graph.make_node('Shape', graph.make_node('Expand', [array, second]).output)
    graph.remove_node(node.name)
    graph.make_node('Cast', shape.output, attr={'to': dtypes[0]}, outputs=node.output, dtypes=dtypes, shapes=shapes)


def to_onnx(folder: str | os.PathLike, signature: str, path: str | os.PathLike) -> None:
  """Writes a signature of the SavedModel in `folder` as an ONNX file with inputs of the same names."""
  graph, inputs, outputs, names = tf_loader.from_saved_model(
    os.fspath(folder), None, None, ['serve'], [signature], return_tensors_to_rename=True
  )
  convert.from_graph_def(
    graph, signature, inputs, outputs, opset=OPSET, tensors_to_rename=names, output_path=os.fspath(path)
  )


if __name__ == '__main__':
  to_onnx(*sys.argv[1:])
