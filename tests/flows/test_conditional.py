"""Flows p(x | c), given labels, vectors or images."""

import copy
import functools
import re

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors, flows
from flowgan_tf.networks import dense_conditioner
from tests.bijectors.test_bijectors_all import log_det_by_autodiff
from tests.flows.test_all_flows import jet, nice, randomise, real_nvp

tfb, tfd = tfp.bijectors, tfp.distributions

SHAPE = (4, 4, 1)
KINDS = {
  'label': {'classes': 3},
  'vector': {'condition_shape': (2,)},
  'image': {'condition_shape': (2, 2, 2)},
  'label of the prior': {'classes': 3, 'components': 6, 'condition_networks': False},
}
BUILDERS = {'nice': nice, 'jet': jet, 'real_nvp': functools.partial(real_nvp, scales=1, blocks=1)}
# What differs between the kinds is how a condition is checked and broadcast; labels take all paths of the others.
_SLOW = {'marks': pytest.mark.slow}
each_kind = pytest.mark.parametrize(
  'kind', [kind if kind == 'label' else pytest.param(kind, **_SLOW) for kind in KINDS]
)
with_networks = pytest.mark.parametrize(
  'kind', ['label', pytest.param('vector', **_SLOW), pytest.param('image', **_SLOW)]
)


@functools.cache
def random_flow(kind, builder='nice', shape=SHAPE):
  """For tests that change nothing: a flow in float64 whose classes have unequal probabilities."""
  keras.utils.set_random_seed(0)
  flow = randomise(BUILDERS[builder](shape, dtype='float64', **KINDS[kind]), scale=0.3)
  if flow.classes:
    flow.class_probs.assign([0.5, 0.3, 0.2])
  return flow


def images(*batch_shape, shape=SHAPE):
  return tf.constant(np.random.default_rng(0).uniform(0.05, 0.95, (*batch_shape, *shape)))


def conditions(flow, *batch_shape):
  rng = np.random.default_rng(1)
  if flow.classes:
    return tf.constant(rng.integers(0, flow.classes, batch_shape), tf.int32)
  return tf.constant(rng.normal(size=(*batch_shape, *flow.condition_shape)))


@each_kind
def test_the_distribution_given_a_condition(kind):
  flow, x = random_flow(kind), images(4)
  c = conditions(flow, 4)
  expected = [flow.log_prob(x[i], condition=c[i]).numpy() for i in range(4)]
  assert np.ptp(expected) > 0.1
  given = flow.given(c)
  assert given.batch_shape == (4,) and given.event_shape == SHAPE and given.dtype == tf.float64
  assert flow.given(c[0]).batch_shape == () and flow.given(c[0]).name == f'{flow.name}_given'
  for log_prob in (given.log_prob(x), flow.log_prob(x, condition=c), tf.math.log(given.prob(x))):
    np.testing.assert_allclose(log_prob, expected, rtol=1e-12)
  np.testing.assert_allclose(given[1:3].log_prob(x[1:3]), expected[1:3], rtol=1e-12)
  z = given.encode(x)
  np.testing.assert_allclose(z[1], flow.encode(x[1], condition=c[1]), rtol=1e-12)
  np.testing.assert_allclose(given.decode(z + 0.0), x, atol=1e-12)
  samples, log_prob = given.experimental_sample_and_log_prob((3, 2), seed=(0, 1))
  assert samples.shape == (3, 2, 4, *SHAPE)
  np.testing.assert_allclose(given.log_prob(samples + 0.0), log_prob, rtol=1e-9)
  np.testing.assert_array_equal(given.sample((3, 2), seed=(0, 1)), samples)
  assert len(given.trainable_variables) == len(flow.trainable_variables)
  # A function of batches takes images and conditions; alone, images of a flow with classes have the density p(x).
  log_prob = tf.function(flow.on_batches(lambda bound, values: bound.log_prob(values)))
  np.testing.assert_allclose(log_prob(x, c), expected, rtol=1e-12)
  if flow.classes:
    np.testing.assert_allclose(log_prob(x), flow.log_prob(x), rtol=1e-12)


