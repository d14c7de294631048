import copy
import functools
import logging
import re
from unittest import mock

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors, flows
from flowgan_tf.flows import Flow
from flowgan_tf.networks import KerasModule, dense_conditioner

tfb, tfd = tfp.bijectors, tfp.distributions


def small_flow(name='flow', seed=0):
  """A flow over four numbers in (0, 1), with weights and statistics away from their initial values."""
  mask = bijectors.masks.even_odd(4)
  parts = [
    bijectors.AffineCoupling(dense_conditioner(4, 5, 1, 'scalar_batch'), mask, name='first'),
    bijectors.BatchNormalization((4,), name='norm'),
    bijectors.AffineCoupling(dense_conditioner(4, 5, 1, 'none'), ~mask, name='second'),
  ]
  flow = Flow(tfd.Sample(tfd.Normal(0.0, 0.5), 4), tfb.Chain([tfb.Sigmoid(), *parts]), name=name)
  rng = np.random.default_rng(seed)
  for variable in flow.variables:
    variable.assign(variable + rng.uniform(0.1, 0.3, variable.shape))
  return flow


def images(*batch_shape):
  return tf.constant(np.random.default_rng(0).uniform(0.05, 0.95, (*batch_shape, 4)), tf.float32)


class Shifting(tf.Module):
  """A function for `tfb.RealNVP` with a network in a list."""

  def __init__(self, network):
    super().__init__()
    self.networks = [network]

  def __call__(self, x, units):
    return tfb.Shift(self.networks[0](x))


def test_networks_that_would_not_be_trained_are_rejected():
  prior, learned = tfd.Sample(tfd.Normal(0.0, 1.0), 4), tfb.Shift(tf.Variable(tf.zeros(4)))
  maf = tfb.MaskedAutoregressiveFlow(tfb.AutoregressiveNetwork(2, hidden_units=[4]), name='maf')
  dense = keras.layers.Dense(2, name='dense')
  late = r'have made its trainable variables, .*call `bijector\.forward\(distribution\.sample\(1\)\)` first\. .*Got: '
  unseen = r'hold networks of Keras 3 as `flowgan_tf\.networks\.KerasModule\(.*which holds .dense'
  for bijector, message in (
    (tfb.Chain([bijectors.AlphaLogit()]), f"{late}'chain_of_alpha_logit' with no trainable variables"),
    (tfb.RealNVP(2, bijector_fn=lambda x, units: tfb.Shift(dense(x))), f"{late}'real_nvp' with no trainable variables"),
    (tfb.Chain([maf, learned]), f"{late}'chain_of_maf_of_shift' with a network that has not been called, 'autoregress"),
    (tfb.MaskedAutoregressiveFlow(dense), unseen),
    (tfb.Chain([tfb.RealNVP(2, bijector_fn=Shifting(dense)), learned]), unseen),
  ):
    with pytest.raises(ValueError, match=f'^`bijector` must {message}'):
      Flow(prior, bijector)
  seen = tfb.RealNVP(2, bijector_fn=Shifting(KerasModule(dense, (2,))))
  maf.forward(prior.sample(1))
  assert len(Flow(prior, tfb.Chain([maf, seen])).trainable_variables) == 6


def test_a_deep_copy_that_would_share_a_network_is_rejected():
  maf = tfb.MaskedAutoregressiveFlow(KerasModule(keras.layers.Dense(2), (1,)), name='maf')
  for bijector in (maf, tfb.Chain([tfb.Exp(), maf])):
    with pytest.raises(TypeError, match=r"'flow' cannot be copied: the function of 'maf' .*`with_dtype` instead\.$"):
      copy.deepcopy(Flow(tfd.Sample(tfd.Normal(0.0, 1.0), 1), bijector))


def test_a_deep_copy_that_tfp_cannot_make_is_rejected():
  learned = tfb.Scale(tf.Variable(2.0))
  with pytest.raises(TypeError, match=r"^'flow' cannot be copied, because TFP cannot copy .*`with_dtype` instead\.$"):
    copy.deepcopy(Flow(tfd.Sample(tfd.Normal(0.0, 1.0), 1), tfb.Chain([tfb.Invert(tfb.Softplus()), learned])))


