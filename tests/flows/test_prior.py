"""Priors against SciPy."""

import copy
import functools
import re

import numpy as np
import pytest
import scipy.spatial
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors, flows
from flowgan_tf.flows import PRIORS, MixturePrior
from flowgan_tf.flows.prior import label_keyword, make_prior, standard_prior, tempered
from flowgan_tf.networks import KerasModule

MEANS = np.random.default_rng(0).normal(scale=3.0, size=(4, 2, 3))


@pytest.mark.parametrize(
  'name, log_density',
  [('normal', lambda z: -0.5 * z**2 - 0.5 * np.log(2 * np.pi)), ('logistic', lambda z: -z - 2 * np.log1p(np.exp(-z)))],
)
def test_standard_priors(name, log_density):
  noise = make_prior(name, 1, (2, 3), tf.float64)
  z = np.random.default_rng(0).normal(size=(5, 2, 3))
  assert noise.event_shape == (2, 3) and noise.batch_shape == () and noise.dtype == tf.float64
  np.testing.assert_allclose(noise.log_prob(z), log_density(z).sum(axis=(1, 2)), rtol=1e-12)


@pytest.mark.parametrize('scale', [None, 0.5])
@pytest.mark.parametrize('name', PRIORS)
def test_density_of_a_mixture(name, scale):
  prior = MixturePrior(MEANS, name, scale)
  assert (prior.batch_shape, prior.event_shape, prior.dtype, prior.num_components) == ((), (2, 3), tf.float64, 4)
  z = np.random.default_rng(1).normal(scale=3.0, size=(5, 6, 2, 3))
  family = {'normal': scipy.stats.norm, 'logistic': scipy.stats.logistic}[name]
  of_components = family.logpdf(z[..., None, :, :], loc=MEANS, scale=scale or 1.0).sum(axis=(-1, -2))
  np.testing.assert_allclose(prior.log_prob(z), scipy.special.logsumexp(of_components - np.log(4), axis=-1), rtol=1e-12)
  np.testing.assert_allclose(prior.component_probs(z), scipy.special.softmax(of_components, axis=-1), atol=1e-12)
  component = np.random.default_rng(2).integers(0, 4, (5, 6))
  expected = np.take_along_axis(of_components, component[..., None], axis=-1)[..., 0] - np.log(4)
  np.testing.assert_allclose(prior.log_prob(z, component=component), expected, rtol=1e-12)


@pytest.mark.parametrize('name', PRIORS)
def test_samples_of_a_mixture_have_its_distribution(name):
  means = np.array([[-6.0], [0.0], [7.0]])
  prior = MixturePrior(means, name, 0.5)
  samples = prior.sample((50, 80), seed=[0, 1]).numpy()
  assert samples.shape == (50, 80, 1)
  np.testing.assert_array_equal(samples, prior.sample((50, 80), seed=[0, 1]))
  family = {'normal': scipy.stats.norm, 'logistic': scipy.stats.logistic}[name]
  found = scipy.stats.kstest(samples.ravel(), lambda z: family.cdf(z[:, None], means.ravel(), 0.5).mean(axis=1))
  assert found.pvalue > 0.01


def test_gradients_of_samples_and_of_the_likelihood_by_the_means():
  prior = MixturePrior(tf.Variable(MEANS), 'logistic')
  with tf.GradientTape() as tape:
    total = tf.reduce_sum(prior.sample(4000, seed=[0, 1]))
  moved = tf.convert_to_tensor(tape.gradient(total, prior.means)).numpy() / 4000
  np.testing.assert_allclose(moved, 0.25, atol=0.03)  # The share of each component, for each number.
  assert np.ptp(moved, axis=(1, 2)).max() < 1e-12
  prior = MixturePrior(tf.Variable([[-5.0], [5.0]], dtype=tf.float64), 'normal')
  with tf.GradientTape() as tape:
    loss = -tf.reduce_mean(prior.log_prob(tf.constant([[-4.0], [-4.5], [4.5]], tf.float64)))
  np.testing.assert_allclose(tape.gradient(loss, prior.means), [[-1.5 / 3], [0.5 / 3]], atol=1e-12)


