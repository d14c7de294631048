import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.bijectors import AdditiveCoupling, BatchNormalization, FactorOut, Squeeze, masks, training_kwargs

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


def test_joint_maps_of_any_structure():
  joint = tfb.JointMap({'a': BatchNormalization((2,), name='norm'), 'b': [tfb.Exp(), coupling('c', (1, 1, 2))[0]]})
  kwargs = training_kwargs(joint, True)
  assert kwargs == {'norm': {'training': True}, 'c': {'training': True}}
  y = tf.constant([[1.0, 5.0], [3.0, 9.0]])
  x = joint.inverse({'a': y, 'b': [tf.ones(2), tf.ones((2, 1, 1, 2))]}, **kwargs)
  np.testing.assert_allclose(x['a'], [[-1, -1], [1, 1]], atol=1e-4)


class Noisy(tfb.Bijector):
  """A user's bijector that takes `training`, as its signature says."""

  def __init__(self):
    super().__init__(forward_min_event_ndims=0, parameters={}, name='noisy')

  def _forward(self, x, training=False):
    return x + 1.0 if training else x


def test_a_bijector_of_a_users_own_may_take_it():
  chain = tfb.Chain([tfb.Exp(), Noisy()])
  kwargs = training_kwargs(chain, True)
  assert kwargs == {'noisy': {'training': True}}
  np.testing.assert_allclose(chain.forward(2.0, **kwargs), np.exp(3.0), rtol=1e-6)


def test_bijectors_that_do_not_depend_on_it_get_nothing():
  network = tfb.AutoregressiveNetwork(params=2, hidden_units=[4])
  for bijector in (
    tfb.Chain([tfb.Exp(), tfb.Invert(tfb.Chain([Squeeze(), Squeeze()]))]),
    tfb.RealNVP(2, bijector_fn=lambda x, units: tfb.Scale(2.0)),
    tfb.MaskedAutoregressiveFlow(network),
    tfb.TransformDiagonal(tfb.Exp()),
  ):
    assert training_kwargs(bijector, True) == {}


def test_parts_of_the_same_name_are_refused():
  # TFP would silently pass the arguments of one name to both, and those of a misspelt name to none.
  pair = [coupling('same', (1, 1, 2))[0] for _ in range(2)]
  for chain in (tfb.Chain(pair), FactorOut(tfb.Invert(tfb.Chain(pair)), (1, 1, 4)), tfb.JointMap(pair)):
    with pytest.raises(ValueError, match=r'different names.*same.*same'):
      training_kwargs(chain, True)
  assert training_kwargs(tfb.Chain([tfb.Exp(), tfb.Exp()]), True) == {}


class Holder(tfb.Bijector):
  """A user's bijector that keeps another one in an attribute."""

  def __init__(self, part):
    super().__init__(forward_min_event_ndims=3, parameters={})
    self.part = part


def test_a_bijector_that_would_not_pass_it_on_is_refused():
  norm, same = BatchNormalization((2,), name='norm'), tfb.Identity()
  matrix = tfb.TransformDiagonal(norm)
  for bijector in (
    matrix,
    Holder(norm),
    Holder(tfb.Chain([same, norm])),
    tfb.Invert(matrix),
    tfb.Chain([same, matrix]),
  ):
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


@pytest.mark.parametrize('training', [None, 1, 'True', tf.constant(True)])
def test_training_is_true_or_false(training):
  with pytest.raises(ValueError, match=r'^`training` must be True or False\. Got: '):
    training_kwargs(tfb.Exp(), training)
  assert training_kwargs(BatchNormalization((2,)), np.True_) == {'training': True}