def test_training_reaches_the_norms_and_a_misspelt_keyword_is_rejected():
  flow, x = small_flow('flow'), images(2)
  start = [v.numpy() for v in flow.variables]
  for call in (
    *(functools.partial(method, x) for method in (flow.log_prob, flow.prob, flow.unnormalized_log_prob, flow.encode)),
    functools.partial(flow.decode, x),
    functools.partial(flow.sample, 2, seed=(0, 0)),
    functools.partial(flow.experimental_sample_and_log_prob, 2, seed=(0, 0)),
  ):
    for variable, value in zip(flow.variables, start, strict=True):
      variable.assign(value)
    call()
    call(training=False)
    assert all(np.array_equal(v, value) for v, value in zip(flow.variables, start, strict=True))
    call(training=True)
    changed = [v for v, value in zip(flow.variables, start, strict=True) if np.any(v != value)]
    assert changed and not any(v.trainable for v in changed)
    with pytest.raises(TypeError, match='trainig'):
      call(trainig=True)
    with pytest.raises(ValueError, match=r'^`training` must be True or False\. Got: '):
      call(training=1)
  with pytest.raises(NotImplementedError, match='entropy needs training=False'):
    flow.entropy(training=True)


def flow_of_numbers():
  return Flow(tfd.Normal(0.0, 1.0), tfb.Chain([tfb.Scale(tf.Variable(2.0)), tfb.SinhArcsinh(0.1)]))


def flow_of_two_parts():
  prior = tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0), tfd.Normal(1.0, 1.0)])
  return Flow(prior, tfb.JointMap([tfb.Scale(tf.Variable(2.0)), tfb.Exp()]))


def flow_with_classes():
  small = {'couplings': 2, 'hidden_units': 4, 'hidden_layers': 1, 'normalization': 'none'}
  return flows.nice((1, 4, 1), classes=2, components=2, condition_networks=False, **small)


@pytest.mark.parametrize(
  ('build', 'method'),
  [
    (small_flow, lambda flow: flow.log_prob),
    (small_flow, lambda flow: tfb.Shift([0.0] * 4)(flow).log_prob),
    (small_flow, lambda flow: flow.encode),
    (small_flow, lambda flow: flow.decode),
    (flow_of_numbers, lambda flow: flow.cdf),
    (flow_of_numbers, lambda flow: flow.log_cdf),
    (flow_of_numbers, lambda flow: flow.survival_function),
    (flow_of_numbers, lambda flow: flow.log_survival_function),
    (flow_of_two_parts, lambda flow: flow.log_prob),
    (flow_with_classes, lambda flow: flow.class_log_probs),
    (flow_with_classes, lambda flow: flow.given([0, 1, 1]).log_prob),
  ],
)
def test_each_call_sees_the_weights_as_they_are(build, method):
  flow = build()
  call = method(flow)
  x = flow.sample(3, seed=(0, 1))
  before = call(x)  # Still alive at the second call, so that TFP's cache has it.
  for variable in flow.trainable_variables:
    variable.assign_add(tf.fill(variable.shape, 0.1))
  results = []
  for value in (x, tf.nest.map_structure(lambda part: tf.constant(part.numpy()), x)):
    with tf.GradientTape() as tape:
      found = call(value)
    results.append((found, tape.gradient(found, flow.trainable_variables, unconnected_gradients='zero')))
  (found, gradients), (expected, expected_gradients) = results
  assert any(np.any(gradient) for gradient in gradients)
  assert np.abs(expected - before).max() > 1e-3
  np.testing.assert_array_equal(found, expected)
  for gradient, other in zip(gradients, expected_gradients, strict=True):
    np.testing.assert_array_equal(gradient, other)


def test_methods_share_passes_of_the_networks_in_a_graph_alone(monkeypatch):
  flow, x = small_flow('flow'), images(3)
  network = mock.Mock(side_effect=KerasModule._call)
  monkeypatch.setattr(KerasModule, '_call', staticmethod(network))
  both = tf.function(lambda x: (flow.encode(x), flow.log_prob(x)), autograph=False)
  for call, passes in (
    (lambda: flow.log_prob(x), 1),
    (lambda: flow.experimental_sample_and_log_prob(3, seed=(0, 1)), 1),
    (lambda: (flow.encode(x), flow.log_prob(x)), 2),
    (lambda: both.get_concrete_function(x), 1),
  ):
    network.reset_mock()
    call()
    assert network.call_count == 2 * passes  # The flow has two couplings.


