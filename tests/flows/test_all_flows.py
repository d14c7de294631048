"""What must hold for every flow."""

import collections
import copy
import functools
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import bijectors, data, flows
from flowgan_tf.bijectors import clearing_caches
from flowgan_tf.metrics import bits_per_dim
from flowgan_tf.networks import NORMALIZATIONS, KerasModule
from tests.bijectors.test_bijectors_all import log_det_by_autodiff

SHAPE = (4, 4, 1)


def nice(shape=SHAPE, **kwargs):
  return flows.nice(shape, **{'couplings': 2, 'hidden_units': 6, 'hidden_layers': 1} | kwargs)


def real_nvp(shape=SHAPE, **kwargs):
  return flows.real_nvp(shape, **{'channels': 3, 'blocks': 0} | kwargs)


def jet(shape=SHAPE, **kwargs):
  return flows.jet(shape, **{'couplings': 2, 'patch_size': 2, 'width': 4, 'hidden_units': 6} | kwargs)


NETWORKS = {'histogram_networks': 2, 'histogram_channels': 4, 'histogram_blocks': 1}

# name: (flow, number of networks)
FLOWS = {
  'nice': (functools.partial(nice, normalization='scalar_batch'), 2),
  'real_nvp 1 scale': (functools.partial(real_nvp, scales=1, batch_norm_between=True), 4),
  'real_nvp 2 scales': (functools.partial(real_nvp, normalization='scalar_batch'), 10),
  'real_nvp paper': (functools.partial(real_nvp, scales=1, architecture='paper', blocks=1), 4),
  'jet mixer': (jet, 2),
  'jet transformer': (
    functools.partial(jet, conditioner='transformer', coupling='additive', histogram_bins=5, **NETWORKS),
    4,
  ),
}
not_the_papers = pytest.mark.parametrize('name', [name for name in FLOWS if 'paper' not in name])
one_of_each_kind = pytest.mark.parametrize('name', ['nice', 'real_nvp 1 scale', 'jet mixer'])


def randomise(flow, seed=0, scale=0.1):
  """Moves every weight by N(0, scale) and running statistics away from (0, 1)."""
  rng = np.random.default_rng(seed)
  for variable in flow.variables:
    if variable.trainable:
      variable.assign(variable + rng.normal(0.0, scale, variable.shape))
    elif 'histograms' in variable.name:
      variable.assign(rng.dirichlet(np.ones(variable.shape[-1]), variable.shape[:-1]))
    elif 'variance' in variable.name:
      variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    else:
      variable.assign(rng.normal(0.0, 0.2, variable.shape))
  return flow


@functools.cache
def random_flow(name, dtype='float32'):
  """For tests that change nothing."""
  keras.utils.set_random_seed(0)
  return randomise(FLOWS[name][0](dtype=dtype))


def images(flow, *batch_shape, seed=0):
  rng = np.random.default_rng(seed)
  return tf.constant(rng.uniform(0.05, 0.95, (*batch_shape, *flow.event_shape)), flow.dtype)


@pytest.mark.parametrize(
  'name, graph', [('nice', True), ('real_nvp 1 scale', False), ('real_nvp 2 scales', False), ('jet transformer', False)]
)
def test_each_network_is_called_once(name, graph, monkeypatch):
  flow, calls, original = random_flow(name), collections.Counter(), KerasModule.__call__

  def counting(self, *args, **kwargs):
    calls[id(self)] += 1
    return original(self, *args, **kwargs)

  monkeypatch.setattr(KerasModule, '__call__', counting)
  networks = {id(module) for module in flow.submodules if isinstance(module, KerasModule)}
  assert len(networks) == FLOWS[name][1]
  for call in (
    lambda: flow.log_prob(images(flow, 3), training=graph),
    lambda: flow.sample(3, seed=(0, 1), training=graph),
    lambda: flow.experimental_sample_and_log_prob(3, seed=(0, 1)),
  ):
    calls.clear()
    tf.function(call).get_concrete_function() if graph else call()
    assert calls == dict.fromkeys(networks, 1)


@not_the_papers  # test_real_nvp.py has its numbers.
def test_round_trip_and_the_jacobian(name):
  flow = random_flow(name, 'float64')
  x = images(flow, 1)
  z = tf.identity(flow.encode(x))
  np.testing.assert_allclose(flow.decode(z), x, rtol=0, atol=1e-11)
  inverse, forward = log_det_by_autodiff(flow.encode, x), log_det_by_autodiff(flow.decode, z)
  np.testing.assert_allclose(flow.bijector.inverse_log_det_jacobian(tf.identity(x), event_ndims=3), inverse, rtol=1e-8)
  np.testing.assert_allclose(flow.bijector.forward_log_det_jacobian(tf.identity(z), event_ndims=3), forward, rtol=1e-8)
  # log p(x) = log p(z) + log|det dz/dx|, with the prior written out.
  z = z.numpy()
  prior = -0.5 * z**2 - 0.5 * np.log(2 * np.pi) if 'real_nvp' in name else -z - 2 * np.log1p(np.exp(-z))
  np.testing.assert_allclose(flow.log_prob(x), prior.sum() + inverse, rtol=1e-8)