@pytest.mark.parametrize('kind', ['label', pytest.param('label of the prior', **_SLOW)])
def test_images_are_checked_once_on_the_way_to_their_density(kind, monkeypatch):
  flow, x, checked = random_flow(kind), images(2), []
  monkeypatch.setattr('flowgan_tf.flows.flow.check_events', lambda *args, **_: checked.append(args))
  for call in (
    flow.log_prob,
    functools.partial(flow.log_prob, condition=[0, 2]),
    flow.class_log_probs,
    flow.given([0, 2]).log_prob,
    flow.given([0, 2]).prob,
    flow.given([0, 2]).unnormalized_log_prob,
  ):
    checked.clear()
    call(x)
    assert [name for name, *_ in checked] == ['value']


@pytest.mark.parametrize('kind', ['label', 'vector'])
def test_the_jacobian_of_the_map_from_unconstrained_numbers(kind):
  """Which TFP uses to fit and to sample posteriors."""
  flow, x = random_flow(kind), images(1)
  c = conditions(flow, 1)
  to_images = flow.given(c[0]).experimental_default_event_space_bijector()
  np.testing.assert_allclose(to_images.forward(to_images.inverse(x) + 0.0), x, atol=1e-12)
  expected = log_det_by_autodiff(lambda events: flow.encode(events, condition=c[0]), x)
  np.testing.assert_allclose(to_images.inverse_log_det_jacobian(x + 0.0, event_ndims=3), expected, rtol=1e-9)


@pytest.mark.parametrize(
  ('builder', 'kind'), [('nice', 'label'), ('jet', 'vector'), pytest.param('real_nvp', 'image', **_SLOW)]
)
def test_the_jacobian_of_each_flow(builder, kind):
  flow, x = random_flow(kind, builder), images(1)
  c = conditions(flow, 1)
  encode = functools.partial(flow.encode, condition=c[0])
  z = encode(x)
  assert np.abs(z - flow.encode(x, condition=1 + c if kind != 'label' else (1 + c) % 3)).max() > 1e-3
  np.testing.assert_allclose(flow.decode(z + 0.0, condition=c), x, atol=1e-11)
  family = scipy.stats.norm if builder == 'real_nvp' else scipy.stats.logistic
  expected = family.logpdf(z).sum() + log_det_by_autodiff(encode, x)
  np.testing.assert_allclose(flow.log_prob(x + 0.0, condition=c), expected, rtol=1e-9)


@pytest.mark.parametrize('kind', ['label', 'label of the prior'])
def test_densities_of_two_pixels_integrate_to_the_classes_and_samples_follow_them(kind):
  flow = random_flow(kind, shape=(1, 2, 1))
  for variable in flow.variables:
    if variable.name.endswith('log_scale:0'):
      variable.assign([0.5, 0.7])  # Without this the density has poles at the borders.
  points = (np.arange(200) + 0.5) / 200
  grid = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 1, 2, 1)
  mass = np.exp(flow.class_log_probs(tf.constant(grid))) / 200**2
  assert mass.shape == (200**2, 3) and mass.sum() == pytest.approx(1.0, abs=1e-2)
  np.testing.assert_allclose(mass.sum(axis=0), flow.class_probs, atol=1e-2)
  np.testing.assert_allclose(np.exp(flow.log_prob(tf.constant(grid))) / 200**2, mass.sum(axis=1), rtol=1e-9)
  samples = flow.sample((5_000, 3), seed=(0, 1), condition=tf.range(3)).numpy()[..., 0, :, 0]
  of_mixture = flow.sample(5_000, seed=(0, 2)).numpy()[:, 0, :, 0]
  for quarter in ((True, True), (True, False), (False, True), (False, False)):
    inside = np.all((grid[:, 0, :, 0] < 0.5) == quarter, axis=1)
    # Four standard deviations of the counts.
    within = {'rtol': 0, 'atol': 4 * np.sqrt(0.25 / 5_000)}
    share = np.all((samples < 0.5) == quarter, axis=-1).mean(axis=0)
    np.testing.assert_allclose(share, mass[inside].sum(axis=0) / mass.sum(axis=0), **within)
    np.testing.assert_allclose(np.all((of_mixture < 0.5) == quarter, axis=-1).mean(), mass[inside].sum(), **within)


