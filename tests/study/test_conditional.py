"""Analyses of conditional runs: on p(x) of all classes, on p(x | y) of one, and on p(x | c) of images and vectors."""

import dataclasses
import re
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

from flowgan_tf import flows
from flowgan_tf.base.errors import UsageError
from flowgan_tf.flows import MixturePrior
from flowgan_tf.runs.seeds import Purpose, stateless_seed
from flowgan_tf.study import (
  ANALYSES,
  AnnealedImportanceSampler,
  Subject,
  critic,
  independent_critic,
  jacobian,
  spectrum,
)
from flowgan_tf.study.ais import Ais
from flowgan_tf.study.apply import _apply
from flowgan_tf.study.jacobian import Jacobian
from flowgan_tf.study.temperature import tempered_log_prob
from tests.study.test_jacobian import finite_differences

SHAPE = (4, 4, 1)
ARGUMENTS = {
  'label': {'classes': 2},
  'vector': {'condition_shape': (3,)},
  'low_resolution:2': {'condition_shape': (2, 2, 1)},
}


def perturbed(generator):
  """Gives a flow weights that depend on the condition, as after some training, and unequal classes."""
  rng = np.random.default_rng(1)
  for variable in generator.trainable_variables:
    variable.assign_add(rng.normal(0, 0.4, variable.shape))
  if generator.classes:
    generator.class_probs.assign([0.75, 0.25])
  return generator


def flow_given(kind, dtype='float32', **arguments):
  sizes = {'couplings': 2, 'hidden_units': 6, 'hidden_layers': 1, 'normalization': 'none', 'dtype': dtype}
  return perturbed(flows.nice(SHAPE, **sizes, **ARGUMENTS[kind], **arguments))


@pytest.fixture
def conditional(subject, monkeypatch):
  """Makes a subject whose generator is conditioned on something, and has not been trained."""

  def make(kind, label=None, generator=None):
    config, parts = subject.run.config.copy_and_resolve_references(), {}
    config.condition = kind
    for name in ('train', 'validation', 'test'):
      part = getattr(subject.dataset, name)
      vectors = np.random.default_rng(2).normal(size=(len(part), 3)).astype(np.float32)
      parts[name] = dataclasses.replace(part, labels=part.labels.copy(), conditions=vectors)
    dataset = dataclasses.replace(subject.dataset, condition_kind=kind, **parts)
    monkeypatch.setattr('flowgan_tf.runs.run.load_data', lambda run: dataset)
    run = dataclasses.replace(subject.run, config=config, generator=generator or flow_given(kind))
    return Subject(run, label)

  return make


def test_without_a_label_densities_are_of_the_mixture_of_classes(conditional):
  subject = conditional('label')
  flow, images = subject.run.generator, subject.images('test')
  of_classes = [flow.log_prob(images, condition=y).numpy() for y in range(2)]
  assert np.abs(of_classes[0] - of_classes[1]).max() > 0.1
  expected = np.logaddexp(of_classes[0] + np.log(0.75), of_classes[1] + np.log(0.25))
  np.testing.assert_allclose(subject.log_prob(images), expected, rtol=1e-5)
  assert subject.batch('test', of_density=True)[1] is None and subject.condition.title == 'all classes'
  np.testing.assert_array_equal(subject.batch('test', 5, 1)[1], subject.split('test', 5, 1).labels)


