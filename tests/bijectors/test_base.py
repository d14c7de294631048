"""One pass for value and log-determinant, variables that stay with their bijector, and events of the right shape."""

import copy
import gc
import pickle
import re
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf import bijectors
from flowgan_tf.bijectors import AffineCoupling, BatchNormalization, masks
from flowgan_tf.bijectors.base import check_event_shape, clear_caches

tfb, tfd = tfp.bijectors, tfp.distributions


class Counting(tf.Module):
  """A conditioner that counts its calls."""

  def __init__(self):
    super().__init__()
    self.weight = tf.Variable(tf.random.stateless_normal((2, 4), seed=(0, 0)))
    self.calls = 0

  def __call__(self, x, training=False):
    self.calls += 1
    return tf.sin(x @ self.weight)


def distribution(couplings):
  conditioners = [Counting() for _ in range(couplings)]
  chain = tfb.Chain(
    [
      AffineCoupling(conditioner, masks.even_odd(4, swap=i % 2 == 1), name=f'coupling_{i}')
      for i, conditioner in enumerate(conditioners)
    ]
  )
  return tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), 4), chain), conditioners


@pytest.mark.parametrize(
  'call',
  [
    lambda d: d.log_prob(tf.ones((5, 4))),
    lambda d: d.sample(5, seed=(0, 1)),
    lambda d: d.experimental_sample_and_log_prob(5, seed=(0, 1)),
    lambda d: tf.function(lambda: d.log_prob(tf.ones((5, 4)))).get_concrete_function(),
  ],
  ids=['log_prob', 'sample', 'sample_and_log_prob', 'log_prob in a graph'],
)
def test_value_and_log_det_take_one_pass_of_each_network(call):
  flow, conditioners = distribution(3)
  call(flow)
  assert [conditioner.calls for conditioner in conditioners] == [1, 1, 1]


def test_cleared_caches_let_go_of_graphs_and_flows():
  """Otherwise TFP's caches keep both alive, as the first assertion shows."""

  def traced():
    flow, _ = distribution(2)
    concrete = tf.function(flow.log_prob).get_concrete_function(tf.TensorSpec((5, 4)))
    return weakref.ref(concrete.graph), weakref.ref(flow.bijector)

  references = traced()
  gc.collect()
  assert all(reference() is not None for reference in references)
  clear_caches()
  gc.collect()
  assert all(reference() is None for reference in references)


def build(name):
  if name == 'scaling':
    return bijectors.DiagonalScaling((4,))
  if name == 'normalization':
    return bijectors.BatchNormalization((4,))
  return AffineCoupling(keras.layers.Dense(4), masks.even_odd(4))


def test_results_are_cached_for_one_bijector_and_its_weights():
  # TFP would consider two bijectors with equal arguments to be equal, although each has its own variables.
  for name in ('scaling', 'normalization', 'affine'):
    first, second = build(name), build(name)
    for variable in second.variables:
      variable.assign(variable + 1.0)
    x = tf.random.stateless_normal((5, 4), seed=(1, 0))
    y = first.forward(x)
    assert np.abs(second.forward(x) - y).max() > 0.1
    assert first != second and first == first and first.copy() is first
  with pytest.raises(NotImplementedError, match='affine_coupling'):
    first.copy(log_scale_bound=1.0)
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


# What is copied, the shape of an event, and a method whose result depends on all trained variables.
COPIED = {
  **{name: (lambda name=name: build(name), (4,), 'inverse') for name in ('scaling', 'normalization', 'affine')},
  'chain': (chain, (4,), 'forward'),
  'factor_out': (factor_out, (2, 2, 2), 'inverse'),
  'by_hand': (flow_with_a_trained_prior, (4,), 'log_prob'),
  'dcgan': (lambda: fg.flows.dcgan((2, 2, 1), channels=(2,)), (2, 2, 1), 'decode'),
}


