"""One pass for value and log-determinant, variables of each bijector, events of the right shape, and `training`."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf import bijectors
from flowgan_tf.bijectors import AdditiveCoupling, AffineCoupling, BatchNormalization, FactorOut, Squeeze, masks
from flowgan_tf.bijectors.base import bijector_kwargs, check_event_shape, takes_condition
from flowgan_tf.networks import KerasModule

tfb, tfd = tfp.bijectors, tfp.distributions


def build(name):
  if name == 'scaling':
    return bijectors.DiagonalScaling((4,))
  if name == 'normalization':
    return BatchNormalization((4,))
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
  mask, network = masks.even_odd(4), keras.layers.Dense(2)
  couplings = [AdditiveCoupling(network, m, name=n) for n, m in (('first', mask), ('second', ~mask))]
  parts = [couplings[0], tfb.Invert(couplings[1]), build('normalization'), build('scaling')]
  return tfb.Chain([tfb.Invert(tfb.Chain(parts)), build('affine')])


def factor_out():
  inner = AffineCoupling(fg.networks.ResidualConditioner(2, 2, 0), masks.checkerboard((2, 2, 1)))
  return FactorOut(inner, (2, 2, 2))


def flow_with_a_trained_prior():
  prior = tfd.Sample(tfd.Normal(tf.Variable(0.5), 2.0), (4,))
  return fg.flows.Flow(prior, build('affine'), name='by_hand')


class Unregistered(keras.layers.Layer):
  """Keras cannot find its class by name, nor build what is inside before a first call."""

  def __init__(self, units, **kwargs):
    super().__init__(**kwargs)
    self.units = units
    self.norm, self.dropout = keras.layers.BatchNormalization(), keras.layers.Dropout(0.1)
    self.dense = keras.layers.Dense(units, dtype=self.dtype_policy)

  def call(self, x, training=False):
    return self.dense(self.dropout(self.norm(x, training=training), training=training))


# What is copied, the shape of an event, and a method whose result depends on all trained variables.
COPIED = {
  'chain': (chain, (4,), 'forward'),
  'factor_out': (factor_out, (2, 2, 2), 'inverse'),
  'by_hand': (flow_with_a_trained_prior, (4,), 'log_prob'),
  'unregistered': (
    lambda: KerasModule(keras.Sequential([Unregistered(3), keras.layers.Lambda(lambda x: 2 * x)]), (3,)),
    (3,),
    '__call__',
  ),
  'transformer': (
    lambda: KerasModule(fg.networks.TransformerConditioner(3, 1, 4, heads=2, hidden_units=5), (2, 2, 3)),
    (2, 2, 3),
    '__call__',
  ),
}


@pytest.mark.parametrize('name', COPIED)
def test_a_deep_copy_is_equal_and_trained_apart(name, tmp_path):
  make, event_shape, method = COPIED[name]
  original = make()
  rng = np.random.default_rng(0)
  for variable in original.variables:
    if variable.dtype.is_floating:
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
    if variable.dtype.is_floating:
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


def test_pickle_is_right_or_rejected():
  for made in (chain(), flow_with_a_trained_prior(), fg.flows.dcgan((2, 2, 1), channels=(2,))):
    with pytest.raises(TypeError, match=r'cannot be pickled: networks of Keras.*FlowModel.*`copy\.deepcopy`'):
      pickle.dumps(made)
  for bijector in (build('scaling'), build('normalization')):  # They have no network.
    for variable in bijector.variables:
      variable.assign_add(tf.ones_like(variable))
    loaded = pickle.loads(pickle.dumps(bijector))
    x = tf.constant([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(loaded.forward(x), bijector.forward(x))
    assert len(loaded.trainable_variables) == len(bijector.trainable_variables)


def test_events_of_another_shape_are_rejected():
  def trace(spec):
    tf.function(lambda x: check_event_shape(x, (2, 3), 'owner')).get_concrete_function(spec)

  for shape in ((2, 3), (2, 2, 2, 3), None, (None, None, 3)):
    trace(tf.TensorSpec(shape))
  for shape in ((), (2, 1), (4, 1, 3), (None, 2)):  # Some of these would broadcast.
    with pytest.raises(ValueError, match=r'^owner expects events of shape \(2, 3\)\. Got: input of shape '):
      trace(tf.TensorSpec(shape))
  owners = [build('scaling'), build('normalization')]
  checked = [masks.even_odd(4).split, masks.BinaryMask([1, 0, 1, 0]).split]
  for call in (*checked, *(method for owner in owners for method in (owner.forward, owner.inverse))):
    with pytest.raises(ValueError, match=r'events of shape \(4,\)'):
      call(tf.zeros((2, 1)))


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


@pytest.mark.parametrize('training', [True, False, None])
def test_training_reaches_every_coupling_in_one_pass(training):
  """In a chain that holds an invert that holds a factor-out that holds a chain that holds an invert."""
  outer, outer_seen = coupling('outer', (4, 4, 2))
  middle, middle_seen = coupling('middle', (2, 2, 8))
  inner, inner_seen = coupling('inner', (2, 2, 4))
  coarse = tfb.Chain([tfb.Invert(inner, name='inverse_inner'), BatchNormalization((2, 2, 4), name='norm'), tfb.Exp()])
  factor_out = FactorOut(tfb.Invert(coarse, name='inverse_coarse'), (2, 2, 8), name='factor')
  chain = tfb.Chain([tfb.Invert(factor_out, name='inverse_factor'), middle, Squeeze(), outer])
  kwargs, recorders = {}, (outer_seen, middle_seen, inner_seen)
  if training is not None:  # Without it couplings are in evaluation.
    kwargs, on = bijector_kwargs(chain, training=training), {'training': training}
    assert kwargs == {'outer': on, 'middle': on, 'inverse_factor': {'inverse_inner': on, 'norm': on}}
  x, y = tf.ones((3, 4, 4, 2)), tf.ones((3, 2, 2, 8))
  values = chain.forward(x, **kwargs), chain.inverse(y, **kwargs)
  for recorder in recorders:
    assert recorder.seen == [bool(training)] * 2
  chain.forward_log_det_jacobian(x, event_ndims=3, **kwargs)
  chain.inverse_log_det_jacobian(y, event_ndims=3, **kwargs)
  assert [len(recorder.seen) for recorder in recorders] == [2, 2, 2]  # TFP's cache kept the log-determinants.
  del values


def test_joint_maps_of_any_structure():
  joint = tfb.JointMap({'a': BatchNormalization((2,), name='norm'), 'b': [tfb.Exp(), coupling('c', (1, 1, 2))[0]]})
  kwargs = bijector_kwargs(joint, training=np.True_)
  assert kwargs == {'norm': {'training': True}, 'c': {'training': True}}
  y = tf.constant([[1.0, 5.0], [3.0, 9.0]])
  x = joint.inverse({'a': y, 'b': [tf.ones(2), tf.ones((2, 1, 1, 2))]}, **kwargs)
  np.testing.assert_allclose(x['a'], [[-1, -1], [1, 1]], atol=1e-4)


class Noisy(tfb.Bijector):
  """A user's bijector that takes `training`, as its signature says, or holds another one."""

  def __init__(self, part=None):
    super().__init__(forward_min_event_ndims=0, parameters={}, name='noisy')
    self.part = part

  def _forward(self, x, training=False):
    return x + 1.0 if training else x


