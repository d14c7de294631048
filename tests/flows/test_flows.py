"""What must hold for every flow."""

import collections
import functools
import gc
import itertools
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors, flows
from flowgan_tf.bijectors.base import clear_caches
from flowgan_tf.networks import NORMALIZATIONS, KerasModule

tfb = tfp.bijectors

SHAPE = (4, 4, 1)


def nice(**kwargs):
  return flows.nice(SHAPE, hidden_units=6, hidden_layers=1, **kwargs)


def real_nvp(scales=2, **kwargs):
  return flows.real_nvp(SHAPE if scales < 3 else (8, 4, 1), scales=scales, channels=3, blocks=0, **kwargs)


def jet(couplings=4, **kwargs):
  return flows.jet(SHAPE, couplings=couplings, patch_size=2, width=8, hidden_units=6, **kwargs)


# name: (flow, number of couplings)
FLOWS = {
  'nice': (functools.partial(nice, normalization='scalar_batch'), 4),
  'real_nvp 2 scales': (functools.partial(real_nvp), 10),
  'real_nvp 3 scales': (functools.partial(real_nvp, 3, normalization='scalar_batch', batch_norm_between=True), 16),
  'jet mixer': (jet, 4),
  'jet transformer': (functools.partial(jet, conditioner='transformer', coupling='additive'), 4),
}
each_flow = pytest.mark.parametrize('name', FLOWS)


@pytest.fixture(autouse=True)
def seeded_initial_weights():
  keras.utils.set_random_seed(0)


def randomise(flow, seed=0):
  """Moves every weight by N(0, 0.1) and running statistics away from (0, 1)."""
  rng = np.random.default_rng(seed)
  for variable in flow.variables:
    if variable.trainable:
      variable.assign(variable + rng.normal(0.0, 0.1, variable.shape))
    elif 'variance' in variable.name:
      variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    else:
      variable.assign(rng.normal(0.0, 0.2, variable.shape))
  return flow


@functools.cache
def random_flow(name):
  """For tests that change nothing."""
  keras.utils.set_random_seed(0)
  return randomise(FLOWS[name][0]())


def images(flow, *batch_shape, dtype='float32', seed=0):
  rng = np.random.default_rng(seed)
  return tf.constant(rng.uniform(0.05, 0.95, (*batch_shape, *flow.event_shape)), dtype)


@pytest.fixture
def calls(monkeypatch):
  """Counts the calls of each network, by identity."""
  counter = collections.Counter()
  original = KerasModule.__call__

  def counting(self, *args, **kwargs):
    counter[id(self)] += 1
    return original(self, *args, **kwargs)

  monkeypatch.setattr(KerasModule, '__call__', counting)
  return counter


@pytest.mark.parametrize(
  'call',
  [
    lambda flow: flow.log_prob(images(flow, 3)),
    lambda flow: flow.log_prob(images(flow, 3), training=True),
    lambda flow: flow.sample(3, seed=(0, 1)),
    lambda flow: flow.sample(3, seed=(0, 1), training=True),
    lambda flow: flow.experimental_sample_and_log_prob(3, seed=(0, 1)),
  ],
  ids=['log_prob', 'log_prob training', 'sample', 'sample training', 'sample_and_log_prob'],
)
@pytest.mark.parametrize(
  'name, graph', [*[(name, False) for name in FLOWS], ('nice', True), ('real_nvp 2 scales', True)]
)
def test_each_network_is_called_once(name, call, graph, calls):
  flow = random_flow(name)
  networks = {id(module) for module in flow.submodules if isinstance(module, KerasModule)}
  assert len(networks) == FLOWS[name][1]
  if graph:
    tf.function(lambda: call(flow)).get_concrete_function()
  else:
    call(flow)
  assert calls == dict.fromkeys(networks, 1)


def statistics(flow):
  found = [v for v in flow.variables if not v.trainable and v.dtype.is_floating]
  assert found and all(any(word in v.name for word in ('mean', 'variance')) for v in found)
  return found