@pytest.mark.parametrize('kind', ['label', 'label of the prior'])
def test_without_a_condition_it_is_the_mixture_of_its_classes(kind):
  flow, x = random_flow(kind), images(2, 3)
  conditional = np.stack([flow.log_prob(x, condition=y).numpy() for y in range(3)], axis=-1)
  joint = conditional + np.log([0.5, 0.3, 0.2])
  np.testing.assert_allclose(flow.class_log_probs(x), joint, rtol=1e-12)
  expected = np.log(np.exp(joint - joint.max()).sum(axis=-1)) + joint.max()
  np.testing.assert_allclose(flow.log_prob(x), expected, rtol=0, atol=1e-9)
  np.testing.assert_allclose(flow.prob(x), np.exp(expected), rtol=1e-9)
  samples, log_prob = flow.experimental_sample_and_log_prob(5, seed=(0, 1))
  np.testing.assert_allclose(flow.log_prob(samples + 0.0), log_prob, rtol=1e-9)


def test_the_divergence_of_mixtures_has_no_closed_form():
  """TFP's own rule would return the divergence of the priors, 0."""
  flow = random_flow('label')
  with pytest.raises(NotImplementedError, match=r'^The KL divergence of flows has a closed form if'):
    tfd.kl_divergence(flow, flow.copy(class_probs=tf.constant([0.8, 0.1, 0.1], tf.float64)))
  plain = nice(dtype='float64')
  other = plain.copy(distribution=tfd.Sample(tfd.Normal(tf.ones([], tf.float64), 1.0), SHAPE))
  first = plain.copy(distribution=tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0), SHAPE))
  np.testing.assert_allclose(tfd.kl_divergence(first, other), 16 / 2)


def test_probabilities_of_classes_need_not_sum_to_1():
  """A training of log p(x) would otherwise make the density larger by making their sum larger."""
  flow, x = flows.nice((1, 2, 1), classes=2, couplings=2, hidden_units=4, hidden_layers=1), tf.fill((3, 1, 2, 1), 0.3)
  before = flow.log_prob(x)
  flow.class_probs.assign(10 * flow.class_probs)
  np.testing.assert_allclose(flow.log_prob(x + 0.0), before, rtol=1e-6)


def test_images_outside_of_the_interval_have_no_density_and_no_nan():
  flow = random_flow('label')
  x = images(2) + tf.reshape(tf.constant([0.0, 1.0], tf.float64), (2, 1, 1, 1))
  with tf.GradientTape() as tape:
    log_prob = flow.log_prob(x)
  assert np.isfinite(log_prob[0]) and np.isneginf(log_prob[1]) and np.all(np.isneginf(flow.class_log_probs(x)[1]))
  assert all(np.all(np.isfinite(gradient)) for gradient in tape.gradient(log_prob, flow.trainable_variables))


def test_classes_of_the_prior_alone():
  """Where no network sees the label, one pass over the networks gives all classes."""
  flow, x = random_flow('label of the prior'), images(4)
  z = flow.encode(x)
  np.testing.assert_array_equal(flow.encode(x, condition=[0, 1, 2, 0]), z)
  log_det = flow.bijector.inverse_log_det_jacobian(x, event_ndims=3).numpy()
  of_components = scipy.stats.logistic.logpdf(z.numpy()[:, None], loc=flow.distribution.means).sum(axis=(2, 3, 4))
  expected = scipy.special.logsumexp(of_components.reshape(4, 3, 2), axis=-1) - np.log(2) + np.reshape(log_det, (-1, 1))
  np.testing.assert_allclose(flow.class_log_probs(x), expected + np.log([0.5, 0.3, 0.2]), rtol=1e-9)
  # A component of the class 1, which has two.
  np.testing.assert_allclose(
    flow.log_prob(x, condition=[1] * 4, component=[3] * 4), of_components[:, 3] - np.log(2) + log_det, rtol=1e-9
  )


@pytest.mark.parametrize(('build', 'shape'), [(flows.nice, (2, 2, 1)), (flows.vectors, (2,))])
def test_a_flow_with_classes_is_the_base_of_another_distribution(build, shape):
  """TFP does not ask a base distribution for its `log_prob`."""
  flow = build(shape, couplings=2, hidden_units=8, classes=3)
  scaled = tfb.Scale(4.0)(flow)
  x = scaled.sample(3, seed=(0, 1)) / 4.0
  expected = flow.log_prob(x) - flow.event_shape.num_elements() * np.log(4.0)
  np.testing.assert_allclose(scaled.log_prob(4.0 * x), expected, rtol=1e-5)