def test_temperature():
  temperature = 0.5
  z = np.random.default_rng(0).normal(size=(5, 2, 3))
  standard, mixture = standard_prior('normal', (2, 3), tf.float64), MixturePrior(MEANS, 'normal')
  cool = tempered(standard, temperature)
  np.testing.assert_allclose(cool.log_prob(z), scipy.stats.norm.logpdf(z, scale=temperature).sum(axis=(1, 2)))
  np.testing.assert_allclose(cool.sample(5, seed=[0, 1]), temperature * standard.sample(5, seed=[0, 1]).numpy())
  cool = tempered(mixture, temperature)
  np.testing.assert_array_equal(cool.log_prob(z), MixturePrior(MEANS, 'normal', temperature).log_prob(z))
  # The noise around the means is scaled, and the means are not.
  means, noise = (part.numpy() for part in mixture.sample_parts(5, seed=[0, 1]))
  assert all(any(np.array_equal(mean, m) for m in MEANS) for mean in means)
  np.testing.assert_allclose(mixture.sample(5, seed=[0, 1]), means + noise)
  np.testing.assert_allclose(cool.sample(5, seed=[0, 1]), means + temperature * noise)
  np.testing.assert_array_equal(tempered(mixture, 0.0).sample(5, seed=[0, 1]), means)
  scaled = mixture.copy(scale=0.5)
  np.testing.assert_array_equal(tempered(scaled, 1.0).log_prob(z), scaled.log_prob(z))
  np.testing.assert_allclose(tempered(scaled, temperature).log_prob(z), tempered(mixture, temperature / 2).log_prob(z))


def test_densities_with_a_component_add_up_to_that_of_the_image():
  flow = flows.jet((4, 4, 1), components=3, patch_size=2, width=4, hidden_units=4, couplings=2, dtype='float64')
  rng = np.random.default_rng(0)
  for variable in flow.trainable_variables:
    variable.assign(rng.normal(scale=0.3, size=variable.shape))
  images = tf.constant(rng.uniform(size=(5, 4, 4, 1)))
  with_component = [flow.log_prob(images, component=[k] * 5).numpy() for k in range(3)]
  assert np.ptp(with_component, axis=0).min() > 0.1
  np.testing.assert_allclose(scipy.special.logsumexp(with_component, axis=0), flow.log_prob(images), rtol=1e-12)
  for method, change in ((flow.unnormalized_log_prob, np.float64), (flow.prob, np.exp)):
    np.testing.assert_allclose(method(images, component=[1] * 5), change(with_component[1]))
  compiled = tf.function(lambda k: flow.log_prob(images, component=k), autograph=False)
  np.testing.assert_allclose(compiled(tf.fill([5], 2)), with_component[2], rtol=1e-12)


def test_components_of_any_integer_type_and_wrong_ones():
  prior = MixturePrior(MEANS)
  expected = prior.log_prob(MEANS, component=[0, 1, 2, 1])
  for dtype in ('uint8', 'int64'):
    np.testing.assert_array_equal(prior.log_prob(MEANS, component=np.array([0, 1, 2, 1], dtype)), expected)
  for component, found in (
    ([5, -1, 0, 4], '-1, 4, 5'),
    ([0.0] * 4, 'float64 of'),
    ([[0]] * 4, 'int64 of'),
    (0, 'int64'),
  ):
    message = re.escape(f'`component` must be ints of shape (4,), from 0 to 3. Got: {found}')
    with pytest.raises(ValueError, match=f'^{message}'):
      prior.log_prob(MEANS, component=np.array(component))
  with pytest.raises(ValueError, match=r'^`component` must be ints'):
    prior.log_prob(MEANS, component=[0.5] * 4)
  for scale in (-1.0, [0.5, 1.0]):  # A vector would be broadcast along the events.
    with pytest.raises(ValueError, match='`scale` must be a number of at least 0'):
      MixturePrior(MEANS, scale=scale)