@pytest.mark.parametrize('name', [name for name in FLOWS if 'jet' not in name])  # which has no batch norm
def test_running_statistics_move_exactly_once_per_training_log_prob(name):
  """old -> m old + (1 - m) batch: whatever the batch, 1 more before is m more after, and m^2 after two updates."""
  flow = randomise(FLOWS[name][0]())
  x = images(flow, 6)
  start = [v.numpy() for v in statistics(flow)]
  flow.log_prob(tf.identity(x))
  flow.sample(2, seed=(0, 0))
  for variable, value in zip(statistics(flow), start, strict=True):
    np.testing.assert_array_equal(variable, value)
  after = []
  for shift in (0.0, 1.0):
    for variable, value in zip(statistics(flow), start, strict=True):
      variable.assign(value + shift)
    flow.log_prob(tf.identity(x), training=True)
    after.append([v.numpy() for v in statistics(flow)])
  for low, high, variable in zip(*after, statistics(flow), strict=True):
    # The bijector between couplings has a momentum of 0.95, as 'batch'; 'scalar_batch' has 0.9.
    momentum = 0.9 if variable.shape.rank == 0 else 0.95
    np.testing.assert_allclose(high - low, momentum, rtol=0, atol=1e-4, err_msg=variable.name)


@pytest.mark.parametrize('name', ['nice', 'real_nvp 2 scales', 'jet mixer'])
def test_log_prob_by_the_formula(name):
  """log p(x) = log p(z) + log|det dz/dx|, with the prior written out."""
  flow = random_flow(name)
  x = images(flow, 5)
  z = flow.encode(tf.identity(x)).numpy().astype(np.float64)
  prior = -z - 2 * np.log1p(np.exp(-z)) if 'real_nvp' not in name else -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
  log_det = np.broadcast_to(flow.bijector.inverse_log_det_jacobian(tf.identity(x), event_ndims=3), 5)
  np.testing.assert_allclose(flow.log_prob(x), prior.sum(axis=(1, 2, 3)) + log_det, rtol=1e-4, atol=1e-4)


@each_flow
def test_a_new_flow_is_the_logit_of_its_prior(name):
  """Zero last layers: log p(x) = sum of log prior(logit x) - log x - log(1 - x)."""
  flow = FLOWS[name][0]()
  x = images(flow, 5).numpy().astype(np.float64)
  logit = np.log(x / (1 - x))
  # BatchNormalization's epsilon keeps a new one a little away from the identity.
  slack = 1e-3 if name == 'real_nvp 3 scales' else 1e-5
  prior = np.log(x) + np.log1p(-x) if 'real_nvp' not in name else -0.5 * logit**2 - 0.5 * np.log(2 * np.pi)
  expected = (prior - np.log(x) - np.log1p(-x)).sum(axis=(1, 2, 3))
  np.testing.assert_allclose(flow.log_prob(tf.constant(x, 'float32')), expected, rtol=slack, atol=50 * slack)


@each_flow
def test_gradients_reach_every_trainable_variable(name):
  flow = random_flow(name)
  x = images(flow, 16)
  with tf.GradientTape(persistent=True) as tape:
    log_prob = tf.reduce_mean(flow.log_prob(x))
    of_samples = tf.reduce_mean(tf.sin(3 * flow.sample(16, seed=(0, 1))))
  for target in (log_prob, of_samples):
    gradients = tape.gradient(target, flow.trainable_variables)
    assert not [v.name for v, g in zip(flow.trainable_variables, gradients, strict=True) if g is None or not np.any(g)]