@pytest.mark.slow
def test_parts_of_tfps_distributions():
  flow, x, y = random_flow('label'), images(4), tf.constant([0, 2, 1, 1])
  of_class = tfd.Categorical(probs=flow.class_probs)
  expected = flow.log_prob(x, condition=y).numpy() + np.log([0.5, 0.2, 0.3, 0.3])
  joint = tfd.JointDistributionSequential([of_class, lambda y: flow.given(y)])
  np.testing.assert_allclose(joint.log_prob([y, x]), expected, rtol=1e-9)
  labels, samples = joint.sample(5, seed=(0, 1))
  assert labels.shape == (5,) and samples.shape == (5, *SHAPE)
  mixed = tfd.MixtureSameFamily(of_class, flow.given(tf.range(3)))
  apart = tfd.Mixture(of_class, [flow.given(label) for label in range(3)])
  for mixture in (mixed, apart):
    np.testing.assert_allclose(mixture.log_prob(x), flow.log_prob(x), rtol=1e-9)
    assert mixture.sample(2, seed=(0, 1)).shape == (2, *SHAPE)
  flow = random_flow('vector')
  latent = tfd.Sample(tfd.Normal(tf.zeros((), tf.float64), 1.0), 2)
  joint = tfd.JointDistributionNamed({'c': latent, 'x': lambda c: flow.given(c)})
  drawn = joint.sample(4, seed=(0, 1))
  expected = scipy.stats.norm.logpdf(drawn['c']).sum(axis=1) + flow.log_prob(drawn['x'], condition=drawn['c']).numpy()
  np.testing.assert_allclose(joint.log_prob(drawn), expected, rtol=1e-9)
  each = tf.vectorized_map(lambda pair: flow.given(pair[0]).log_prob(pair[1]), (drawn['c'], drawn['x']))
  np.testing.assert_allclose(each, flow.log_prob(drawn['x'], condition=drawn['c']), rtol=1e-9)


@with_networks
def test_images_and_conditions_are_broadcast(kind):
  flow, x = random_flow(kind), images(3, 1)
  c = conditions(flow, 2)
  expected = np.stack([flow.log_prob(x[:, 0], condition=c[i]) for i in range(2)], axis=1)
  np.testing.assert_allclose(flow.log_prob(x, condition=c), expected, rtol=1e-9)
  np.testing.assert_allclose(flow.log_prob(x[0, 0], condition=c), expected[0], rtol=1e-9)
  z = flow.encode(x, condition=c)
  assert z.shape == (3, 2, *SHAPE)
  np.testing.assert_allclose(flow.decode(z + 0.0, condition=c), np.broadcast_to(x, (3, 2, *SHAPE)), atol=1e-11)
  empty = flow.log_prob(x[:0, 0], condition=conditions(flow, 0))
  assert empty.shape == (0,) and flow.sample(0, condition=c[0]).shape == (0, *SHAPE)


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'ranks'), [('label', None), pytest.param('vector', (2, 1), marks=pytest.mark.slow)])
def test_graphs_that_know_the_rank_or_nothing(kind, ranks):
  flow, x = random_flow(kind), images(3, 1)
  c = conditions(flow, 2)
  shapes = [(*[None] * rank, *t.shape[rank:]) for t, rank in zip((x, c), ranks, strict=True)] if ranks else [None] * 2
  specs = [tf.TensorSpec(shape, tensor.dtype) for shape, tensor in zip(shapes, (x, c), strict=True)]
  graph = tf.function(lambda x, c: flow.log_prob(x, condition=c), input_signature=specs)
  np.testing.assert_allclose(graph(x, c), flow.log_prob(x, condition=c), rtol=1e-9)


@pytest.mark.slow
def test_xla_and_sizes_of_samples_in_graphs():
  flow = random_flow('label')
  x, y = images(3), tf.constant([2, 0, 1])
  compiled = tf.function(lambda x, y: flow.log_prob(x, condition=y), jit_compile=True)
  np.testing.assert_allclose(compiled(x, y), flow.log_prob(x, condition=y), rtol=1e-9)
  sample = tf.function(lambda: flow.sample((2, 3), seed=(0, 1), condition=y)).get_concrete_function()
  assert sample.output_shapes == (2, 3, *SHAPE)  # Layers are faster where they know the shapes.
  np.testing.assert_allclose(sample(), flow.sample((2, 3), seed=(0, 1), condition=y), rtol=1e-9)


