"""Bijectors that own variables keep them."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf import bijectors

tfb, tfd = tfp.bijectors, tfp.distributions


def build(name):
  if name == 'scaling':
    return bijectors.DiagonalScaling((4,))
  if name == 'normalization':
    return bijectors.BatchNormalization((4,))
  network = keras.layers.Dense(4 if name == 'affine' else 2)
  kind = bijectors.AffineCoupling if name == 'affine' else bijectors.AdditiveCoupling
  return kind(network, bijectors.masks.even_odd(4))


@pytest.mark.parametrize('name', ['scaling', 'normalization', 'affine', 'additive'])
def test_a_copy_has_the_learned_weights(name):
  bijector = build(name)
  rng = np.random.default_rng(0)
  for variable in bijector.variables:
    variable.assign(rng.uniform(0.5, 1.5, variable.shape))
  x = tf.constant([[1.0, 2.0, 3.0, 4.0]])
  np.testing.assert_array_equal(bijector.copy().forward(tf.identity(x)), bijector.forward(x))


def test_a_copy_with_other_arguments_is_refused():
  with pytest.raises(NotImplementedError, match='diagonal_scaling'):
    build('scaling').copy(log_scale_bound=1.0)


def test_two_with_equal_arguments_are_not_equal():
  """TFP would otherwise compare them by their arguments, and use the cached results of one for the other."""
  first, second = build('scaling'), build('scaling')
  assert first == first and first != second
  assert bijectors.AlphaLogit(0.05) == bijectors.AlphaLogit(0.05)  # TFP's rule, for a bijector without variables.


def chain():
  """Two couplings with one network, and other bijectors, in the wrappers of TFP and of this package."""
  mask, network = bijectors.masks.even_odd(4), keras.layers.Dense(2)
  couplings = [bijectors.AdditiveCoupling(network, m, name=n) for n, m in (('first', mask), ('second', ~mask))]
  parts = [couplings[0], tfb.Invert(couplings[1]), build('normalization'), build('scaling')]
  return tfb.Chain([tfb.Invert(tfb.Chain(parts)), build('affine')])


def factor_out():
  inner = bijectors.AffineCoupling(fg.networks.ResidualConditioner(2, 2, 0), bijectors.masks.checkerboard((2, 2, 1)))
  return bijectors.FactorOut(inner, (2, 2, 2))


def flow_with_a_trained_prior():
  prior = tfd.Sample(tfd.Normal(tf.Variable(0.5), 2.0), (4,))
  return fg.flows.Flow(prior, build('affine'), name='by_hand')


# What is copied, the shape of an event, and a function of it that depends on all trained variables.
COPIED = {
  **{
    name: (lambda name=name: build(name), (4,), 'inverse')
    for name in ('scaling', 'normalization', 'affine', 'additive')
  },
  'chain': (chain, (4,), 'forward'),
  'factor_out': (factor_out, (2, 2, 2), 'inverse'),
  'joint': (lambda: tfb.JointMap([build('affine')]), (4,), lambda joint, x: joint.forward([x])[0]),
  'nice': (lambda: fg.flows.nice((2, 2, 1), couplings=2, hidden_units=4, hidden_layers=1), (2, 2, 1), 'log_prob'),
  'by_hand': (flow_with_a_trained_prior, (4,), 'log_prob'),
  'dcgan': (lambda: fg.flows.dcgan((2, 2, 1), channels=(2,)), (2, 2, 1), 'decode'),
}


@pytest.mark.parametrize('name', COPIED)
def test_a_deep_copy_is_equal_and_trained_apart(name, tmp_path):
  make, event_shape, method = COPIED[name]
  call = method if callable(method) else lambda owner, x: getattr(owner, method)(x)
  original = make()
  rng = np.random.default_rng(0)
  for variable in original.variables:
    variable.assign(rng.uniform(0.5, 1.5, variable.shape))
  x = tf.constant(rng.uniform(0.3, 0.7, (3, *event_shape)), tf.float32)
  # Alive till the end, so that TFP's caches know the original's results of `x`.
  expected = call(original, x)
  copied = copy.deepcopy(original)
  assert type(copied) is type(original) and len(copied.variables) == len(original.variables)
  assert not {id(v) for v in copied.variables} & {id(v) for v in original.variables}
  with tf.GradientTape() as tape:
    result = call(copied, tf.identity(x))
    loss = tf.reduce_sum(result**2)
  np.testing.assert_array_equal(result, expected)
  assert len(copied.trainable_variables) == len(original.trainable_variables)
  assert None not in tape.gradient(loss, copied.trainable_variables)
  for variable in copied.variables:
    before = call(copied, tf.identity(x))
    # A layer norm takes away what is added to all features alike.
    variable.assign_add(rng.uniform(0.1, 0.2, variable.shape))
    assert np.abs(call(copied, tf.identity(x)) - before).max() > 0, variable.name
  assert np.abs(call(copied, x) - expected).max() > 1e-3
  np.testing.assert_array_equal(call(original, tf.identity(x)), expected)
  # A checkpoint of the original holds the original's weights, and fits the copy.
  path = tf.train.Checkpoint(owner=original).write(str(tmp_path / 'checkpoint'))
  status = tf.train.Checkpoint(owner=copied).read(path)
  status.assert_existing_objects_matched()
  np.testing.assert_array_equal(call(copied, tf.identity(x)), expected)


def test_a_deep_copy_of_a_flow_is_a_flow_of_its_builder():
  flow = fg.flows.nice((2, 2, 1), couplings=2, hidden_units=4, hidden_layers=1, normalization='batch', prior='normal')
  copied = copy.deepcopy(flow)
  x = flow.sample(8, seed=(0, 0))
  np.testing.assert_allclose(copied.with_dtype('float64').log_prob(tf.cast(x, tf.float64)), flow.log_prob(x), atol=1e-3)
  copied.log_prob(tf.identity(x), training=True)
  for variable, other in zip(flow.non_trainable_variables, copied.non_trainable_variables, strict=True):
    assert np.abs(variable - other).max() > 0  # The running statistics of the copy alone have moved.
  assert {id(v) for v in copy.copy(flow).variables} == {id(v) for v in flow.variables}


@pytest.mark.parametrize('name', ['chain', 'factor_out', 'nice', 'by_hand', 'dcgan'])
def test_pickle_is_right_or_refused(name):
  with pytest.raises(TypeError, match=r'cannot be pickled: networks of Keras.*FlowModel'):
    pickle.dumps(COPIED[name][0]())
  for bijector in (build('scaling'), build('normalization')):  # They have no network.
    for variable in bijector.variables:
      variable.assign_add(tf.ones_like(variable))
    loaded = pickle.loads(pickle.dumps(bijector))
    x = tf.constant([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(loaded.forward(tf.identity(x)), bijector.forward(x))
    assert len(loaded.trainable_variables) == len(bijector.trainable_variables)
    for variable in loaded.variables:
      variable.assign_add(tf.ones_like(variable))
    assert np.abs(loaded.forward(tf.identity(x)) - bijector.forward(x)).max() > 0.1