class Holder(Noisy):
  def _forward(self, x):
    return x


@pytest.mark.parametrize('training', [True, False])
def test_bijectors_and_functions_of_users_may_take_it(training):
  chain = tfb.Chain([tfb.Exp(), Noisy()])
  kwargs = bijector_kwargs(chain, training=training)
  assert kwargs == {'noisy': {'training': training}}
  np.testing.assert_allclose(chain.forward(2.0, **kwargs), np.exp(2.0 + training), rtol=1e-6)
  seen = []

  def scale(x, units=1, training=None):
    seen.append(training)
    return tfb.Scale(2.0)

  for bijector in (
    tfb.RealNVP(2, bijector_fn=scale),
    tfb.MaskedAutoregressiveFlow(bijector_fn=lambda x, training: scale(x, training=training)),
    tfb.RealNVP(2, shift_and_log_scale_fn=lambda x, units, training: (scale(x, training=training).forward(x), None)),
  ):
    chain = tfb.Chain([tfb.Invert(bijector, name='inverse')])
    chain.inverse(tf.ones((3, 4)), **bijector_kwargs(chain, training=training))
  assert set(seen) == {training} and len(seen) >= 3


def test_bijectors_that_do_not_depend_on_it_get_nothing():
  for bijector in (
    tfb.Chain([tfb.Exp(), tfb.Invert(tfb.Chain([tfb.Exp(), tfb.Exp()]))]),
    tfb.RealNVP(2, bijector_fn=lambda x, units: tfb.Scale(2.0)),
    tfb.MaskedAutoregressiveFlow(tfb.AutoregressiveNetwork(params=2, hidden_units=[4])),
    tfb.TransformDiagonal(tfb.Exp()),
  ):
    assert bijector_kwargs(bijector, training=True) == {}