@each_kind
def test_shapes_and_seeds_of_samples(kind):
  flow = random_flow(kind)
  c = conditions(flow, 4)
  samples = flow.sample((5, 4), seed=(0, 1), condition=c)
  assert samples.shape == (5, 4, *SHAPE)
  for shape, batch in (((), (4,)), (4, (4,)), ((3, 1), (3, 4)), (tf.constant([2, 4]), (2, 4))):
    assert flow.sample(shape, condition=c).shape == (*batch, *SHAPE)
  np.testing.assert_array_equal(flow.sample((5, 4), seed=(0, 1), condition=c), samples)
  others = flow.sample((5, 4), seed=(0, 2), condition=c)
  assert np.abs(samples - others).max(axis=(2, 3, 4)).min() > 1e-3
  alone = flow.sample(16, seed=(0, 1), condition=c[0])
  repeated = flow.sample(16, seed=(0, 1), condition=tf.repeat(c[:1], 16, axis=0))
  np.testing.assert_array_equal(alone, repeated)


def test_names_of_classes_in_an_array():
  flow, x = nice(classes=3), tf.cast(images(3), tf.float32)
  flow.class_names = ['ant', 'bee', 'cat']
  expected = flow.log_prob(x, condition=[2, 0, 1])
  np.testing.assert_array_equal(flow.log_prob(x, condition=np.array(['cat', 'ant', 'bee'])), expected)


def test_conditions_of_other_types():
  flow, x = random_flow('label'), images(3)
  expected = flow.log_prob(x, condition=tf.constant([2, 0, 1]))
  for condition in ([2, 0, 1], np.array([2, 0, 1], np.uint8), tf.constant([2, 0, 1], tf.int64), tf.Variable([2, 0, 1])):
    np.testing.assert_array_equal(flow.log_prob(x, condition=condition), expected)
  wide = random_flow('vector')
  narrow = wide.with_dtype('mixed_bfloat16')
  vectors = np.array([[0.1, 0.2], [0.3, -0.4], [1e-9, 0.7]])
  expected = wide.log_prob(x, condition=tf.constant(vectors))
  for condition in (vectors, vectors.tolist(), tf.Variable(vectors)):
    np.testing.assert_array_equal(wide.log_prob(x, condition=condition), expected)
    found = narrow.log_prob(tf.cast(x, tf.float32), condition=condition)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.5)


def test_wrong_conditions_are_rejected_in_one_line():
  of_labels, of_vectors, x = random_flow('label'), random_flow('vector'), images(4)
  ints, floats = '`condition` must be ints from 0 to 2. Got: ', '`condition` must be floats of shape [..., 2]. Got: '
  for flow, condition, message in (
    (of_labels, [0, 3, -1, 4], f'{ints}-1, 3, 4.'),
    (of_labels, [0.0] * 4, f'{ints}float32.'),
    (of_labels, np.array([True] * 4), f'{ints}bool.'),
    (of_labels, [0, 1, 2], '`condition` must have a batch shape that suits (4,). Got: (3,).'),
    (of_vectors, None, "`condition` must be given, as 'nice' is conditional. Got: None."),
    (of_vectors, np.zeros((4, 3)), f'{floats}float64 of shape (4, 3).'),
    (of_vectors, [[1, 2]] * 4, f'{floats}int32 of shape (4, 2).'),
    (of_vectors, np.zeros(()), f'{floats}float64 of shape ().'),
    (nice(dtype='float64'), [0] * 4, "`condition` must be None, as 'nice' is not conditional. Got: a condition."),
  ):
    calls = [flow.log_prob, flow.encode, flow.decode, flow.prob]
    for call in [functools.partial(call, x) for call in calls] + [functools.partial(flow.sample, 4)]:
      with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
        call(condition=condition)
  with pytest.raises(ValueError, match='`condition` must be ints from 0 to 2'):
    of_labels.given(3)
  with pytest.raises(ValueError, match='`flow` must be a flow with classes'):
    of_vectors.class_log_probs(x)
  with pytest.raises(ValueError, match='`value` must be float'):  # TFP would cast grey levels.
    of_labels.given(0).log_prob(np.ones(x.shape, np.uint8))


