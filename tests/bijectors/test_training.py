import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.bijectors import (
  AdditiveCoupling,
  BatchNormalization,
  FactorOut,
  Squeeze,
  masks,
  training_kwargs,
)

tfb = tfp.bijectors


class Recorder(tf.Module):
  """A conditioner that records each `training` it is called with."""

  def __init__(self):
    super().__init__()
    self.weight = tf.Variable(0.5)
    self.seen = self._no_dependency([])

  def __call__(self, x, training='not given'):
    self.seen.append(training)
    return self.weight * x


def coupling(name, shape):
  recorder = Recorder()
  return AdditiveCoupling(recorder, masks.channel(shape), name=name), recorder


def nested():
  """A chain that holds an invert that holds a factor-out that holds a chain that holds an invert."""
  outer, outer_seen = coupling('outer', (4, 4, 2))
  middle, middle_seen = coupling('middle', (2, 2, 8))
  inner, inner_seen = coupling('inner', (2, 2, 4))
  coarse = tfb.Chain([tfb.Invert(inner, name='inverse_inner'), BatchNormalization((2, 2, 4), name='norm'), tfb.Exp()])
  factor_out = FactorOut(tfb.Invert(coarse, name='inverse_coarse'), (2, 2, 8), name='factor')
  chain = tfb.Chain([tfb.Invert(factor_out, name='inverse_factor'), middle, Squeeze(), outer])
  return chain, [outer_seen, middle_seen, inner_seen]


@pytest.mark.parametrize('training', [True, False])
def test_the_argument_reaches_every_coupling(training):
  chain, recorders = nested()
  kwargs = training_kwargs(chain, training)
  on = {'training': training}
  assert kwargs == {'outer': on, 'middle': on, 'inverse_factor': {'inverse_inner': on, 'norm': on}}
  x = tf.ones((3, 4, 4, 2))
  chain.forward(x, **kwargs)
  chain.inverse(tf.ones((3, 2, 2, 8)), **kwargs)
  chain.forward_log_det_jacobian(2 * x, event_ndims=3, **kwargs)
  for recorder in recorders:
    assert len(recorder.seen) >= 3
    assert set(recorder.seen) == {training}


def test_without_it_couplings_are_in_evaluation():
  chain, recorders = nested()
  chain.forward(tf.ones((3, 4, 4, 2)))
  assert all(recorder.seen == [False] for recorder in recorders)


def test_joint_maps():
  (first, first_seen), (second, second_seen) = coupling('first', (1, 1, 2)), coupling('second', (1, 1, 4))
  joint = tfb.JointMap([first, tfb.Invert(second, name='inverse_second')])
  kwargs = training_kwargs(joint, True)
  joint.forward([tf.ones((1, 1, 1, 2)), tf.ones((1, 1, 1, 4))], **kwargs)
  assert first_seen.seen == second_seen.seen == [True]


def test_nothing_for_bijectors_that_do_not_depend_on_it():
  assert training_kwargs(tfb.Exp(), True) == {}
  assert training_kwargs(tfb.Chain([tfb.Exp(), tfb.Invert(tfb.Chain([tfb.Exp()]))]), True) == {}
  assert training_kwargs(tfb.Chain([Squeeze(), Squeeze()]), True) == {}


def test_duplicate_names_are_refused():
  # TFP would silently pass the arguments of one name to both, and those of a misspelt name to none.
  pair = [coupling('same', (1, 1, 2))[0] for _ in range(2)]
  for chain in (tfb.Chain(pair), FactorOut(tfb.Invert(tfb.Chain(pair)), (1, 1, 4)), tfb.JointMap(pair)):
    with pytest.raises(ValueError, match=r'different names.*same.*same'):
      training_kwargs(chain, True)


def test_the_result_depends_on_it():
  chain = tfb.Chain([BatchNormalization((3,), name='a'), BatchNormalization((3,), name='b')])
  y = tf.random.stateless_normal((6, 3), seed=(0, 0), mean=5.0)
  evaluated, trained = (chain.inverse(y, **training_kwargs(chain, training)) for training in (False, True))
  np.testing.assert_allclose(tf.reduce_mean(trained, axis=0), np.zeros(3), atol=1e-5)
  assert np.all(tf.reduce_mean(evaluated, axis=0) > 3)


def test_joint_maps_of_any_structure():
  joint = tfb.JointMap({'a': BatchNormalization((2,), name='norm'), 'b': [tfb.Exp(), coupling('c', (1, 1, 2))[0]]})
  kwargs = training_kwargs(joint, True)
  assert kwargs == {'norm': {'training': True}, 'c': {'training': True}}
  y = tf.constant([[1.0, 5.0], [3.0, 9.0]])
  x = joint.inverse({'a': y, 'b': [tf.ones(2), tf.ones((2, 1, 1, 2))]}, **kwargs)
  np.testing.assert_allclose(x['a'], [[-1, -1], [1, 1]], atol=1e-4)