@not_the_papers  # Its last layers start at random.
def test_a_new_flow_is_the_logit_of_its_prior(name):
  """Last layers that are zero: log p(x) = sum of log prior(logit x) - log x - log(1 - x)."""
  flow = FLOWS[name][0](dtype='float64')
  x = images(flow, 5).numpy()
  logit = np.log(x / (1 - x))
  # BatchNormalization's epsilon keeps a new one a little away from the identity.
  slack = 1e-3 if name == 'real_nvp 1 scale' else 1e-5
  prior = -0.5 * logit**2 - 0.5 * np.log(2 * np.pi) if 'real_nvp' in name else np.log(x) + np.log1p(-x)
  expected = (prior - np.log(x) - np.log1p(-x)).sum(axis=(1, 2, 3))
  np.testing.assert_allclose(flow.log_prob(x), expected, rtol=slack, atol=50 * slack)


@pytest.mark.parametrize('name', ['nice', 'real_nvp 1 scale', 'real_nvp paper'])
def test_running_statistics_move_exactly_once_per_training_log_prob(name):
  """old -> m old + (1 - m) batch: whatever the batch, 1 more before is m more after, and m^2 after two updates."""
  flow = randomise(FLOWS[name][0]())
  x, statistics = images(flow, 6), flow.non_trainable_variables
  start = [v.numpy() for v in statistics]
  flow.log_prob(tf.identity(x))
  flow.sample(2, seed=(0, 0))
  for variable, value in zip(statistics, start, strict=True):
    np.testing.assert_array_equal(variable, value)
  after = []
  for shift in (0.0, 1.0):
    for variable, value in zip(statistics, start, strict=True):
      variable.assign(value + shift)
    flow.log_prob(tf.identity(x), training=True)
    after.append([v.numpy() for v in statistics])
  for low, high, variable in zip(*after, statistics, strict=True):
    momentum = 0.9 if variable.shape.rank == 0 or name == 'real_nvp paper' else 0.95
    np.testing.assert_allclose(high - low, momentum, rtol=0, atol=1e-4, err_msg=variable.name)


NORMS = {
  **{f'nice {norm}': functools.partial(nice, normalization=norm) for norm in NORMALIZATIONS},
  'real_nvp batch': functools.partial(real_nvp, scales=1, normalization='batch'),
  'real_nvp batch between': functools.partial(real_nvp, scales=1, batch_norm_between=True, normalization='none'),
  'jet': jet,
}


@pytest.mark.parametrize('name', NORMS)
def test_only_in_training_the_density_of_an_image_depends_on_the_batch(name):
  flow = randomise(NORMS[name]())
  x = images(flow, 5)
  others = tf.concat([x[:1], 0.5 * x[1:]], axis=0)
  alone = flow.log_prob(x[:1])
  np.testing.assert_allclose(flow.log_prob(others)[:1], alone, rtol=1e-5, atol=1e-4)
  in_training = [flow.log_prob(tf.identity(batch), training=True)[0] for batch in (x, others)]
  if 'batch' in name:
    assert abs(in_training[0] - in_training[1]) > 1e-3
  else:
    np.testing.assert_allclose(in_training, [alone[0]] * 2, rtol=1e-5, atol=1e-4)


@not_the_papers  # Units of its networks are dead from the start.
def test_gradients_reach_every_trainable_variable(name):
  flow = random_flow(name)
  x = images(flow, 16)
  with tf.GradientTape(persistent=True) as tape:
    log_prob = tf.reduce_mean(flow.log_prob(x))
    of_samples = tf.reduce_mean(tf.sin(3 * flow.sample(16, seed=(0, 1))))
  for target in (log_prob, of_samples):
    gradients = tape.gradient(target, flow.trainable_variables)
    assert not [v.name for v, g in zip(flow.trainable_variables, gradients, strict=True) if g is None or not np.any(g)]