def coupling(**arguments):
  return bijectors.AdditiveCoupling(dense_conditioner(2, 4, 1, conditional=bool(arguments)), [1, 1, 0, 0], **arguments)


def test_wrong_constructors_and_builders_are_rejected():
  prior = tfd.Sample(tfd.Normal(0.0, 1.0), 4)
  divided = flows.MixturePrior(np.zeros((4, 4), np.float32), classes=2)
  takes = 'a bijector that takes a `condition` if and only if the flow is conditional'
  plain, conditional, probs = coupling(), coupling(condition_shape=(2,)), np.float32([0.5, 0.5])
  for call, message in (
    (lambda: flows.Flow(prior, plain, class_probs=probs), f'`bijector` must be {takes}. Got: '),
    (lambda: flows.Flow(prior, plain, condition_shape=(2,)), f'`bijector` must be {takes}. Got: '),
    (lambda: flows.Flow(prior, conditional), f'`bijector` must be {takes}. Got: '),
    (lambda: flows.Flow(prior, conditional, class_probs=probs, condition_shape=(2,)), '`condition_shape` must be None'),
    (lambda: flows.Flow(prior, conditional, class_probs=[[0.5, 0.5]]), '`class_probs` must be floats [classes]'),
    (lambda: flows.Flow(divided, conditional, class_probs=[0.2, 0.3, 0.5]), '`class_probs` must be 2 numbers, one for'),
    (
      lambda: flows.Flow(tfd.Sample(tfd.Normal([0.0, 1.0], 1.0), 4), conditional, condition_shape=(2,)),
      '`distribution` must be a prior with the batch shape [] for a conditional flow',
    ),
    (lambda: nice(classes=3, condition_shape=(2,)), '`condition_shape` must be None with `classes`'),
    (lambda: nice(classes=3, condition_networks=False), '`condition_networks` must be True unless'),
    (lambda: nice(components=3, condition_networks=False), '`condition_networks` must be True unless'),
    (lambda: nice(classes=3, components=4), '`components` must be 1 or a multiple of the 3 classes'),
    (lambda: nice(classes=1), '`classes` must be an integer from 2'),
    (lambda: nice(condition_shape=(2, 2)), '`condition_shape` must be (d,) for vectors, or (height, width, channels)'),
    (
      lambda: real_nvp(classes=3, architecture='paper', blocks=1),
      "`architecture` must be 'preactivation' if the networks see a condition",
    ),
  ):
    with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
      call()


@pytest.mark.parametrize(
  ('builder', 'kind'),
  [
    ('nice', 'vector'),
    pytest.param('jet', 'label of the prior', marks=pytest.mark.slow),
    pytest.param('real_nvp', 'vector', marks=pytest.mark.slow),
  ],
)
def test_copies(builder, kind):
  flow, x = randomise(BUILDERS[builder](SHAPE, **KINDS[kind])), tf.cast(images(3), tf.float32)
  if flow.classes:
    flow.class_probs.assign([0.5, 0.3, 0.2])
  c = tf.cast(conditions(flow, 3), tf.int32 if flow.classes else tf.float32)
  expected = flow.log_prob(x, condition=c)
  copied, wide = copy.deepcopy(flow), flow.with_dtype('float64')
  np.testing.assert_array_equal(copy.deepcopy(flow.given(c)).log_prob(x + 0.0), expected)
  for other in (copied, wide, flow.copy(name='other')):
    found = other.log_prob(tf.cast(x, other.dtype), condition=c)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (other.classes, other.condition_shape) == (flow.classes, flow.condition_shape)
    if flow.classes:
      np.testing.assert_allclose(other.class_probs, [0.5, 0.3, 0.2], rtol=1e-6)
  assert not {id(v) for v in flow.variables} & {id(v) for v in (*copied.variables, *wide.variables)}