def test_a_label_selects_images_densities_and_samples(conditional):
  subject, every = conditional('label', label=1), conditional('label')
  flow, test = subject.run.generator, every.dataset.test
  levels = test.images[test.labels == 1]
  np.testing.assert_array_equal(subject.split('test').images, levels)
  images = subject.images('test', 5, 2)
  assert subject.condition.title == 'class 1' and 5 == len(images) < len(levels) < len(test)
  expected = flow.given(1).log_prob(images)
  for given in (None, subject.batch('test', 5, 2, of_density=True)[1]):
    np.testing.assert_allclose(subject.log_prob(images, given), expected, rtol=1e-5)
  drawn = {
    samples.shape: samples for samples in (subject.samples(6, 0), subject.sample(7, tf.constant([0, 1])).numpy())
  }
  for shape, samples in drawn.items():
    # The noise has no condition, so that it shows which one the samples had.
    seed = stateless_seed(subject.run.config.seed, Purpose.ANALYSIS, 0) if shape[0] == 6 else (0, 1)
    noise = flow.distribution.sample(500 if shape[0] == 6 else 7, seed=seed)[: shape[0]]
    np.testing.assert_allclose(samples, flow.decode(noise, condition=1), atol=1e-5)
  assert subject.scorer is None
  with pytest.raises(UsageError, match='classifiers compares all classes'):
    ANALYSES['classifiers'].measure(subject, ANALYSES['classifiers'].Settings(samples=20, epochs=1))


def test_classes_are_sampled_as_often_as_they_are_in_the_mixture(conditional):
  subject = conditional('label')
  labels = subject.conditions_for_samples(1000, 0)
  assert abs(labels.mean() - 0.25) < 0.05 and not np.array_equal(labels, subject.conditions_for_samples(1000, 1))


@pytest.mark.parametrize('kind', ['vector', 'low_resolution:2'])
def test_densities_of_images_are_given_their_own_conditions(conditional, kind):
  subject = conditional(kind)
  test = subject.dataset.test
  pixels = (test.images + 0.5) / 256
  reduced = pixels.reshape(-1, 2, 2, 2, 2, 1).mean(axis=(2, 4))
  own = test.conditions if kind == 'vector' else reduced
  np.testing.assert_allclose(subject.batch('test')[1], own, rtol=1e-6)
  images, given = subject.batch('test', 7, 3, of_density=True)
  expected = subject.run.generator.log_prob(images, condition=given)
  np.testing.assert_allclose(subject.log_prob(images, given), expected, rtol=1e-5)
  if kind == 'vector':
    with pytest.raises(UsageError, match='run: has no density for images without a vector'):
      subject.log_prob(images)
  else:
    np.testing.assert_allclose(subject.log_prob(images), expected, rtol=1e-5, atol=1e-5)
  of_training = subject.condition.of_split(subject.dataset.train).reshape(len(subject.dataset.train), -1)
  for given in subject.conditions_for_samples(5, 0):
    assert np.isclose(of_training, given.ravel()).all(axis=1).any()


@pytest.mark.parametrize(
  'kind', ['label', *(pytest.param(kind, marks=pytest.mark.slow) for kind in ('vector', 'low_resolution:2'))]
)
def test_the_jacobian_is_taken_at_the_condition_of_each_noise_vector(conditional, kind):
  subject = conditional(kind, generator=flow_given(kind))
  with mock.patch.object(jacobian, 'spectrum', side_effect=spectrum) as measured:
    numbers, arrays = Jacobian().measure(subject, Jacobian.Settings(noise_vectors=2, seed=1))
  [(flow, noise, given), _] = measured.call_args
  np.testing.assert_array_equal(given, subject.conditions_for_samples(2, 1))
  for values, z, c in zip(arrays['singular_values'], noise, given, strict=True):
    matrix = finite_differences(flow.given(c).decode, z.numpy().astype(float))
    np.testing.assert_allclose(values, np.linalg.svd(matrix, compute_uv=False), rtol=1e-6)
  assert numbers['largest_relative_difference'] < 1e-9  # from the flow's own log-determinant