@pytest.mark.parametrize('name', FLOWS)
def test_the_gradient_of_training_is_that_of_its_density(name):
  """Along one random direction of all weights, by a central difference."""
  flow = random_flow(name).with_dtype('float64')
  x = tf.cast(images(flow, 6), tf.float64)
  variables = flow.trainable_variables
  directions = [tf.random.stateless_normal(v.shape, (0, i), dtype=v.dtype) for i, v in enumerate(variables)]
  with tf.GradientTape() as tape:
    log_prob = tf.reduce_mean(flow.log_prob(tf.identity(x), training=True))
  gradients = map(tf.convert_to_tensor, tape.gradient(log_prob, variables))
  values = []
  for move in (1e-6, -2e-6):
    for variable, direction in zip(variables, directions, strict=True):
      variable.assign_add(move * direction)
    values.append(tf.reduce_mean(flow.log_prob(tf.identity(x), training=True)))
  slope = sum(tf.reduce_sum(g * d) for g, d in zip(gradients, directions, strict=True))
  np.testing.assert_allclose(slope, (values[0] - values[1]) / 2e-6, rtol=1e-4)


@one_of_each_kind
def test_batches_of_any_shape_in_graphs_and_seeds(name):
  flow = random_flow(name)
  specs = [tf.TensorSpec([None] * 4), *[tf.TensorSpec([None, *flow.event_shape])] * 2]
  functions = zip((flow.log_prob, flow.encode, flow.decode), specs, strict=True)
  log_prob, encode, decode = (tf.function(function, input_signature=[spec]) for function, spec in functions)
  sample = tf.function(lambda n: flow.sample(n, seed=(0, 1)), input_signature=[tf.TensorSpec([], tf.int32)])
  x = images(flow, 2, 3)
  together = flow.log_prob(x)
  assert together.shape == (2, 3)
  np.testing.assert_allclose(log_prob(x[1]), together[1], rtol=1e-5, atol=1e-4)
  np.testing.assert_allclose(flow.log_prob(x[1, 2]), together[1, 2], rtol=1e-5, atol=1e-4)
  np.testing.assert_allclose(encode(x[0]), flow.encode(x[0]), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(decode(encode(x[0])), x[0], atol=1e-5)
  assert flow.sample(seed=(0, 1)).shape == flow.event_shape
  assert flow.log_prob(x[0, :0]).shape == (0,) and flow.sample(0, seed=(0, 1)).shape == (0, *flow.event_shape)
  samples, log_prob = flow.experimental_sample_and_log_prob((2, 3), seed=(0, 1))
  assert samples.shape == (2, 3, *flow.event_shape) and np.all((samples >= -1e-6) & (samples <= 1 + 1e-6))
  # The inverse starts from float32 images, whose logits are rounded near 0 and 1.
  np.testing.assert_allclose(flow.log_prob(tf.identity(samples)), log_prob, rtol=1e-3, atol=1e-3)
  np.testing.assert_allclose(sample(3), flow.sample(3, seed=(0, 1)), atol=1e-5)
  np.testing.assert_array_equal(samples, flow.sample((2, 3), seed=(0, 1)))
  assert np.abs(samples - flow.sample((2, 3), seed=(0, 2))).max() > 0.01


def saturated(build, dtype):
  """A flow most of whose samples lie where float images end."""
  flow = build(dtype=dtype)
  for variable in flow.variables:
    if variable.name.endswith('/log_scale:0'):
      values = tf.cast(tf.linspace(-8.0, 0.0, 16), dtype)  # Negative towards noise: images are wider.
      variable.assign(tf.reshape(values, variable.shape))
    elif variable.name.endswith('/offset:0'):
      variable.assign(3.0)
  return flow


@pytest.mark.parametrize('dtype', ['float32', pytest.param('float64', marks=pytest.mark.slow)])
@pytest.mark.parametrize('build', [nice, functools.partial(real_nvp, scales=1), jet], ids=['nice', 'real_nvp', 'jet'])
@pytest.mark.parametrize('jit', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_sample_has_a_finite_density(build, dtype, jit):
  flow = saturated(build, dtype)

  def sample_and_log_prob():
    samples = flow.sample(100, seed=(0, 1))
    return samples, flow.log_prob(samples + 0.0)  # Not the noise that TFP's cache keeps for `samples`.

  samples, log_prob = (tf.function(sample_and_log_prob, jit_compile=True) if jit else sample_and_log_prob)()
  assert np.mean((samples <= 0) | (samples >= 1)) > 0.05
  assert log_prob.dtype == dtype and np.all(np.isfinite(log_prob))
  assert np.all(np.isfinite(flow.encode(tf.identity(samples))))
  assert np.all(np.isfinite(flow.experimental_sample_and_log_prob(100, seed=(0, 1))[1]))


@one_of_each_kind
def test_images_outside_of_the_interval_have_no_density_and_no_nan(name):
  flow = random_flow(name)
  # One pixel of an image is enough.
  values = tf.reshape(tf.constant([-np.inf, -1e9, -1e-3, 0.0, 1.0, 1.001, 1e9, np.inf]), (8, 1, 1, 1))
  x = tf.where(tf.reshape(tf.one_hot(3, 16), SHAPE) > 0, values, 0.5)
  outside = [True, True, True, False, False, True, True, True]
  for log_prob in (flow.log_prob(x), tf.function(flow.log_prob)(x)):
    np.testing.assert_array_equal(np.isneginf(log_prob), outside)
    assert np.all(np.isfinite(log_prob[3:5]))
  assert np.all(np.isfinite(flow.encode(tf.identity(x))))
  with tf.GradientTape() as tape:
    log_prob = flow.log_prob(x)
  gradients = tape.gradient(log_prob, flow.trainable_variables)
  assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
  images_with_a_nan = tf.where(tf.reshape(tf.one_hot(3, 16), SHAPE) > 0, np.nan, tf.fill((1, *SHAPE), 0.5))
  assert np.isnan(flow.log_prob(images_with_a_nan))


PRECISE = {
  'nice': functools.partial(nice, hidden_units=64, hidden_layers=2, normalization='layer'),
  'real_nvp': functools.partial(real_nvp, scales=1, channels=4, blocks=1, batch_norm_between=True, alpha=0.05),
  'jet mixer': functools.partial(jet, width=16, hidden_units=16, alpha=0.05),
  'jet transformer': functools.partial(jet, conditioner='transformer', width=16, hidden_units=16, alpha=0.05),
}


@functools.cache
def precise_flow_and_images(name):
  """A flow whose shifts and log-scales are of order 0.3, and smooth shades with noise, as in photographs."""
  keras.utils.set_random_seed(0)
  flow, rng = PRECISE[name]((8, 8, 3)), np.random.default_rng(0)
  for variable in flow.variables:
    if not variable.trainable and 'variance' in variable.name:
      variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    else:
      scale = 0.3 / np.sqrt(np.prod(variable.shape[:-1])) if variable.shape.rank > 1 else 0.15
      variable.assign(variable + rng.normal(0.0, scale, variable.shape))
  row, column = np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 8), indexing='ij')
  a, b, c = rng.normal(0.0, 50.0, (3, 64, 1, 1, 3))
  levels = 128 + a * row[..., np.newaxis] + b * column[..., np.newaxis] + c + rng.normal(0.0, 8.0, (64, 8, 8, 3))
  return flow, data.dequantize(levels.clip(0, 255).astype(np.uint8), 256, seed=0)


