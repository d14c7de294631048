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
