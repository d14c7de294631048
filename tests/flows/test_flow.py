import inspect
import pydoc
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf import bijectors
from flowgan_tf.flows import Flow
from flowgan_tf.flows.prior import standard_prior
from flowgan_tf.networks import dense_conditioner

tfb, tfd = tfp.bijectors, tfp.distributions


@pytest.fixture(autouse=True)
def seeded_initial_weights():
  keras.utils.set_random_seed(0)


def small_flow(name, seed=0):
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


def test_an_unknown_prior_is_refused():
  with pytest.raises(ValueError, match=r"`prior` must be one of logistic, normal\. Got: 'cauchy'"):
    standard_prior('cauchy', (2, 3), tf.float32)


@pytest.mark.parametrize('bijector', [tfb.Sigmoid(), tfb.Invert(tfb.Chain([bijectors.AlphaLogit()]))])
def test_a_flow_with_nothing_to_learn_is_refused(bijector):
  with pytest.raises(ValueError, match=r'`bijector` must be trainable, .*Got: '):
    Flow(tfd.Sample(tfd.Normal(0.0, 1.0), 4), bijector, name='empty')


METHODS = ['log_prob', 'sample']


@pytest.mark.parametrize('method', METHODS)
def test_help_shows_training(method):
  bound = getattr(small_flow('flow'), method)
  assert inspect.signature(bound).parameters['training'].default is False
  page = pydoc.plain(pydoc.render_doc(bound))
  assert 'training' in page.splitlines()[2] and re.search(r'\n +training: ', page)
  # TFP's metaclass appends to docstrings, and TFP's own speak of keywords in general.
  assert 'kwargs' not in page and 'Additional documentation' not in page


@pytest.mark.parametrize('method', METHODS)
def test_the_signatures_are_those_of_tfp_and_keywords(method):
  """So that whatever calls a distribution may call a flow."""
  ours, theirs = (inspect.signature(getattr(c, method)).parameters for c in (Flow, tfd.TransformedDistribution))
  keywords = ['training', 'component'] if method == 'log_prob' else ['training']
  assert [*ours] == [*(name for name in theirs if name != 'kwargs'), *keywords]
  assert all(ours[name].default == theirs[name].default for name in ours if name not in keywords)
  assert all(ours[name].kind == inspect.Parameter.KEYWORD_ONLY for name in keywords)


@pytest.mark.parametrize(
  'call',
  [
    lambda flow, **kwargs: flow.log_prob(images(2), **kwargs),
    lambda flow, **kwargs: flow.prob(images(2), **kwargs),
    lambda flow, **kwargs: flow.sample(2, seed=(0, 0), **kwargs),
    lambda flow, **kwargs: flow.experimental_sample_and_log_prob(2, seed=(0, 0), **kwargs),
    lambda flow, **kwargs: flow.encode(images(2), **kwargs),
    lambda flow, **kwargs: flow.decode(images(2), **kwargs),
    lambda flow, **kwargs: flow.unnormalized_log_prob(images(2), **kwargs),
  ],
  ids=['log_prob', 'prob', 'sample', 'experimental_sample_and_log_prob', 'encode', 'decode', 'unnormalized_log_prob'],
)
def test_training_reaches_the_norms_and_a_misspelt_keyword_is_refused(call):
  flow = small_flow('flow')
  before = [v.numpy() for v in flow.variables]
  call(flow)
  call(flow, training=False)
  for variable, value in zip(flow.variables, before, strict=True):
    np.testing.assert_array_equal(variable, value)
  call(flow, training=True)
  changed = [v for v, value in zip(flow.variables, before, strict=True) if np.any(v != value)]
  assert changed and not any(v.trainable for v in changed)
  with pytest.raises(TypeError, match='trainig'):
    call(flow, trainig=True)


def log_prob_by_hand(flow, x):
  """Change of variables, with the prior written out and the Jacobian from automatic differentiation."""
  with tf.GradientTape() as tape:
    tape.watch(x)
    z = flow.bijector.inverse(x)
  _, log_det = np.linalg.slogdet(tape.batch_jacobian(z, x).numpy().astype(np.float64))
  z = z.numpy().astype(np.float64) / 0.5
  return (-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - np.log(0.5)).sum(axis=-1) + log_det


MODES = {
  'eager': lambda function: function,
  'graph': tf.function,
  'XLA': lambda function: tf.function(function, jit_compile=True),
}