@pytest.mark.parametrize('condition_shape', [None, (3,)])
def test_a_network_of_keras_within_a_bijector_of_tfp_takes_a_condition_if_it_has_a_shape(condition_shape):
  x, c = keras.Input((1,)), keras.Input((3,))
  outputs = keras.layers.Dense(2)(keras.layers.Concatenate()([x, c] if condition_shape else [x, x]))
  network = keras.Model([x, c] if condition_shape else x, keras.layers.Reshape((1, 2))(outputs))
  chain = tfb.Chain([tfb.MaskedAutoregressiveFlow(KerasModule(network, (1,), condition_shape=condition_shape))])
  given = tf.ones((4, 3)) if condition_shape else None
  keywords = {'training': True} | ({'condition': given} if condition_shape else {})
  assert takes_condition(chain) == bool(condition_shape)
  assert bijector_kwargs(chain, training=True, condition=given) == {'masked_autoregressive_flow': keywords}
  assert chain.inverse(tf.ones((4, 1)), **bijector_kwargs(chain, training=True, condition=given)).shape == (4, 1)


def test_what_tfp_would_ignore_silently_is_rejected():
  pair = [coupling('same', (1, 1, 2))[0] for _ in range(2)]
  for chain in (tfb.Chain(pair), FactorOut(tfb.Invert(tfb.Chain(pair)), (1, 1, 4)), tfb.JointMap(pair)):
    with pytest.raises(ValueError, match=r'different names.*same.*same'):
      bijector_kwargs(chain, training=True)
  norm = BatchNormalization((2,), name='norm')
  for bijector in (Holder(norm), Holder(tfb.Chain([tfb.Exp(), norm])), tfb.Chain([tfb.TransformDiagonal(norm)])):
    with pytest.raises(ValueError, match=r"^`bijector` must pass `training` on .*Got: '\w+', .* 'norm'\.$"):
      bijector_kwargs(bijector, training=False)
  for training in (None, 1, tf.constant(True)):
    with pytest.raises(ValueError, match=r'^`training` must be True or False\. Got: '):
      bijector_kwargs(tfb.Exp(), training=training)


@pytest.mark.parametrize('name', ['x', 'name', 'event_ndims', 'dtype', 'b'])
def test_names_of_arguments_are_rejected(name):
  parts = [AffineCoupling(keras.layers.Dense(4), masks.even_odd(4), name=own) for own in ('first', name)]
  with pytest.raises(fg.UsageError, match=f"`bijector` must have parts with other names.*Got: '{name}'"):
    bijector_kwargs(tfb.Chain(parts), training=True)