@pytest.mark.parametrize(
  ('name', 'policy'),
  [
    *((name, 'mixed_float16') for name in PRECISE),
    ('nice', 'float64'),  # The Jacobians of all flows are tested in float64.
    *(pytest.param(name, 'mixed_bfloat16', marks=pytest.mark.slow) for name in PRECISE),
  ],
)
def test_other_precisions_change_the_likelihood_little(name, policy):
  single, shades = precise_flow_and_images(name)
  flow = single.with_dtype(policy)
  wide = tf.float64 if policy == 'float64' else tf.float32
  networks = [m for m in flow.submodules if isinstance(m, KerasModule)]
  # A container has a dtype, but computes nothing.
  leaves = [part for n in networks for part in n.layer._flatten_layers() if part.weights and not part._layers]
  assert {leaf.compute_dtype for leaf in leaves} == {policy.removeprefix('mixed_')}
  assert {v.dtype for v in flow.variables} == {flow.dtype} == {wide}
  x, of_single = tf.constant(shades, wide), single.log_prob(shades)
  log_prob, z = flow.log_prob(x), flow.encode(x)
  assert {log_prob.dtype, z.dtype} == {wide}
  errors = np.abs(flow.decode(tf.identity(z)) - shades)
  if policy == 'float64':
    np.testing.assert_allclose(of_single, log_prob, rtol=1e-4, atol=1e-4)
    assert errors.max() < 1e-9
    assert np.abs(single.decode(tf.identity(single.encode(shades))) - shades).max() < 1e-4
    return
  assert np.any(log_prob != of_single)
  assert abs(np.diff([bits_per_dim(-np.mean(each), (8, 8, 3), 256) for each in (of_single, log_prob)])) < 0.01
  # Where a rounding error of the noise crosses a step of half precision, the way back has another shift. That is rare,
  # and less than half a grey level, or two grey levels where a network mixes the whole image.
  assert np.quantile(errors, 0.9) < 1e-5 and errors.max() < (1 / 128 if 'jet' in name else 1 / 512)