@pytest.mark.parametrize('name', ['nice', 'real_nvp 2 scales', 'jet mixer', 'jet transformer'])
def test_batches_of_unknown_size(name):
  flow = random_flow(name)
  signature = [tf.TensorSpec([None, *flow.event_shape])]
  log_prob, encode, decode = (
    tf.function(method, input_signature=signature) for method in (flow.log_prob, flow.encode, flow.decode)
  )
  sample = tf.function(lambda n: flow.sample(n, seed=(0, 1)), input_signature=[tf.TensorSpec([], tf.int32)])
  for n in (1, 3):
    x = images(flow, n)
    np.testing.assert_allclose(log_prob(x), flow.log_prob(tf.identity(x)), rtol=1e-5, atol=1e-4)
    z = encode(x)
    np.testing.assert_allclose(z, flow.encode(tf.identity(x)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(decode(z), x, atol=1e-5)
    assert sample(n).shape == (n, *flow.event_shape)


@pytest.mark.parametrize('name', ['nice', 'real_nvp 2 scales', 'jet mixer', 'jet transformer'])
def test_any_number_of_batch_dimensions(name):
  flow = random_flow(name)
  x = images(flow, 2, 3)
  flat = flow.log_prob(tf.reshape(x, (6, *flow.event_shape)))
  together = flow.log_prob(tf.identity(x))
  assert together.shape == (2, 3)
  np.testing.assert_allclose(tf.reshape(together, [6]), flat, rtol=1e-5, atol=1e-5)
  alone = flow.log_prob(x[1, 2])
  assert alone.shape == ()
  np.testing.assert_allclose(alone, flat[5], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(flow.decode(flow.encode(x[0, 1]) + 0.0), x[0, 1], atol=1e-5)
  assert flow.sample(seed=(0, 1)).shape == flow.event_shape
  assert flow.sample((2, 3), seed=(0, 1)).shape == (2, 3, *flow.event_shape)


@pytest.mark.parametrize('name', ['nice', 'real_nvp 2 scales', 'jet mixer'])
def test_a_seed_repeats_samples_and_their_density(name):
  flow = random_flow(name)
  samples, log_prob = flow.experimental_sample_and_log_prob(4, seed=(0, 1))
  np.testing.assert_array_equal(samples, flow.sample(4, seed=(0, 1)))
  assert np.abs(samples - flow.sample(4, seed=(0, 2))).max() > 0.01
  # The inverse starts from float32 images, whose logits are rounded near 0 and 1.
  np.testing.assert_allclose(flow.log_prob(tf.identity(samples)), log_prob, rtol=1e-3, atol=1e-3)
  assert np.all((samples >= -1e-6) & (samples <= 1 + 1e-6))


def saturated(name, dtype):
  """A flow most of whose samples lie where float images end."""
  flow = real_nvp(1, dtype=dtype) if name == 'real_nvp' else {'nice': nice, 'jet': jet}[name](couplings=2, dtype=dtype)
  for variable in flow.variables:
    if variable.name.endswith('/log_scale:0'):
      values = tf.cast(tf.linspace(-8.0, 0.0, 16), dtype)  # Negative towards noise: images are wider.
      variable.assign(tf.reshape(values, variable.shape))
    elif variable.name.endswith('/offset:0'):
      variable.assign(3.0)
  return flow


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('name', ['nice', 'real_nvp', 'jet'])
def test_every_sample_has_a_finite_density(name, dtype):
  """In a SavedModel too: tests/test_saved_model.py."""
  flow = saturated(name, dtype)

  def sample_and_log_prob():
    samples = flow.sample(100, seed=(0, 1))
    return samples, flow.log_prob(samples + 0.0)  # Not the noise that TFP's cache keeps for `samples`.

  for run in (lambda function: function, lambda function: tf.function(function, jit_compile=True)):
    samples, log_prob = run(sample_and_log_prob)()
    assert np.mean((samples <= 0) | (samples >= 1)) > 0.05
    assert log_prob.dtype == dtype and np.all(np.isfinite(log_prob))
  assert np.all(np.isfinite(flow.encode(tf.identity(samples))))
  assert np.all(np.isfinite(flow.experimental_sample_and_log_prob(100, seed=(0, 1))[1]))


@pytest.mark.parametrize('name', ['nice', 'real_nvp', 'jet'])
def test_images_outside_of_the_interval_have_no_density_and_no_nan(name):
  flow = randomise(real_nvp(1)) if name == 'real_nvp' else random_flow({'nice': 'nice', 'jet': 'jet mixer'}[name])
  # One pixel of an image is enough.
  values = tf.reshape(tf.constant([-np.inf, -1e9, -1e-3, 0.0, 1.0, 1.001, 1e9, np.inf]), (8, 1, 1, 1))
  x = tf.where(tf.reshape(tf.one_hot(3, 16), SHAPE) > 0, values, 0.5)
  outside = [True, True, True, False, False, True, True, True]
  for log_prob in (
    flow.log_prob(x),
    tf.function(flow.log_prob)(x),
    flow.unnormalized_log_prob(tf.identity(x)),
    tf.math.log(flow.prob(tf.identity(x))),
  ):
    np.testing.assert_array_equal(np.isneginf(log_prob), outside)
    assert np.all(np.isfinite(log_prob[3:5]))
  assert np.all(np.isfinite(flow.encode(tf.identity(x))))
  with tf.GradientTape() as tape:
    log_prob = flow.log_prob(x)
  gradients = tape.gradient(log_prob, flow.trainable_variables)
  assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
  images_with_a_nan = tf.where(tf.reshape(tf.one_hot(3, 16), SHAPE) > 0, np.nan, tf.fill((1, *SHAPE), 0.5))
  assert np.isnan(flow.log_prob(images_with_a_nan))


NORMS = [
  *[(f'nice {norm}', functools.partial(nice, normalization=norm)) for norm in NORMALIZATIONS],
  *[(f'real_nvp {norm}', functools.partial(real_nvp, normalization=norm)) for norm in NORMALIZATIONS],
  ('jet mixer', jet),
  ('jet transformer', functools.partial(jet, conditioner='transformer')),
  ('real_nvp batch between', functools.partial(real_nvp, batch_norm_between=True, normalization='none')),
]


@pytest.mark.parametrize('name, build', NORMS, ids=[name for name, _ in NORMS])
def test_in_evaluation_the_density_of_an_image_does_not_depend_on_the_batch(name, build):
  flow = randomise(build())
  x = images(flow, 5)
  others = tf.concat([x[:1], 0.5 * x[1:]], axis=0)
  alone = flow.log_prob(x[:1])
  np.testing.assert_allclose(flow.log_prob(x)[:1], alone, rtol=1e-5, atol=1e-4)
  np.testing.assert_allclose(flow.log_prob(others)[:1], alone, rtol=1e-5, atol=1e-4)
  in_training = flow.log_prob(tf.identity(x), training=True)
  if 'batch' in name:
    assert np.abs(in_training - flow.log_prob(others, training=True))[0] > 1e-3
  else:
    np.testing.assert_allclose(in_training[:1], alone, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('policy', ['mixed_bfloat16', 'mixed_float16'])
@pytest.mark.parametrize(
  'build',
  [
    functools.partial(nice, normalization='scalar_batch'),
    functools.partial(real_nvp, normalization='scalar_batch'),
    jet,
    functools.partial(jet, conditioner='transformer'),
  ],
  ids=['nice', 'real_nvp', 'jet mixer', 'jet transformer'],
)
def test_half_precision_networks_leave_densities_and_inversion_in_single(build, policy):
  flow = randomise(build(dtype=policy))
  computes = {layer.compute_dtype for m in flow.submodules if isinstance(m, KerasModule) for layer in leaves(m.layer)}
  assert computes == {policy.removeprefix('mixed_')}
  x = images(flow, 8)
  assert flow.log_prob(x).dtype == flow.log_prob(x, training=True).dtype == flow.dtype == tf.float32
  assert flow.bijector.inverse_log_det_jacobian(x, event_ndims=3).dtype == tf.float32
  assert {v.dtype for v in flow.trainable_variables} == {tf.float32}
  z = flow.encode(x)
  assert z.dtype == tf.float32
  np.testing.assert_allclose(flow.decode(tf.identity(z)), x, rtol=0, atol=1e-5)


def leaves(layer):
  """The layers with numbers of their own; a container has a dtype, but computes nothing."""
  inner = layer._flatten_layers(include_self=False, recursive=False)
  return [layer] if not inner else [leaf for child in inner for leaf in leaves(child) if leaf.weights]


def test_double_precision_is_double_throughout():
  for flow in (
    nice(dtype='float64'),
    real_nvp(dtype='float64', batch_norm_between=True),
    jet(dtype='float64'),
    jet(dtype='float64', conditioner='transformer'),
  ):
    networks = [m for m in flow.submodules if isinstance(m, KerasModule)]
    assert {v.dtype for network in networks for v in network.trainable_variables} == {tf.float64}
    assert flow.log_prob(images(flow, 2, dtype='float64')).dtype == flow.dtype == tf.float64


@pytest.mark.parametrize('name', ['nice', 'real_nvp 3 scales', 'jet mixer', 'jet transformer'])
def test_checkpoint_round_trip_is_exact(name, tmp_path):
  first, second = randomise(FLOWS[name][0](), seed=1), randomise(FLOWS[name][0](), seed=2)
  x = images(first, 4)
  first.log_prob(images(first, 8, seed=5), training=True)
  path = tf.train.Checkpoint(flow=first).write(str(tmp_path / 'checkpoint'))
  expected = first.log_prob(tf.identity(x))
  assert np.abs(second.log_prob(tf.identity(x)) - expected).max() > 0.1
  status = tf.train.Checkpoint(flow=second).read(path)
  status.assert_consumed()
  status.assert_existing_objects_matched()
  np.testing.assert_array_equal(second.log_prob(tf.identity(x)), expected)
  for a, b in zip(first.variables, second.variables, strict=True):
    np.testing.assert_array_equal(a, b)


@each_flow
def test_a_flow_inside_another_module_shows_its_variables(name):
  class Model(tf.Module):
    def __init__(self, flow):
      super().__init__()
      self.generator = flow

  flow = random_flow(name)
  model = Model(flow)
  assert {id(v) for v in model.trainable_variables} == {id(v) for v in flow.trainable_variables} != set()
  assert (
    len(model.trainable_variables) == len(flow.trainable_variables) == len({id(v) for v in model.trainable_variables})
  )
  assert len(model.variables) == len(flow.variables)


def test_two_flows_on_the_same_noise_do_not_share_results():
  first, second = (randomise(nice(), seed) for seed in (1, 2))
  z = tf.random.stateless_normal((3, *SHAPE), seed=(0, 0))
  a = first.decode(z)
  b = second.decode(z)
  np.testing.assert_allclose(b, second.decode(tf.identity(z)), rtol=1e-6)
  assert np.abs(a - b).max() > 0.01


def test_a_flow_is_a_distribution():
  flow = random_flow('nice')
  assert isinstance(flow, tfp.distributions.Distribution)
  assert flow.event_shape == SHAPE and flow.batch_shape == ()
  copy = flow.copy()
  x = images(flow, 2)
  np.testing.assert_array_equal(copy.log_prob(tf.identity(x)), flow.log_prob(tf.identity(x)))
  assert len(copy.trainable_variables) == len(flow.trainable_variables)


@pytest.mark.parametrize('flow, count', [('nice', 4), ('real_nvp 2 scales', 10)])
def test_layout(flow, count):
  """Alternating masks: the kept parts of neighbouring couplings of one kind cover the event."""
  couplings = sorted(
    (m for m in random_flow(flow).submodules if isinstance(m, bijectors.AdditiveCoupling | bijectors.AffineCoupling)),
    key=lambda coupling: coupling.name,
  )
  assert len(couplings) == count
  for first, second in itertools.pairwise(couplings):
    if first.name[:-1] == second.name[:-1]:
      ones = np.zeros(first.mask.event_shape)
      for mask in (first.mask, second.mask):
        kept, changed = mask.split(tf.ones(mask.event_shape))
        ones = ones + mask.merge(kept, tf.zeros_like(changed)).numpy()
      np.testing.assert_array_equal(ones, 1)


@pytest.mark.parametrize('name', FLOWS)
def test_graphs_and_flows_are_let_go_once_caches_are_cleared(name):
  def traced():
    flow = FLOWS[name][0]()
    shape = flow.event_shape
    concrete = tf.function(flow.log_prob).get_concrete_function(tf.TensorSpec((5, *shape)))
    return weakref.ref(concrete.graph), weakref.ref(flow.trainable_variables[0])

  references = traced()
  keras.backend.clear_session()
  clear_caches()
  gc.collect()
  assert [reference() for reference in references] == [None, None]