@pytest.mark.slow
def test_ais_of_a_linear_decoder_and_a_mixture_given_a_class():
  """`x = A z + b_y + noise`, where z has one of two means of class y: a mixture of Gaussians."""
  rng = np.random.default_rng(0)
  means, matrix, offsets = rng.normal(size=(4, 2)), rng.normal(size=(3, 2)), 2 * rng.normal(size=(2, 3))
  prior = MixturePrior(tf.constant(means), 'normal', classes=2)

  def decode(noise, condition):
    return noise @ matrix.T + tf.gather(offsets, condition)

  labels, sigma = np.array([0, 1, 1, 0, 1]), 0.4
  sampler = AnnealedImportanceSampler(decode, prior, chains=32, steps=1000)
  lower, upper, images = sampler.given(labels).bidirectional(sigma, 5, 0)
  covariance = matrix @ matrix.T + sigma**2 * np.eye(3)
  truth = [
    np.logaddexp(
      *(stats.multivariate_normal(matrix @ means[2 * y + k] + offsets[y], covariance).logpdf(x) for k in (0, 1))
    )
    - np.log(2)
    for x, y in zip(images, labels, strict=True)
  ]
  np.testing.assert_allclose(lower, truth, atol=0.4)
  np.testing.assert_allclose(upper, truth, atol=0.4)
  wrong = sampler.given(1 - labels).estimate(images, sigma, 0).log_likelihood
  assert np.abs(wrong - truth).max() > 2


@pytest.mark.slow
def test_ais_is_of_the_images_own_classes(conditional):
  subject = conditional('label')
  with mock.patch.object(
    AnnealedImportanceSampler, 'given', autospec=True, side_effect=AnnealedImportanceSampler.given
  ) as given:
    numbers, _ = Ais().measure(subject, Ais.Settings(ais_images=4, ais_chains=2, ais_steps=5, seed=7))
  images, labels = subject.batch('test', 4, 7)
  expected = -subject.run.generator.log_prob(images, condition=labels).numpy().mean()
  assert numbers['exact_nll'] == pytest.approx(expected, rel=1e-5) and numbers['given'] == 'own class'
  of_samples = subject.conditions_for_samples(4, 7)
  np.testing.assert_array_equal(
    [c.args[1] for c in given.call_args_list], [subject.batch('validation', 4, 7)[1], labels, of_samples]
  )


@pytest.mark.parametrize('arguments', [{'components': 4}, pytest.param({}, marks=pytest.mark.slow)], ids=str)
def test_a_flow_with_classes_at_a_temperature(arguments):
  flow, labels, temperatures = flow_given('label', 'float64', **arguments), tf.constant([1, 0, 1]), (0.5, 1.0)
  images = flow.sample(3, seed=(0, 0), condition=labels)
  of_classes = [tempered_log_prob(flow, images, temperatures, tf.fill([3], y)).numpy() for y in (0, 1)]
  joint = np.stack(of_classes) + np.log(flow.class_probs.numpy())[:, np.newaxis, np.newaxis]
  found = tempered_log_prob(flow, images, temperatures).numpy()
  np.testing.assert_allclose(found, special.logsumexp(joint, axis=0), rtol=1e-12)
  np.testing.assert_allclose(found[:, 1], flow.log_prob(images), rtol=1e-12)
  # Halved noise, by the change of variables: around the means of the class if the prior has them.
  given = tempered_log_prob(flow, images, temperatures, labels).numpy()
  noise, prior = flow.encode(images, condition=labels), flow.distribution
  log_det = (flow.log_prob(images, condition=labels) - prior.log_prob(noise, **of_prior(prior, labels))).numpy()
  z = noise.numpy().reshape(3, -1)
  means = prior.means.numpy().reshape(2, 2, -1)[labels] if of_prior(prior, labels) else np.zeros((3, 1, 16))
  around = stats.logistic.logpdf(z[:, np.newaxis] - means, scale=0.5).sum(axis=2)
  np.testing.assert_allclose(
    given[:, 0], special.logsumexp(around, axis=1) - np.log(means.shape[1]) + log_det, rtol=1e-9
  )


def of_prior(prior, labels):
  return {'label': labels} if isinstance(prior, MixturePrior) else {}