@pytest.mark.parametrize('name', ['nice', 'real_nvp 1 scale', 'jet transformer'])
def test_checkpoints_and_copies_are_exact(name, tmp_path):
  flow = randomise(FLOWS[name][0]())
  x = images(flow, 4)
  expected = flow.log_prob(tf.identity(x))
  copied, wide = copy.deepcopy(flow), flow.copy(name='other').with_dtype('float64')
  np.testing.assert_array_equal(copied.log_prob(tf.identity(x)), expected)
  np.testing.assert_allclose(wide.log_prob(tf.cast(x, tf.float64)), expected, rtol=1e-4, atol=1e-4)
  assert wide.name == 'other' and copied._build is flow._build
  assert not {id(v) for v in flow.variables} & {id(v) for v in (*copied.variables, *wide.variables)}
  randomise(copied, seed=2)
  assert np.abs(copied.log_prob(tf.identity(x)) - expected).max() > 0.1
  tf.train.Checkpoint(flow=copied).read(tf.train.Checkpoint(flow=flow).write(str(tmp_path / 'flow'))).assert_consumed()
  np.testing.assert_array_equal(copied.log_prob(tf.identity(x)), expected)
  module = tf.Module()
  module.generator = flow
  assert [id(v) for v in module.trainable_variables] == [id(v) for v in flow.trainable_variables]
  assert len(module.variables) == len({id(v) for v in module.variables}) == len(flow.variables)


@pytest.mark.parametrize(
  'name', ['nice', *(pytest.param(name, marks=pytest.mark.slow) for name in ('real_nvp 1 scale', 'jet transformer'))]
)
def test_graphs_and_flows_are_let_go_once_caches_are_cleared(name):
  def traced():
    flow = FLOWS[name][0]()
    concrete = tf.function(flow.log_prob).get_concrete_function(tf.TensorSpec((5, *flow.event_shape)))
    return weakref.ref(concrete.graph), weakref.ref(flow.trainable_variables[0])

  with clearing_caches():
    references = traced()
  keras.backend.clear_session()
  gc.collect()
  assert [reference() for reference in references] == [None, None]


@pytest.mark.parametrize('name', ['nice', 'real_nvp', 'jet'])
def test_the_density_of_two_pixels_integrates_to_1_and_samples_follow_it(name):
  """Over the unit square, which is all that alpha = 1e-7 leaves, and over its quarters."""
  build = {
    'nice': functools.partial(nice, couplings=4, normalization='none'),
    'real_nvp': functools.partial(real_nvp, scales=1, channels=4, blocks=1, batch_norm_between=True),
    'jet': functools.partial(jet, couplings=4, patch_size=1),
  }[name]
  flow = randomise(build((1, 2, 1), dtype='float64'), scale=0.3)
  for variable in flow.variables:
    if variable.name.endswith('log_scale:0'):
      # Towards noise they stretch: without that some mass lies beyond the grid of logits.
      variable.assign(np.reshape([0.5, 0.7], variable.shape))
  x = flow.sample(10_000, seed=(0, 1)).numpy().reshape(-1, 2)
  assert np.abs(np.corrcoef(x.T)[0, 1]) > 0.01
  points = 1 / (1 + np.exp(-0.15 * (np.arange(200) - 99.5)))
  grid = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 2)
  mass = np.exp(flow.log_prob(tf.constant(grid.reshape(-1, 1, 2, 1)))) * np.prod(0.15 * grid * (1 - grid), axis=1)
  assert mass.sum() == pytest.approx(1.0, abs=1e-2)
  for quarter in ((True, True), (True, False), (False, True), (False, False)):
    share, of_density = (np.all((p < 0.5) == quarter, axis=1) for p in (x, grid))
    # Four standard deviations of the counts.
    assert share.mean() == pytest.approx(mass[of_density].sum(), abs=4 * np.sqrt(0.25 / 10_000))


def kept(coupling):
  """Ones where a coupling keeps the event."""
  first, second = coupling.mask.split(tf.ones(coupling.mask.event_shape))
  return coupling.mask.merge(first, tf.zeros_like(second)).numpy()


def test_neighbouring_couplings_of_one_kind_keep_what_the_other_changes():
  couplings = (m for m in random_flow('real_nvp 2 scales').submodules if isinstance(m, bijectors.AffineCoupling))
  masks = {coupling.name: kept(coupling) for coupling in couplings}
  for name, mask in masks.items():
    prefix, _, number = name.rpartition('_')
    if number != '0':
      np.testing.assert_array_equal(masks[f'{prefix}_{int(number) - 1}'] + mask, 1)