def test_two_flows_fit_into_one_joint_distribution():
  parts_of = small_flow('left', 1), small_flow('right', 2)
  joint = tfd.JointDistributionSequential([*parts_of])
  parts, log_prob = joint.experimental_sample_and_log_prob(3, seed=1)
  parts = [tf.identity(part) for part in parts]
  expected = sum(flow.log_prob(part) for flow, part in zip(parts_of, parts, strict=True))
  np.testing.assert_allclose(log_prob, expected, rtol=1e-3)
  np.testing.assert_allclose(joint.log_prob(parts), expected, rtol=1e-3)


SHAPE = (4, 4, 1)


@pytest.fixture(scope='module')
def flow():
  return flows.nice(SHAPE, couplings=2, hidden_units=4, hidden_layers=1)


each_method = pytest.mark.parametrize(
  'method, argument', [('log_prob', 'value'), ('encode', 'images'), ('decode', 'noise')]
)


@each_method
def test_images_of_another_dtype_or_shape_are_rejected(flow, method, argument):
  """Each would be cast, broadcast, or computed in a mixture of dtypes."""
  wide = tf.fill((2, *SHAPE), tf.constant(0.5, tf.float64))
  for value, found in (
    (np.zeros((2, *SHAPE), np.uint8), 'uint8 of shape (2, 4, 4, 1)'),
    (wide, 'float64 of shape (2, 4, 4, 1)'),
    (np.zeros((4, 1, 1)), 'float64 of shape (4, 1, 1)'),
    (0.5, 'float32 of shape ()'),
    (np.full(SHAPE, 128).tolist(), 'int32 of shape (4, 4, 1)'),
  ):
    grey = 'int' in found and method != 'decode'
    hint = '; `flowgan_tf.data.dequantize` turns grey levels into such images' if grey else ''
    message = f'`{argument}` must be {"float32" if value is wide else "floats"} of shape [..., 4, 4, 1]{hint}'
    with pytest.raises(ValueError, match=f'^{re.escape(message)}\\. Got: {re.escape(found)}\\.$'):
      getattr(flow, method)(value)
  with pytest.raises(ValueError, match=f'`{argument}` must be float32 of shape'):
    tf.function(getattr(flow, method)).get_concrete_function(tf.TensorSpec((None, *SHAPE), tf.float64))


@each_method
def test_arrays_and_lists_are_converted_as_in_tfp(flow, method, argument):
  x = np.random.default_rng(0).uniform(0.1, 0.9, (2, *SHAPE)).astype(np.float32)
  call = getattr(flow, method)
  expected = call(tf.constant(x))
  for value in (x, x.astype(np.float64), x.tolist(), [tf.constant(x[0]), tf.constant(x[1])], tf.Variable(x)):
    converted = call(value)
    assert converted.dtype == tf.float32
    np.testing.assert_array_equal(converted, expected)
  unknown = tf.function(call, input_signature=[tf.TensorSpec(None)])
  np.testing.assert_allclose(unknown(x), expected, rtol=1e-5, atol=1e-4)


def test_mean_and_entropy_of_an_affine_flow():
  scaling, norm = bijectors.DiagonalScaling((3,)), bijectors.BatchNormalization((3,), epsilon=0.0)
  flow = flows.Flow(flows.prior.standard_prior('normal', (3,), tf.float32), tfb.Chain([norm, scaling]), 'affine')
  norm.variables[0].assign([1.0, 2.0, 3.0])
  norm.variables[1].assign([4.0, 9.0, 16.0])
  expected = scipy.stats.norm(0, [2.0, 3.0, 4.0]).entropy().sum()
  assert flow.entropy().numpy() == pytest.approx(expected, rel=1e-5)
  np.testing.assert_allclose(flow.mean(), [1.0, 2.0, 3.0])


def test_scalars_in_a_graph_of_any_batch():
  flow = Flow(tfd.Normal(0.0, 1.0), tfb.Chain([tfb.Shift(tf.Variable(1.0)), tfb.Scale(tf.Variable(0.5))]))
  x = np.float32([0.0, 1.0, 3.0])
  expected = scipy.stats.norm(1.0, 0.5).logpdf(x)
  for shape in ([None], None):
    in_graph = tf.function(flow.log_prob, input_signature=[tf.TensorSpec(shape)])
    np.testing.assert_allclose(in_graph(x), expected, rtol=1e-5)