def test_gradients_by_a_vector_and_two_conditions_of_one_tensor():
  flow, x = random_flow('vector'), images(3)
  c = conditions(flow, 3)
  # A graph keeps TFP's cache between the two calls.
  both = tf.function(lambda c: [flow.encode(x, condition=c), flow.encode(x, condition=c + 1.0)], autograph=False)(c)
  assert np.abs(both[0] - both[1]).max() > 1e-3
  for noise, given in zip(both, (c, c + 1.0), strict=True):
    np.testing.assert_allclose(noise, flow.encode(x, condition=given), rtol=1e-9, atol=1e-9)
  direction = np.random.default_rng(2).normal(size=(3, 2))
  with tf.GradientTape() as tape:
    at = tf.identity(c)
    tape.watch(at)
    total = tf.reduce_sum(flow.log_prob(x, condition=at))
  steps = [tf.reduce_sum(flow.log_prob(x, condition=c + step * direction)) for step in (1e-6, -1e-6)]
  np.testing.assert_allclose(np.sum(tape.gradient(total, at) * direction), (steps[0] - steps[1]) / 2e-6, rtol=1e-5)


def test_batch_norms_use_the_batch_in_training_alone():
  flow, x, y = nice(normalization='batch', classes=3), tf.cast(images(6), tf.float32), tf.constant([0, 1, 2, 0, 1, 2])
  randomise(flow)
  flow.class_probs.assign([0.5, 0.3, 0.2])
  statistics = [v for v in flow.non_trainable_variables if v is not flow.class_probs]
  before = [v.numpy() for v in statistics]
  flow.log_prob(x, condition=y)
  flow.sample(3, condition=y[:3])
  for variable, value in zip(statistics, before, strict=True):
    np.testing.assert_array_equal(variable, value)
  evaluated = flow.log_prob(x[:1], condition=y[:1])
  np.testing.assert_allclose(flow.log_prob(x, condition=y)[:1], evaluated, rtol=1e-5, atol=1e-4)
  assert np.abs(flow.log_prob(x + 0.0, condition=y, training=True)[:1] - evaluated) > 1e-3
  assert all(np.any(variable != value) for variable, value in zip(statistics, before, strict=True))
  np.testing.assert_array_equal(flow.class_probs, np.float32([0.5, 0.3, 0.2]))


def test_flows_without_conditions_have_no_further_variables():
  """Numbers of weights: norm, dense layer, norm, dense layer in each of two couplings, and the scaling."""
  of_coupling = 2 * 8 + (8 * 6 + 6) + 2 * 6 + (6 * 8 + 8)
  plain = nice()
  assert sum(v.shape.num_elements() for v in plain.variables) == 2 * of_coupling + 16
  # A scale and a shift of the inputs of both dense layers.
  of_labels = nice(classes=3)
  modulations = 2 * (3 + 1) * (8 + 6)
  assert sum(v.shape.num_elements() for v in of_labels.trainable_variables) == 2 * (of_coupling + modulations) + 16
  for builder in (nice, jet):
    plain, conditional = builder(), builder(condition_shape=(2,))
    names = [v.name for v in plain.variables]
    assert len(names) < len(conditional.variables) and plain.classes is plain.condition_shape is None
    # The others have the same shapes, in the same order.
    shapes = iter([v.shape for v in conditional.variables])
    assert all(any(shape == v.shape for shape in shapes) for v in plain.variables)


@with_networks
def test_a_new_flow_does_not_depend_on_its_condition(kind):
  flow, x = nice(dtype='float64', **KINDS[kind]), images(3)
  np.testing.assert_allclose(flow.log_prob(x, condition=conditions(flow, 3)), nice(dtype='float64').log_prob(x))


def test_a_given_flow_takes_conditions_as_users_write_them():
  flow = flows.nice((2, 2, 1), classes=3, couplings=2, hidden_units=2, hidden_layers=1)
  x = flow.sample(4, seed=(0, 1))
  np.testing.assert_array_equal(flow.given(1).copy(condition=2).log_prob(x), flow.given(2).log_prob(x))
  assert flow.given(1).copy(condition=2).sample(4, seed=(0, 1)).shape == x.shape
  assert flows.Given(flow, [0, 2]).batch_shape == (2,)
  vectors = flows.vectors(2, condition_shape=(1,), hidden_units=2)
  assert flows.Given(vectors, np.ones((3, 1))).sample(2, seed=(0, 1)).shape == (2, 3, 2)