@pytest.mark.parametrize('name', COPIED)
def test_a_deep_copy_is_equal_and_trained_apart(name, tmp_path):
  make, event_shape, method = COPIED[name]
  original = make()
  rng = np.random.default_rng(0)
  for variable in original.variables:
    variable.assign(rng.uniform(0.5, 1.5, variable.shape))
  x = tf.constant(rng.uniform(0.3, 0.7, (3, *event_shape)), tf.float32)
  # Alive till the end, so that TFP's caches know the original's results of `x`.
  expected = getattr(original, method)(x)
  copied = copy.deepcopy(original)
  call = getattr(copied, method)
  assert type(copied) is type(original) and len(copied.variables) == len(original.variables)
  assert not {id(v) for v in copied.variables} & {id(v) for v in original.variables}
  with tf.GradientTape() as tape:
    result = call(tf.identity(x))
    loss = tf.reduce_sum(result**2)
  np.testing.assert_array_equal(result, expected)
  assert len(copied.trainable_variables) == len(original.trainable_variables)
  assert None not in tape.gradient(loss, copied.trainable_variables)
  for variable in copied.variables:
    before = call(tf.identity(x))
    # A layer norm takes away what is added to all features alike.
    variable.assign_add(rng.uniform(0.1, 0.2, variable.shape))
    assert np.abs(call(tf.identity(x)) - before).max() > 0, variable.name
  assert np.abs(call(x) - expected).max() > 1e-3
  np.testing.assert_array_equal(getattr(original, method)(tf.identity(x)), expected)
  # A checkpoint of the original holds the original's weights, and fits the copy.
  path = tf.train.Checkpoint(owner=original).write(str(tmp_path / 'checkpoint'))
  tf.train.Checkpoint(owner=copied).read(path).assert_existing_objects_matched()
  np.testing.assert_array_equal(call(tf.identity(x)), expected)


def test_pickle_is_right_or_refused():
  for name in ('chain', 'by_hand', 'dcgan'):
    with pytest.raises(TypeError, match=r'cannot be pickled: networks of Keras.*FlowModel.*`copy\.deepcopy`'):
      pickle.dumps(COPIED[name][0]())
  for bijector in (build('scaling'), build('normalization')):  # They have no network.
    for variable in bijector.variables:
      variable.assign_add(tf.ones_like(variable))
    loaded = pickle.loads(pickle.dumps(bijector))
    x = tf.constant([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(loaded.forward(x), bijector.forward(x))
    assert len(loaded.trainable_variables) == len(bijector.trainable_variables)


@pytest.mark.parametrize('spec', [(2, 3), (0, 2, 3), (2, 2, 2, 3), None, (None, None, 3)])
def test_events_of_the_right_or_an_unknown_shape_pass(spec):
  tf.function(lambda x: check_event_shape(x, (2, 3), 'owner')).get_concrete_function(tf.TensorSpec(spec))


@pytest.mark.parametrize('shape', [(), (3,), (2, 1), (4, 1, 3), (None, 2)])  # Some of these would broadcast.
def test_events_of_another_shape_are_refused(shape):
  graph = tf.function(lambda x: check_event_shape(x, (2, 3), 'owner'))
  message = rf'^owner expects events of shape \(2, 3\)\. Got: input of shape {re.escape(str(tf.TensorShape(shape)))}\.$'
  with pytest.raises(ValueError, match=message):
    graph.get_concrete_function(tf.TensorSpec(shape))


def test_bijectors_and_masks_check_the_shapes_of_events():
  owners = [build('scaling'), build('normalization')]
  checked = [masks.even_odd(4).split, masks.BinaryMask([1, 0, 1, 0]).split]
  for call in (*checked, *(method for owner in owners for method in (owner.forward, owner.inverse))):
    with pytest.raises(ValueError, match=r'events of shape \(4,\)'):
      call(tf.zeros((2, 1)))


def test_a_chain_with_a_users_network_in_a_program_of_tfp_and_a_saved_model(tmp_path):
  network = keras.Sequential([keras.layers.Dense(8, 'tanh', dtype='mixed_bfloat16'), keras.layers.Dense(4)])
  coupling = AffineCoupling(network, masks.even_odd(4))
  chain = tfb.Chain([tfb.Sigmoid(), coupling, BatchNormalization((4,))])
  module = tf.Module()
  module.distribution = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), 4), chain)
  module.log_prob = tf.function(module.distribution.log_prob, input_signature=[tf.TensorSpec((None, 4))])
  x = module.distribution.sample(3, seed=(0, 0))
  tf.saved_model.save(module, str(tmp_path / 'model'))
  loaded = tf.saved_model.load(str(tmp_path / 'model'))
  assert len(module.trainable_variables) == 6
  expected = module.distribution.log_prob(tf.identity(x))
  # The compilers round bfloat16 at other places.
  np.testing.assert_allclose(loaded.log_prob(x), expected, atol=0.02)
  np.testing.assert_allclose(tf.function(module.distribution.log_prob, jit_compile=True)(x), expected, atol=0.02)