class OwnVariables(tfd.Distribution):
  """A distribution that makes its variable itself."""

  def __init__(self, name='own'):
    parameters = dict(locals())
    self._loc = tf.Variable([0.0, 0.0])
    kinds = {'reparameterization_type': tfd.FULLY_REPARAMETERIZED, 'validate_args': False, 'allow_nan_stats': True}
    super().__init__(tf.float32, parameters=parameters, name=name, **kinds)

  def _event_shape(self):
    return tf.TensorShape([2])

  def _batch_shape(self):
    return tf.TensorShape([])

  def _log_prob(self, x):
    return -tf.reduce_sum((x - self._loc) ** 2, axis=-1)


PRIORS = {
  'mixture': lambda: tfd.MixtureSameFamily(
    tfd.Categorical(logits=tf.Variable([0.0, 1.0])), tfd.MultivariateNormalDiag(tf.Variable([[0.0, 1.0], [2.0, 3.0]]))
  ),
  'shifted': lambda: tfb.Shift(tf.Variable([1.0, 2.0]))(tfd.Sample(tfd.Normal(0.0, 1.0), 2)),
  'independent': lambda: tfd.Independent(tfd.Normal(tf.Variable([1.0, 2.0]), 1.0), 1),
  'sample': lambda: tfd.Sample(tfd.Normal(tf.Variable(1.0), 1.0), 2),
  'own variables': lambda: tfb.Shift([0.0, 0.0])(OwnVariables()),
  'flow': lambda: Flow(tfd.Sample(tfd.Normal(0.0, 1.0), 2), tfb.Shift(tf.Variable([1.0, 2.0]))),
}


@pytest.mark.parametrize('name', PRIORS)
def test_a_deep_copy_has_a_prior_of_its_own(name):
  flow, x = Flow(PRIORS[name](), tfb.Scale(tf.Variable([2.0, 3.0]))), tf.constant([[0.5, -1.0]])
  for variable in flow.trainable_variables:
    variable.assign_add(0.5 * tf.ones_like(variable))
  before, copied = flow.log_prob(x), copy.deepcopy(flow)
  np.testing.assert_array_equal(copied.log_prob(x), before)
  assert len(copied.trainable_variables) == len(flow.trainable_variables) > 1
  for variable in copied.trainable_variables:
    variable.assign_add(tf.ones_like(variable))
  np.testing.assert_array_equal(flow.log_prob(x), before)
  assert np.abs(copied.log_prob(x) - before).max() > 0.01


def test_copies_know_what_the_builder_says():
  flow = flows.vectors(2, hidden_units=2)
  assert flow.traits.draws_rows
  assert flow.traits == flow.copy().traits == flow.copy(name='other').traits == copy.deepcopy(flow).traits


class Branching(keras.layers.Layer):
  def call(self, x):
    return tf.map_fn(self.one, x)

  def one(self, row):
    if tf.reduce_sum(row) > 0:
      return row
    return -row


def test_autograph_converts_a_users_network():
  network, x = KerasModule(Branching(), (2,)), tf.constant([[1.0, 2.0], [-3.0, 1.0]])
  np.testing.assert_array_equal(tf.function(lambda x: network(x))(x), [[1.0, 2.0], [3.0, -1.0]])


def test_a_graph_that_autograph_converts_has_no_warning(caplog):
  flow, x = flows.nice((2, 2, 1), couplings=2, hidden_units=2, hidden_layers=1), tf.fill((3, 2, 2, 1), 0.4)
  dcgan = flows.dcgan((4, 4, 1), channels=(2,))

  @tf.function
  def in_graph():
    return flow.decode(flow.encode(x)), flow.log_prob(x), flow.sample(3, seed=(0, 1)), dcgan.sample(3, seed=(0, 1))

  logger = logging.getLogger('tensorflow')
  logger.addHandler(caplog.handler)
  try:
    np.testing.assert_allclose(in_graph()[0], x, rtol=1e-5)
  finally:
    logger.removeHandler(caplog.handler)
  assert not [message for message in caplog.messages if 'AutoGraph' in message]