class Holder(tfb.Bijector):
  """A user's bijector that keeps another one in an attribute."""

  def __init__(self, part):
    super().__init__(forward_min_event_ndims=3, parameters={})
    self.part = part


def bijector_with_an_empty_cell(norm):
  """A function that mentions a variable that has no value yet, before one that has."""

  def bijector_fn(x, units):
    return a_late_one or norm

  if norm is None:
    a_late_one = tfb.Exp()
  return bijector_fn


def without_training():
  """Bijectors of TFP that hold a coupling or a norm and do not pass `training` on to it."""
  norm, same = BatchNormalization((2,), name='norm'), tfb.Identity()
  pair = tfb.Chain([same, norm])
  matrix = BatchNormalization((2,), name='norm')
  return {
    'RealNVP': tfb.RealNVP(2, bijector_fn=lambda x, units: norm),
    'RealNVP partial': tfb.RealNVP(2, bijector_fn=functools.partial(lambda norms, x, units: norms[0], [norm])),
    'RealNVP default': tfb.RealNVP(2, bijector_fn=lambda x, units, chain=pair: chain),
    'MaskedAutoregressiveFlow': tfb.MaskedAutoregressiveFlow(bijector_fn=lambda x: {'a': norm}['a']),
    'MaskedAutoregressiveFlow global': tfb.MaskedAutoregressiveFlow(bijector_fn=lambda x: GLOBAL),
    'RealNVP inner function': tfb.RealNVP(2, bijector_fn=lambda x, units: tfb.Chain([GLOBAL for _ in range(units)])),
    'RealNVP late': tfb.RealNVP(2, bijector_fn=bijector_with_an_empty_cell(norm)),
    'Inline attribute': tfb.Inline(forward_fn=lambda x: norm._momentum * x, forward_min_event_ndims=0),
    'TransformDiagonal': tfb.TransformDiagonal(matrix),
    'Inline': tfb.Inline(forward_fn=norm.forward, inverse_fn=norm.inverse, forward_min_event_ndims=1),
    'Holder': Holder(norm),
    'Invert': tfb.Invert(tfb.TransformDiagonal(matrix)),
    'Chain': tfb.Chain([same, tfb.TransformDiagonal(matrix)]),
  }


GLOBAL = BatchNormalization((2,), name='norm')


@pytest.mark.parametrize('name', without_training())
def test_what_tfp_would_not_pass_on_is_an_error(name):
  bijector = without_training()[name]
  for training in (True, False):
    with pytest.raises(ValueError, match=r"^`bijector` must pass `training` on .*Got: '\w+', .* 'norm'\.$"):
      training_kwargs(bijector, training)


@pytest.mark.parametrize('training', [True, False])
def test_functions_that_take_training_are_given_it(training):
  seen = []

  def scale(x, units=1, training=None):
    seen.append(training)
    return tfb.Scale(2.0)

  y = tf.ones((3, 4))
  for bijector in (
    tfb.RealNVP(2, bijector_fn=scale),
    tfb.MaskedAutoregressiveFlow(bijector_fn=lambda x, training: scale(x, training=training)),
    tfb.RealNVP(2, shift_and_log_scale_fn=lambda x, units, training: (scale(x, training=training).forward(x), None)),
  ):
    chain = tfb.Chain([tfb.Invert(bijector, name='inverse')])
    chain.inverse(y, **training_kwargs(chain, training))
  assert set(seen) == {training} and len(seen) >= 3


def test_functions_without_anything_to_train_are_left_alone():
  assert training_kwargs(tfb.RealNVP(2, bijector_fn=lambda x, units: tfb.Scale(2.0)), True) == {}
  network = tfb.AutoregressiveNetwork(params=2, hidden_units=[4])
  assert training_kwargs(tfb.MaskedAutoregressiveFlow(network), True) == {}
  assert training_kwargs(tfb.TransformDiagonal(tfb.Exp()), True) == {}
  late = tfb.RealNVP(2, bijector_fn=bijector_with_an_empty_cell(tfb.Exp()))
  assert training_kwargs(late, True) == {}


@pytest.mark.parametrize('training', [None, 1, 'True', tf.constant(True)])
def test_training_is_a_python_bool(training):
  norm = BatchNormalization((2,))
  affine, _ = coupling('affine', (1, 1, 2))
  for call in (
    lambda: training_kwargs(tfb.Exp(), training),
    lambda: norm.inverse(tf.ones((3, 2)), training=training),
    lambda: norm.forward(tf.ones((3, 2)), training=training),
    lambda: affine.forward(tf.ones((3, 1, 1, 2)), training=training),
  ):
    with pytest.raises(ValueError, match=r'^`training` must be a Python bool\. Got: '):
      call()
  assert training_kwargs(norm, np.True_) == {'training': True}
