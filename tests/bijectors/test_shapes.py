import contextlib

import keras
import pytest
import tensorflow as tf

from flowgan_tf import bijectors
from flowgan_tf.bijectors.shapes import check_event_shape

# All bijectors that check their events, here of shape [4].
CHECKING = {
  'scaling': lambda: bijectors.DiagonalScaling((4,)),
  'normalization': lambda: bijectors.BatchNormalization((4,)),
  'affine': lambda: bijectors.AffineCoupling(keras.layers.Dense(4), bijectors.masks.even_odd(4)),
  'additive': lambda: bijectors.AdditiveCoupling(keras.layers.Dense(2), bijectors.masks.even_odd(4)),
}


@pytest.mark.parametrize('shape', [(2, 3), (5, 2, 3), (0, 2, 3), (2, 2, 2, 3)])
def test_events_in_any_batch_pass(shape):
  assert check_event_shape(tf.zeros(shape), (2, 3), 'owner') is None


@pytest.mark.parametrize('shape', [(3,), (), (3, 2), (2, 1), (2, 3, 1), (1, 3), (4, 1, 3)])
def test_other_shapes_are_refused_even_if_they_would_broadcast(shape):
  with pytest.raises(ValueError, match=r'^owner expects events of shape \(2, 3\)\. Got: input of shape .*\.$') as error:
    check_event_shape(tf.zeros(shape), (2, 3), 'owner')
  assert f'shape {tf.TensorShape(shape)}.' in str(error.value)


@pytest.mark.parametrize(
  ('spec', 'passes'),
  [(None, True), ((None, None), True), ((None, None, 3), True), ((None, 2), False), ((None,), False)],
)
def test_unknown_dimensions_pass_while_a_graph_is_built(spec, passes):
  graph = tf.function(lambda x: check_event_shape(x, (2, 3), 'owner'), input_signature=[tf.TensorSpec(spec)])
  refusal = pytest.raises(ValueError, match=r'expects events of shape \(2, 3\)')
  with contextlib.nullcontext() if passes else refusal:
    graph.get_concrete_function()


@pytest.mark.parametrize('direction', ['forward', 'inverse'])
@pytest.mark.parametrize('name', CHECKING)
@pytest.mark.parametrize('shape', [(2, 1), (2, 5), ()])
def test_bijectors_refuse_events_of_another_shape(name, direction, shape):
  with pytest.raises(ValueError, match=r'shape \(4,\)|rank|event_ndims'):
    getattr(CHECKING[name](), direction)(tf.zeros(shape))