@pytest.mark.parametrize('mode', MODES)
def test_densities_and_samples(mode):
  flow = small_flow('flow')
  run = MODES[mode]
  x = images(5)
  expected = log_prob_by_hand(flow, tf.identity(x))
  np.testing.assert_allclose(run(flow.log_prob)(x), expected, rtol=1e-4)
  np.testing.assert_allclose(run(flow.prob)(tf.identity(x)), np.exp(expected), rtol=1e-3)
  samples = run(lambda: flow.sample((2, 3), seed=(0, 1)))()
  assert samples.shape == (2, 3, 4) and np.all((samples > 0) & (samples < 1))
  again, log_prob = run(lambda: flow.experimental_sample_and_log_prob((2, 3), seed=(0, 1)))()
  np.testing.assert_allclose(again, samples, rtol=1e-5)
  by_hand = log_prob_by_hand(flow, tf.reshape(samples, (6, 4)))
  np.testing.assert_allclose(tf.reshape(log_prob, [6]), by_hand, rtol=1e-3, atol=1e-3)
  # In training the batch normalises itself.
  in_training = run(lambda x: flow.log_prob(x, training=True))(tf.identity(x))
  assert np.abs(in_training - expected).max() > 0.1


def test_a_saved_model_of_the_methods(tmp_path):
  flow = small_flow('flow')
  module = tf.Module()
  module.weights = list(flow.variables)
  signature = [tf.TensorSpec([None, 4])]
  module.log_prob = tf.function(flow.log_prob, input_signature=signature)
  module.sample = tf.function(lambda n: flow.sample(n, seed=(0, 1)), input_signature=[tf.TensorSpec([], tf.int32)])
  tf.saved_model.save(module, str(tmp_path))
  loaded = tf.saved_model.load(str(tmp_path))
  np.testing.assert_allclose(loaded.log_prob(images(3)), flow.log_prob(images(3)), rtol=1e-5)
  np.testing.assert_allclose(loaded.sample(3), flow.sample(3, seed=(0, 1)), rtol=1e-5)


def coroutine(left, right):
  @tfd.JointDistributionCoroutineAutoBatched
  def model():
    yield left
    yield right

  return model


JOINTS = {
  'Sequential': lambda left, right: tfd.JointDistributionSequential([left, right]),
  'Named': lambda left, right: tfd.JointDistributionNamed({'a': left, 'b': right}),
  'SequentialAutoBatched': lambda left, right: tfd.JointDistributionSequentialAutoBatched([left, right]),
  'CoroutineAutoBatched': coroutine,
}


@pytest.mark.parametrize(
  'joint, mode',
  [('Sequential', 'graph'), ('Sequential', 'XLA'), *[(joint, 'eager') for joint in JOINTS]],
)
def test_two_flows_fit_into_one_joint_distribution(joint, mode):
  flows = small_flow('left', 1), small_flow('right', 2)
  joint, run = JOINTS[joint](*flows), MODES[mode]
  sample, log_prob = run(lambda: joint.experimental_sample_and_log_prob(3, seed=1))()
  parts = [tf.identity(part) for part in tf.nest.flatten(sample)]
  assert [part.shape for part in parts] == [(3, 4), (3, 4)]
  expected = sum(log_prob_by_hand(flow, part) for flow, part in zip(flows, parts, strict=True))
  np.testing.assert_allclose(log_prob, expected, rtol=1e-3)
  value = tf.nest.pack_sequence_as(joint.dtype, parts)
  np.testing.assert_allclose(run(joint.log_prob)(value), expected, rtol=1e-3)
  assert [part.shape for part in tf.nest.flatten(run(lambda: joint.sample(5, seed=1))())] == [(5, 4), (5, 4)]


def test_a_flow_says_what_it_is():
  text = "<flowgan_tf.flows.Flow 'left' batch_shape=() event_shape=(4,) dtype=float32>"
  assert repr(small_flow('left')) == str(small_flow('left')) == text


def test_the_example_runs():
  code = re.search(r'```python\n(.*?)```', inspect.getdoc(Flow), re.DOTALL).group(1)
  names = {'fg': fg, 'tfb': tfb, 'tfd': tfd}
  exec(code, names)  # the docstring is ours
  assert names['flow'].log_prob(names['flow'].sample(16)).shape == (16,)