QUICK = {
  'kde': {'samples': 20},
  'ais': {'ais_images': 2, 'ais_chains': 2, 'ais_steps': 3},
  'gmm': {'samples': 20},
  'jacobian': {'noise_vectors': 2},
  'temperature': {'samples': 20},
  'classifiers': {'samples': 20, 'epochs': 1},
  'outliers': {'images': 10},
  'independent_critic': {'critic_steps': 2},
}
REJECTED = {
  ('label', None, 'nice'): {},
  ('label', 1, 'nice'): {'classifiers': 'compares all classes'},
  ('label', None, 'dcgan'): dict.fromkeys(('temperature', 'outliers'), 'needs a likelihood'),
  ('vector', None, 'nice'): {'outliers': 'images of other sets come without vectors'},
  ('low_resolution:2', None, 'nice'): {},
}


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'label', 'name'), REJECTED)
def test_every_analysis_runs_or_says_in_a_line_why_not(conditional, tmp_path, kind, label, name):
  generator = flows.dcgan(SHAPE, channels=(2,), **ARGUMENTS[kind]) if name == 'dcgan' else None
  subject = conditional(kind, label, generator)
  subject.run = dataclasses.replace(subject.run, workdir=tmp_path)
  subject.scorer = None
  rejected = REJECTED[kind, label, name]
  if kind != 'label':
    needs = {name: f'cannot measure a run with condition {kind}' for name in ('kde', 'gmm', 'independent_critic')}
    rejected = rejected | needs
  for name, settings in QUICK.items():
    if name in rejected:
      with pytest.raises(UsageError, match=re.escape(rejected[name])) as caught:
        _apply(subject, name, **settings)
      assert '\n' not in str(caught.value)
      continue
    record = _apply(subject, name, **settings).record
    given = {('label', None): 'own class' if name == 'ais' else 'all classes', ('label', 1): 'class 1'}
    assert (record['given'], record.get('label')) == (given.get((kind, label), kind), label and str(label))
    assert given.get((kind, label), kind) in '\n'.join(ANALYSES[name].lines(record))
  assert {path.stem for path in tmp_path.glob('analysis/*.json')} == QUICK.keys() - rejected.keys()


@pytest.mark.parametrize(
  ('kind', 'label', 'said'),
  [
    ('', 1, '`label` must be left out, as .* is not conditioned on labels'),
    ('vector', 1, '`label` must be left out'),
    ('label', 2, '`label` must be an integer from 0 to 1. Got: 2'),
    ('label', -1, '`label` must be an integer from 0 to 1. Got: -1'),
  ],
)
def test_a_label_that_there_is_not(subject, conditional, kind, label, said):
  with pytest.raises(UsageError, match=said):
    conditional(kind, label) if kind else Subject(subject.run, label)


def test_with_a_label_an_independent_critic_compares_images_and_samples_of_that_class(conditional, monkeypatch):
  subject = conditional('label', label=1)
  measured = mock.Mock(return_value={'gap': 0.0})
  monkeypatch.setattr(independent_critic, 'critic_distances', measured)
  analysis = ANALYSES['independent_critic']
  analysis.measure(subject, analysis.Settings(critic_steps=2))
  sample, train, validation, *_ = measured.call_args.args
  assert sample == subject.sample  # Of p(x | y), as tested above.
  for images, part in ((train, subject.dataset.train), (validation, subject.dataset.validation)):
    np.testing.assert_array_equal(images, part.images[part.labels == 1])


def test_a_critic_compares_flows_with_the_label_checkpoint_and_seed_that_were_asked_for(conditional, monkeypatch):
  class Enough(Exception):
    pass

  subject, flows, analysis = conditional('label', label=1), mock.Mock(side_effect=Enough), ANALYSES['critic']
  load = mock.Mock(return_value=conditional('label').run)
  monkeypatch.setattr('flowgan_tf.runs.run.load_run', load)
  monkeypatch.setattr(critic, '_Flows', flows)
  monkeypatch.setattr(type(analysis), 'check', lambda *_: None)
  folder = str(subject.run.workdir)
  with pytest.raises(Enough):
    analysis.measure(
      subject, analysis.Settings(other=folder, other_checkpoint='best_score', sights=('pixels',), seed=7)
    )
  load.assert_called_once_with(folder, 'best_score')
  of_data, of_model, seed = flows.call_args.args
  assert (of_data.label, of_model.label, seed) == (1, 1, 7)