def test_the_nearest_prototype_is_that_of_the_logits():
  rng = np.random.default_rng(0)
  prototypes, images = rng.uniform(size=(4, 2, 3, 1)), rng.uniform(size=(50, 2, 3, 1))
  prototypes[0, 0, 0], images[:10, 0, 0], images[10, 0, 0] = 0.0, 0.0, 1.0  # Their logits are finite.
  prior = MixturePrior(np.zeros((4, 6)), prototypes=prototypes)
  logits = [scipy.special.logit(1e-7 + (1 - 2e-7) * x.reshape(len(x), -1)) for x in (images, prototypes)]
  expected = scipy.spatial.distance.cdist(*logits).argmin(axis=1)
  assert set(expected) == {0, 1, 2, 3}
  np.testing.assert_array_equal(prior.nearest_prototype(images), expected)
  np.testing.assert_array_equal(prior.nearest_prototype(images.reshape(5, 10, 2, 3, 1)), expected.reshape(5, 10))
  assert prior.nearest_prototype(images[0]).shape == ()
  graph = tf.function(prior.nearest_prototype, input_signature=[tf.TensorSpec((None, 2, 3, 1), tf.float64)])
  np.testing.assert_array_equal(graph(images), expected)
  for wrong in (images[..., 0], images.reshape(100, 3, 1, 1), np.zeros((5, 2, 3, 1), np.int32)):
    with pytest.raises(ValueError, match=r'`images` must be floats of shape \[\.\.\., 2, 3, 1\]'):
      prior.nearest_prototype(wrong)


