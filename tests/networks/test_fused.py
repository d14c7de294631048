import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks.fused import fused

X = np.random.default_rng(0).normal(0.0, 2.0, (3, 5))


def cubed(x, y):
  return x**3 * y, x - y


@pytest.mark.parametrize('shape', [(3, 5), (None, 5)])
def test_a_function_is_one_compiled_part_of_a_graph_that_knows_its_shapes(shape):
  signature = [tf.TensorSpec(shape, tf.float64)] * 2
  function = tf.function(fused(cubed), input_signature=signature, autograph=False)
  parts = [node for node in function.get_concrete_function().graph.as_graph_def().node if 'Call' in node.op]
  assert len(parts) == (None not in shape) and all(part.attr['_XlaMustCompile'].b for part in parts)
  for found, expected in zip(function(X, X + 1), cubed(X, X + 1), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_each_shape_is_compiled_once(caplog):
  traced = []

  @fused
  def square(x):
    traced.append(x.shape)
    return x**2

  for _ in range(2):
    for n in range(1, 8):
      calls = tf.function(lambda x: square(x) + square(x + 1.0))
      np.testing.assert_allclose(calls(tf.fill([n], 2.0)), np.full(n, 13.0))
  assert [shape[0] for shape in traced] == list(range(1, 8))
  assert not any('square' in message for message in caplog.messages)  # TensorFlow would warn of its traces.
