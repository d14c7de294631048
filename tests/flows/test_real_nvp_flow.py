"""The full architecture of Real-NVP; what holds for both flows is in test_flows.py."""

import collections
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import bijectors, flows
from tests.flows import reference

SHAPE = (8, 8, 3)
PIXELS = 8 * 8 * 3
SETTINGS = {
  'default': {'blocks': 1},
  'paper': {'blocks': 1, 'architecture': 'paper'},
  '3 scales, norm between': {'blocks': 1, 'scales': 3, 'batch_norm_between': True},
}
each_setting = pytest.mark.parametrize('name', SETTINGS)


@functools.cache
def flow_named(name):
  """In float64, with weights and running statistics that do something; tests leave it as it is."""
  keras.utils.set_random_seed(0)
  flow = flows.real_nvp(SHAPE, channels=8, normalization='batch', dtype='float64', **SETTINGS[name])
  rng = np.random.default_rng(0)
  for variable in flow.variables:
    if variable.trainable:
      variable.assign(variable + rng.normal(0.0, 0.15, variable.shape))
    elif 'variance' in variable.name:
      variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    else:
      variable.assign(rng.normal(0.0, 0.3, variable.shape))
  return flow


def images(n, seed=0):
  return tf.constant(np.random.default_rng(seed).uniform(0.05, 0.95, (n, *SHAPE)))


def jacobian(function, x):
  """Row i is the gradient of output i at copy i of `x`: in evaluation no copy depends on another."""
  copies = tf.repeat(x, PIXELS, axis=0)
  with tf.GradientTape() as tape:
    tape.watch(copies)
    outputs = tf.linalg.diag_part(tf.reshape(function(copies), (PIXELS, PIXELS)))
  return tf.reshape(tape.gradient(outputs, copies), (PIXELS, PIXELS)).numpy()


# That of the paper is compared with a Jacobian in tests/bijectors/test_bijectors_all.py.
@pytest.mark.parametrize('name', ['default', '3 scales, norm between'])
def test_log_det_is_that_of_the_jacobian(name):
  flow, x = flow_named(name), images(1)
  z = tf.identity(flow.encode(x))
  of_encode, of_decode = jacobian(flow.encode, x), jacobian(flow.decode, z)
  assert np.mean(of_encode != 0) > 0.5
  inverse, forward = (np.linalg.slogdet(j)[1] for j in (of_encode, of_decode))
  assert abs(inverse) > 10
  np.testing.assert_allclose(flow.bijector.inverse_log_det_jacobian(tf.identity(x), event_ndims=3), inverse, rtol=1e-8)
  np.testing.assert_allclose(flow.bijector.forward_log_det_jacobian(tf.identity(z), event_ndims=3), forward, rtol=1e-8)
  np.testing.assert_allclose(forward, -inverse, rtol=1e-8)


@pytest.mark.parametrize(
  'name, expected',
  [
    ('default', {(0, 'checkerboard'): 3, (0, 'channel'): 3, (1, 'checkerboard'): 4}),
    ('paper', {(0, 'checkerboard'): 3, (0, 'channel'): 3, (1, 'checkerboard'): 4}),
    (
      '3 scales, norm between',
      {(0, 'checkerboard'): 3, (0, 'channel'): 3, (1, 'checkerboard'): 3, (1, 'channel'): 3, (2, 'checkerboard'): 4},
    ),
  ],
)
def test_couplings_by_scale_and_kind(name, expected):
  """Paper, section 5.2: 3 checkerboard and 3 channel couplings, then 4 checkerboard ones at the last scale."""
  counts = {kind: collections.Counter() for kind in (bijectors.AffineCoupling, bijectors.BatchNormalization)}
  for module in flow_named(name).submodules:
    if type(module) in counts:
      _, scale, mask, *_ = module.name.split('_')
      counts[type(module)][int(scale), mask] += 1
      # Each halving of the image leaves a quarter of the positions; half of the channels go with it.
      shape = module.mask.event_shape if isinstance(module, bijectors.AffineCoupling) else module._event_shape
      halvings = int(scale) + (mask == 'channel')
      assert shape == (8 >> halvings, 8 >> halvings, (3 << int(scale)) * (4 if mask == 'channel' else 1))
  assert counts[bijectors.AffineCoupling] == expected
  assert counts[bijectors.BatchNormalization] == (expected if 'between' in name else {})