def test_components_divided_among_classes():
  prior = MixturePrior(MEANS, 'normal', 0.5, classes=2)
  z, rng = np.random.default_rng(1).normal(scale=3.0, size=(5, 6, 2, 3)), np.random.default_rng(2)
  of_components = scipy.stats.norm.logpdf(z[..., None, :, :], loc=MEANS, scale=0.5).sum(axis=(-1, -2))
  of_classes = scipy.special.logsumexp(of_components.reshape(5, 6, 2, 2) - np.log(2), axis=-1)
  np.testing.assert_allclose(prior.class_conditional_log_probs(z), of_classes, rtol=1e-12)
  np.testing.assert_allclose(prior.log_prob(z), scipy.special.logsumexp(of_classes - np.log(2), axis=-1), rtol=1e-12)
  for label in (rng.integers(0, 2, (5, 6)), rng.integers(0, 2, 6).astype(np.uint8), 1):
    expected = np.take_along_axis(of_classes, np.broadcast_to(label, (5, 6))[..., None].astype(int), axis=-1)[..., 0]
    np.testing.assert_allclose(prior.log_prob(z, label=label), expected, rtol=1e-12)
  # The density of noise and component given the class of the component.
  component = rng.integers(0, 4, (5, 6))
  expected = np.take_along_axis(of_components, component[..., None], axis=-1)[..., 0] - np.log(2)
  np.testing.assert_allclose(prior.log_prob(z, component=component, label=component // 2), expected, rtol=1e-12)
  assert np.all(np.isneginf(prior.log_prob(z, component=component, label=1 - component // 2)))


def test_samples_of_a_class_come_from_its_components():
  means = np.array([[-9.0], [0.0], [9.0], [18.0], [27.0], [36.0]])
  prior = MixturePrior(means, 'normal', classes=3)
  labels = np.arange(3_000) % 3
  for samples in (p.sample(3_000, seed=[0, 1], label=labels) for p in (prior, tempered(prior, 0.5))):
    component = np.abs(samples.numpy() - means.T).argmin(axis=1)
    np.testing.assert_array_equal(component // 2, labels)
    # Four standard deviations of the counts.
    np.testing.assert_allclose(np.bincount(component) / 3_000, 1 / 6, rtol=0, atol=4 * np.sqrt(5 / 36 / 3_000))
  assert np.std(samples - means[component]) == pytest.approx(0.5, rel=0.1)
  one = prior.sample((4, 5), seed=[0, 1], label=2).numpy()
  np.testing.assert_array_equal(one, prior.sample((4, 5), seed=[0, 1], label=[2] * 20))
  assert one.shape == (4, 5, 1) and one.min() > 22
  standard = standard_prior('normal', (1,), tf.float64)
  assert label_keyword(standard, [0, 1, 2]) == {} != label_keyword(prior, [0, 1, 2])


def test_the_nearest_prototype_of_the_class():
  rng = np.random.default_rng(0)
  prototypes, images = rng.uniform(size=(6, 2, 3, 1)), rng.uniform(size=(60, 2, 3, 1))
  prior = MixturePrior(np.zeros((6, 6)), prototypes=prototypes, classes=3)
  logits = [scipy.special.logit(x.reshape(len(x), -1)) for x in (images, prototypes)]
  distances = scipy.spatial.distance.cdist(*logits)
  labels = np.arange(60) % 3
  expected = [2 * label + row[2 * label : 2 * label + 2].argmin() for row, label in zip(distances, labels, strict=True)]
  assert np.mean(expected == distances.argmin(axis=1)) < 0.9
  np.testing.assert_array_equal(prior.nearest_prototype(images, labels), expected)
  shaped = prior.nearest_prototype(images.reshape(5, 12, 2, 3, 1), labels.reshape(5, 12))
  np.testing.assert_array_equal(shaped, np.reshape(expected, (5, 12)))


def test_wrong_labels_are_rejected():
  prior = MixturePrior(MEANS, prototypes=np.random.default_rng(0).uniform(size=(4, 2, 3)), classes=2)
  images = np.full((3, 2, 3), 0.5)
  for label, found in (([0, 2, -1], '-1, 2.'), ([0.0] * 3, 'float32.')):
    message = re.escape(f'`label` must be ints from 0 to 1. Got: {found}')
    for call in (
      functools.partial(prior.log_prob, images, label=label),
      functools.partial(prior.sample, 3, label=label),
      functools.partial(prior.nearest_prototype, images, label),
    ):
      with pytest.raises(ValueError, match=f'^{message}$'):
        call()
  for call, message in (
    (lambda: MixturePrior(MEANS, classes=3), '`classes` must be a divisor of the number of components, 4. Got: 3.'),
    (lambda: MixturePrior(MEANS).log_prob(MEANS, label=0), '`label` must be None, as the components are not divided'),
    (lambda: MixturePrior(MEANS).sample(2, label=0), '`label` must be None, as the components are not divided'),
    (
      lambda: MixturePrior(MEANS).class_conditional_log_probs(MEANS),
      '`classes` must be given to the prior. Got: None.',
    ),
  ):
    with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
      call()


def nice(**arguments):
  return flows.nice((2, 2, 1), couplings=2, hidden_units=4, hidden_layers=1, **arguments)


IMAGE = np.full((1, 2, 2, 1), 0.5)


def test_wrong_mixtures_and_components_are_rejected():
  for call, message in (
    (lambda: nice().log_prob(IMAGE, component=[0]), '`component` must be None unless the prior of the flow is a mix'),
    (lambda: nice(components=3).distribution.nearest_prototype(IMAGE), '`prototypes` must be placed, as by `initiali'),
    (lambda: MixturePrior(MEANS).nearest_prototype(tf.zeros((1, 2, 3))), '`prototypes` must be given to the prior'),
    (lambda: MixturePrior(MEANS, prototypes=np.zeros((3, 2, 3))), r'`prototypes` must be \[4, \.\.\.\], one for each'),
    (lambda: MixturePrior(np.zeros((0, 3))), r'`means` must be floats \[K, \*event_shape\]\. Got: '),
    (lambda: MixturePrior(np.zeros((2, 3), np.int32)), r'`means` must be floats \[K, \*event_shape\]\. Got: '),
  ):
    with pytest.raises(ValueError, match=message):
      call()


def test_an_own_variable_and_a_variable_scale_are_read_at_each_use():
  positive = tfp.util.TransformedVariable(np.exp(MEANS), tfp.bijectors.Exp())
  scale = tf.Variable(1.0, dtype=tf.float64)
  prior = MixturePrior(positive, 'normal', scale)
  with tf.GradientTape() as tape:
    density = prior.log_prob(MEANS[0])
  assert tape.gradient(density, positive.trainable_variables)[0] is not None
  scale.assign(3.0)
  np.testing.assert_allclose(prior.log_prob(MEANS[0]), MixturePrior(np.exp(MEANS), 'normal', 3.0).log_prob(MEANS[0]))


def test_a_copy_has_means_of_its_own():
  prior = MixturePrior(tf.Variable(MEANS), 'normal', 0.5)
  other = copy.deepcopy(prior)
  prior.means.assign_add(tf.ones_like(prior.means))
  np.testing.assert_array_equal(other.log_prob(MEANS), MixturePrior(MEANS, 'normal', 0.5).log_prob(MEANS))


def clustered_images(n=60):
  """Images of three kinds, which differ in the pixel that is white."""
  kinds = np.arange(n) % 3
  images = np.random.default_rng(0).uniform(0.05, 0.15, (n, 2, 2, 1))
  images.reshape(n, 4)[np.arange(n), kinds] += 0.8
  return images.astype(np.float32), kinds


def test_means_start_in_the_clusters_of_images():
  flow = nice(components=3)
  images, kinds = clustered_images()
  flows.initialize_prior(flow, images)
  noise = flow.encode(images).numpy()
  expected = np.stack([noise[kinds == kind].mean(axis=0) for kind in range(3)])
  means = flow.distribution.means.numpy()
  np.testing.assert_allclose(
    means[np.lexsort(means.reshape(3, 4).T)], expected[np.lexsort(expected.reshape(3, 4).T)], atol=1e-4
  )
  before = means.copy()
  flows.initialize_prior(flow, images.astype(np.float64))
  np.testing.assert_array_equal(flow.distribution.means, before)
  # Each kind has the component whose mean is its own, whatever the flow and its means become.
  components = np.square(noise[:, None] - means).sum(axis=(2, 3, 4)).argmin(axis=1)
  flow.distribution.means.assign(means[::-1])
  np.testing.assert_array_equal(flow.distribution.nearest_prototype(images), components)
  assert [set(components[kinds == kind]) for kind in range(3)] == [{components[kind]} for kind in range(3)]
  assert set(components) == {0, 1, 2}


def test_means_start_in_the_clusters_of_each_class():
  images, kinds = clustered_images(90)
  labels = np.array([1, 0, 1])[kinds]  # The class 1 has two kinds, and the class 0 a single one.
  for arguments in ({}, {'condition_networks': False}):
    flow = nice(components=4, classes=2, **arguments)
    flows.initialize_prior(flow, images, labels=labels)
    means = flow.distribution.means.numpy()
    noise = flow.encode(images, condition=labels).numpy()
    components = np.square(noise[:, None] - means).sum(axis=(2, 3, 4)).argmin(axis=1)
    np.testing.assert_array_equal(components // 2, labels)
    of_kinds = [set(components[kinds == kind]) for kind in range(3)]
    assert len(of_kinds[0]) == len(of_kinds[2]) == 1 and of_kinds[0] | of_kinds[2] == {2, 3} and of_kinds[1] == {0, 1}
    np.testing.assert_array_equal(flow.distribution.nearest_prototype(images, labels), components)
  missing = '`labels` must be given if and only if the prior is divided among classes. Got: '
  for other, given, message in (
    (flow, None, f"{missing}'nothing'"),
    (nice(components=3), labels, f"{missing}'labels'"),
    (flow, labels + 1, '`labels` must be ints from 0 to 1. Got: 2.'),
    (flow, labels[:5], '`labels` must be ints of shape (90,). Got: (5,).'),
    (flow, 0 * labels, '`images` must be at least 2 different images of class 1, one for each component. Got: 0.'),
  ):
    with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
      flows.initialize_prior(other, images, labels=given)


def test_only_networks_that_return_zero_are_skipped(monkeypatch):
  rows, compute = [], KerasModule._call

  def counted(layer, inputs, training):
    rows.append(inputs[0].shape[0])
    return compute(layer, inputs, training)

  monkeypatch.setattr(KerasModule, '_call', staticmethod(counted))
  flow, (images, _) = nice(components=3), clustered_images()
  rng = np.random.default_rng(0)
  for skipped in (True, False):
    rows.clear()
    flows.initialize_prior(flow, images)
    assert (set(rows) == {2}) == skipped
    noise, means = flow.encode(images).numpy(), flow.distribution.means.numpy()
    nearest = np.square(noise[:, None] - means).sum(axis=(2, 3, 4)).argmin(axis=1)
    expected = [noise[nearest == k].mean(axis=0) for k in range(3)]
    np.testing.assert_allclose(means, expected, atol=1e-4)
    np.testing.assert_allclose(flow.distribution.prototypes, flow.decode(means), atol=1e-5)
    for variable in flow.trainable_variables:
      variable.assign_add(rng.normal(0, 0.3, variable.shape))


def test_means_cannot_be_placed():
  images, _ = clustered_images()
  flow = nice(components=3)
  before = flow.distribution.means.numpy()
  normed = flows.real_nvp((2, 2, 1), scales=1, channels=4, blocks=1, components=3, batch_norm_between=True)
  bare = tfp.bijectors.Chain([tfp.bijectors.Sigmoid(), bijectors.DiagonalScaling((2, 2, 1))])
  by_hand = flows.Flow(MixturePrior(tf.Variable(tf.zeros((2, 2, 2, 1)))), bare)
  form, values, low = (
    '`images` must be floats of shape [n, 2, 2, 1]',
    '`images` must have values in [0, 1]',
    images.min(),
  )
  for other, given, message, found in (
    (nice(), images, '`flow` must be a flow with `components` of at least 2', ''),
    (normed, images, '`flow` must be without batch norms between its couplings', ''),
    (flow, images[0], form, 'float32 of shape (2, 2, 1).'),
    (flow, np.zeros((60, 2, 2, 1), np.uint8), form, 'uint8 of shape (60, 2, 2, 1).'),
    (flow, 2 * images - 1, values, f'{2 * low - 1:g} to '),
    (flow, np.where(images > 0.5, np.inf, images), values, f'{low:g} to inf.'),
    (flow, np.where(images > 0.5, np.nan, images), values, 'nan to nan.'),
    (flow, np.tile(images[:2], (50, 1, 1, 1)), '`images` must be at least 3 different images', '2.'),
    (by_hand, np.round(images), '`images` must lie inside the support of the flow', 'an image without finite'),
  ):
    with pytest.raises(ValueError, match=f'^{re.escape(message)}.*Got: {re.escape(found)}'):
      flows.initialize_prior(other, given)
  np.testing.assert_array_equal(flow.distribution.means, before)


def test_a_mixture_is_trained_and_copied_with_its_flow():
  flow, (images, _) = nice(components=3), clustered_images()
  assert any(variable is flow.distribution.means for variable in flow.trainable_variables)
  assert [id(variable) for variable in flow.non_trainable_variables] == [id(flow.distribution.prototypes)]
  flows.initialize_prior(flow, images)
  expected = flow.log_prob(images)
  for other in (copy.deepcopy(flow), flow.with_dtype('float64')):
    prior, given = other.distribution, tf.cast(images, other.dtype)
    np.testing.assert_allclose(other.log_prob(given), expected, rtol=1e-4)
    np.testing.assert_array_equal(prior.nearest_prototype(given), flow.distribution.nearest_prototype(images))
    for variable in prior.variables:
      variable.assign(tf.ones_like(variable))
    assert not np.allclose(other.log_prob(tf.identity(given)), expected)
  np.testing.assert_array_equal(flow.log_prob(tf.constant(images)), expected)
