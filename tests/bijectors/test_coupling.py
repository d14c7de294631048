import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.base.errors import UsageError
from flowgan_tf.bijectors import AdditiveCoupling, AffineCoupling, Coupling, SplineCoupling, bijector_kwargs, masks
from flowgan_tf.bijectors.base import takes_condition
from flowgan_tf.networks import dense_conditioner

tfb = tfp.bijectors


class Affine(tf.Module):
  """A conditioner whose output is known in advance: `weight * sum of the kept part`, for shift and `h`."""

  def __init__(self, weights, dtype='float64'):
    super().__init__()
    self.weights = tf.Variable(weights, dtype=dtype)

  def __call__(self, x, training=False):
    return tf.cast(tf.reduce_sum(x, axis=-1, keepdims=True), self.weights.dtype) * self.weights


def test_additive_by_hand():
  coupling = AdditiveCoupling(Affine([1.0, -2.0]), masks.even_odd(4))
  assert not coupling.is_constant_jacobian  # TFP would take `forward(mean)` for the mean of a distribution.
  x = np.array([[1.0, 10.0, 2.0, 20.0], [0.5, 0.0, 0.5, 0.0]])
  np.testing.assert_allclose(coupling.forward(tf.constant(x)), [[1, 13, 2, 14], [0.5, 1, 0.5, -2]])
  assert coupling.forward_log_det_jacobian(tf.constant(x), event_ndims=1) == 0.0


def test_integers_are_rejected():
  """A shift would be rounded."""
  coupling = AdditiveCoupling(Affine([1.0, -2.0]), masks.even_odd(4))
  for call in (coupling.forward, coupling.inverse):
    with pytest.raises(
      UsageError, match=r'^additive_coupling expects floating-point numbers\. Got: input of type int32'
    ):
      call(tf.constant([[1, 2, 3, 4]]))


def test_affine_by_hand():
  # Two changed entries: shifts first, then h.
  coupling = AffineCoupling(Affine([1.0, -2.0, 0.3, 0.1]), masks.even_odd(4), log_scale_bound=0.7)
  scale, offset = (v for name in ('scale', 'offset') for v in coupling.variables if v.name.endswith(f'{name}:0'))
  scale.assign(1.5)
  offset.assign(-0.25)
  x = np.array([[1.0, 10.0, 2.0, 20.0]])
  s = 0.7 * np.tanh((1.5 * np.tanh(3 * np.array([0.3, 0.1])) - 0.25) / 0.7)
  np.testing.assert_allclose(
    coupling.forward(tf.constant(x)), [[1, 10 * np.exp(s[0]) + 3, 2, 20 * np.exp(s[1]) - 6]], rtol=1e-12
  )
  np.testing.assert_allclose(coupling.forward_log_det_jacobian(tf.constant(x), event_ndims=1), [s.sum()], rtol=1e-12)
  scale.assign(1e3)
  bounded = [[1, 10 * np.exp(0.7) + 3, 2, 20 * np.exp(0.7) - 6]]
  np.testing.assert_allclose(coupling.forward(tf.constant(x)), bounded, rtol=1e-6)


def test_the_result_has_the_dtype_of_the_input():
  coupling = AffineCoupling(Affine([1.0, -2.0, 0.3, 0.1], 'float32'), masks.even_odd(4))
  x = tf.ones((3, 4), tf.float64)
  assert coupling.forward(x).dtype == coupling.inverse(x).dtype == tf.float64
  assert coupling.forward_log_det_jacobian(tf.identity(x), event_ndims=1).dtype == tf.float64


@pytest.mark.parametrize(
  ('kind', 'name', 'value'),
  [
    (AffineCoupling, 'log_scale_bound', 0.0),
    (AffineCoupling, 'log_scale_bound', 1e39),
    (AffineCoupling, 'initial_scale', 1e31),
    (SplineCoupling, 'bins', 1),
    (SplineCoupling, 'bound', 0.0),
    (functools.partial(Coupling, inner=tfb.Shift), 'outputs', 0),
  ],
)
def test_arguments_out_of_range_are_rejected(kind, name, value):
  with pytest.raises(ValueError, match=rf'^`{name}` must .*Got: '):
    kind(keras.layers.Dense(6), masks.even_odd(6), **{name: value})


MASKS = {'slices': (masks.even_odd(5), (2,), (4,)), 'zeros': (masks.BinaryMask([1, 0, 1, 0, 1]), (5,), (10,))}
each_mask = pytest.mark.parametrize('mask', MASKS)


class Scaled(tf.Module):
  """An inner bijector with a variable: `y = 3 x + shift`, whose log-det is one number for all."""

  def __init__(self):
    super().__init__()
    self.scale = tf.Variable(3.0, dtype=tf.float64)

  def __call__(self, params):
    shift, _ = tf.split(params, 2, axis=-1)
    return tfb.Chain([tfb.Shift(shift), tfb.Scale(self.scale)])


@each_mask
def test_an_inner_bijector_with_a_variable_and_a_constant_log_det(mask):
  mask, _, outputs = MASKS[mask]
  inner = Scaled()
  coupling = Coupling(Affine(np.arange(1.0, outputs[0] + 1)), mask, inner, outputs=2)
  assert any(v is inner.scale for v in coupling.trainable_variables)
  x = tf.constant([[1.0, 10.0, 2.0, 20.0, 3.0]] * 2, tf.float64)
  shifts = {2: (6, 12), 5: (12, 24)}[mask.changed_shape[0]]  # 6 times the weights at the changed entries
  np.testing.assert_allclose(coupling.forward(x), [[1, 30 + shifts[0], 2, 60 + shifts[1], 3]] * 2)
  log_det = coupling.forward_log_det_jacobian(x + 0.0, event_ndims=1)
  np.testing.assert_allclose(np.broadcast_to(log_det, 2), 2 * np.log(3), rtol=1e-12)