@each_setting
def test_training_uses_the_statistics_of_the_batch(name):
  """What training computes is what evaluation computes once the running statistics are those of the batch."""
  flow, x = flow_named(name), images(16)
  statistics = flow.non_trainable_variables
  before = [v.numpy() for v in statistics]
  evaluated = flow.log_prob(x)
  trained = flow.log_prob(tf.identity(x), training=True)
  # new = m old + (1 - m) batch
  momentum = 0.9 if name == 'paper' else 0.95
  for variable, old in zip(statistics, before, strict=True):
    variable.assign((variable - momentum * old) / (1 - momentum))
  as_trained = flow.log_prob(tf.identity(x))
  for variable, old in zip(statistics, before, strict=True):
    variable.assign(old)
  assert np.abs(trained - evaluated).max() > 1
  np.testing.assert_allclose(as_trained, trained, rtol=1e-8)


@each_setting
def test_in_evaluation_an_image_does_not_depend_on_its_batch(name):
  flow, x = flow_named(name), images(3)
  alone = flow.log_prob(x[:1])
  beside = flow.log_prob(tf.concat([images(4, seed=1), x[:1]], axis=0))[4:]
  np.testing.assert_allclose(beside, alone, rtol=1e-12)
  in_training = [flow.log_prob(tf.concat([x[:1], x[i:]], axis=0), training=True)[0] for i in (1, 2)]
  assert abs(in_training[0] - in_training[1]) > 1e-3


def scale_and_offset(coupling):
  """The learned scalars of the log-scale."""
  scalars = {v.name.removesuffix(':0').split('/')[-1]: v for v in coupling.trainable_variables if v.shape.rank == 0}
  return scalars['scale'], scalars['offset']


def test_it_has_the_numbers_of_the_papers_code():
  numbers = reference.load('real_nvp')
  keras.utils.set_random_seed(0)
  flow = flows.real_nvp((4, 4, 3), channels=4, blocks=1, architecture='paper', dtype='float64')
  couplings = {m.name: m for m in flow.submodules if isinstance(m, bijectors.AffineCoupling)}
  assert len(couplings) == 10
  statistics = {}
  for name, coupling in couplings.items():
    network = coupling.conditioner.layer
    convolutions, norms = network._convolutions, network._norms
    (of_input, first), *hidden = zip(norms[::2], norms[1::2], strict=True)
    order = [of_input, convolutions[0], first]
    for i, (inside, last) in enumerate(hidden):
      order += [convolutions[2 * i + 1], inside, convolutions[2 * i + 2], last]
    order.append(convolutions[-1])
    weights = [v.value for layer in order for v in layer.trainable_variables]
    reference.assign([*weights, *scale_and_offset(coupling)], numbers[f'weights/{name}'])
    statistics[name] = [v.value for norm in norms for v in norm.non_trainable_variables]
  reference.check(flow, numbers, statistics)


@pytest.mark.parametrize(('argument', 'value'), [('normalization', 'layer'), ('log_scale_bound', 3.0)])
def test_what_does_not_go_with_the_papers_architecture_is_refused(argument, value):
  with pytest.raises(ValueError, match=rf"^`{argument}` must be .* if `architecture` is 'paper'.* Got: {value!r}\.$"):
    flows.real_nvp(SHAPE, architecture='paper', **{argument: value})
  with pytest.raises(ValueError, match=r'^`blocks` must be an integer from 1 to 256\. Got: 0\.$'):
    flows.real_nvp(SHAPE, architecture='paper', blocks=0)


def test_a_new_flow_of_the_paper():
  """Checkerboard couplings start without a scale; networks start with random gains of weight normalisation."""
  flow = flows.real_nvp((4, 4, 3), channels=48, blocks=1, architecture='paper')
  for coupling in (m for m in flow.submodules if isinstance(m, bijectors.AffineCoupling)):
    scale, offset = scale_and_offset(coupling)
    assert (scale.numpy(), offset.numpy()) == (0.0 if 'checkerboard' in coupling.name else 1.0, 0.0)
    # Uniform between -a and a with a variance of 1 / channels.
    gain = coupling.conditioner.layer._convolutions[0].gain.numpy() * np.sqrt(48)
    assert np.abs(gain).max() < np.sqrt(3) and 0.5 < gain.var() < 1.5 and np.abs(gain.mean()) < 0.6
    mask = coupling.mask
    kept, changed = mask.split(tf.ones((1, *mask.event_shape)))
    assert mask.kept_shape == mask.changed_shape == mask.event_shape
    np.testing.assert_array_equal(kept + changed, tf.ones((1, *mask.event_shape)))
  channels = {c.name: c.mask for c in flow.submodules if isinstance(c, bijectors.AffineCoupling)}
  for i, name in enumerate(['scale_0_channel_0', 'scale_0_channel_1', 'scale_0_channel_2']):
    kept, _ = channels[name].split(tf.ones((2, 2, 12)))
    np.testing.assert_array_equal(kept[0, 0], [1 - i % 2] * 6 + [i % 2] * 6)