@each_mask
def test_what_a_conditioner_gets_and_must_return_is_said(mask):
  mask, part, outputs = MASKS[mask]
  coupling = AffineCoupling(keras.layers.Dense(3), mask)
  message = (
    f'`conditioner` must return shape (batch, {outputs[0]}), which is 2 for each number of the changed part, '
    f'(batch, {part[0]}). It gets the kept part, (batch, {mask.kept_shape[0]}). Got: (6, 3).'
  )
  with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
    coupling.forward(tf.zeros((6, 5)))


@pytest.mark.parametrize('shape', [None, [None, None], [None, 4], [3, None]])
def test_a_graph_may_know_less_of_the_shape_than_a_layer_norm_needs(shape):
  coupling = AdditiveCoupling(dense_conditioner(2, 4, 1, 'layer', 'float32'), masks.even_odd(4))
  for variable in coupling.trainable_variables:
    variable.assign_add(tf.random.stateless_uniform(variable.shape, (0, 1)))
  x = tf.random.stateless_normal((3, 4), (0, 2))
  graph = tf.function(coupling.forward, input_signature=[tf.TensorSpec(shape)])
  np.testing.assert_allclose(graph(x), coupling.forward(tf.identity(x)), rtol=1e-5, atol=1e-6)


def test_an_inner_bijector_of_another_shape_is_rejected():
  def wrong(params):
    return tfb.Shift(tf.stack(tf.split(params, 2, axis=-1), axis=-2))

  coupling = Coupling(keras.layers.Dense(4), masks.even_odd(5), wrong, outputs=2)
  with pytest.raises(ValueError, match=r'^`inner` must be .* keeps the shape \(1, 2\)\. Got: TensorShape\(\[1, 2, 2\]'):
    coupling.forward(tf.zeros((1, 5)))


class Given(tf.Module):
  """A conditioner that takes a condition: `weight * condition` for each entry."""

  def __init__(self):
    super().__init__()
    self.weight = tf.Variable(2.0)

  def __call__(self, x, condition, training=False):
    return self.weight * condition + 0.0 * x


def test_a_condition_that_is_missing_or_too_much_is_rejected():
  mask, x, c = masks.even_odd(4), tf.ones((3, 4)), tf.ones((3, 2))
  plain, own = AdditiveCoupling(keras.layers.Dense(2), mask), AdditiveCoupling(Given(), mask)
  np.testing.assert_array_equal(own.forward(x, condition=c), [[1, 3, 1, 3]] * 3)
  functional = AdditiveCoupling(dense_conditioner(2, 4, 1, conditional=True), mask, condition_shape=(2,))
  assert not plain.accepts_condition and own.accepts_condition and functional.accepts_condition
  with pytest.raises(ValueError, match=r"`condition` must be None, because this .* Got: 'a condition'\.$"):
    plain.forward(x, condition=c)
  with pytest.raises(ValueError, match='`condition_shape` must be None, as the conditioner takes it'):
    AdditiveCoupling(Affine([1.0, 1.0]), mask, condition_shape=(2,))
  for coupling in (own, functional):
    with pytest.raises(ValueError, match=r'`condition` must be given\. Got: None\.'):
      coupling.forward(x)


def test_a_chain_passes_a_condition_to_the_couplings_that_take_one():
  mask = masks.even_odd(4)
  parts = AdditiveCoupling(Given(), mask, name='own'), AdditiveCoupling(keras.layers.Dense(2), mask, name='plain')
  chain = tfp.bijectors.Chain([tfp.bijectors.Invert(parts[0], name='inverse'), parts[1]])
  assert takes_condition(chain) and not takes_condition(parts[1])
  c = tf.ones((3, 2))
  kwargs = bijector_kwargs(chain, training=True, condition=c)
  assert kwargs == {'inverse': {'training': True, 'condition': c}, 'plain': {'training': True}}
  expected = parts[0].inverse(parts[1].forward(tf.ones((3, 4))), condition=c)
  np.testing.assert_array_equal(chain.forward(tf.ones((3, 4)), **kwargs), expected)


@pytest.mark.parametrize(
  'inner', [lambda shift: None, lambda shift: tfb.Scale, tfb.Exp(), lambda shift: tfb.Permute([0])]
)
def test_an_inner_bijector_is_of_single_numbers(inner):
  coupling = Coupling(keras.layers.Dense(1), masks.even_odd(2), inner, outputs=1)
  with pytest.raises(UsageError, match='`inner` must be a function that returns a bijector of single numbers'):
    coupling.forward(tf.zeros((3, 2)))


def test_a_bijector_without_parameters_is_part_of_a_chain():
  class Doubled(tfb.Bijector):
    def __init__(self):
      super().__init__(forward_min_event_ndims=0, name='doubled')

    def _forward(self, x):
      return 2 * x

  coupling = Coupling(keras.layers.Dense(1), masks.even_odd(2), tfb.Shift, outputs=1)
  assert bijector_kwargs(tfb.Chain([Doubled(), coupling]), training=True) == {coupling.name: {'training': True}}
