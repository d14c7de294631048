"""The densities of two normal distributions, and of two flows, say what critics should see."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats
from scipy.spatial.distance import cdist

from flowgan_tf.base.errors import UsageError
from flowgan_tf.objectives import DIVERGENCES
from flowgan_tf.runs.run import load_run
from flowgan_tf.study import Subject
from flowgan_tf.study import critic as module
from flowgan_tf.study.critic import Critic
from flowgan_tf.study.exact import KNOWN, exact
from flowgan_tf.training.loop import train
from tests.summaries import summary
from tests.tiny import make_config

P, Q = stats.norm(0, 1), stats.norm(1, 1)


def log_ratio(x):
  return P.logpdf(x) - Q.logpdf(x)


def integral(function):
  return integrate.quad(lambda x: function(P.pdf(x), Q.pdf(x)), -9, 10)[0]


def of_product():
  """The divergence between pairs: r(x) - r(y) for x of P and y of Q is normal, with mean 1 and variance 2."""
  gap = stats.norm(1, math.sqrt(2))
  return integrate.quad(lambda d: gap.pdf(d) * (math.log(2) - np.logaddexp(0, -d)), -10, 12)[0]


TRUTH = {
  'kl': 0.5,
  'reverse_kl': 0.5,
  'jensen_shannon': integral(lambda p, q: p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))),
  'hellinger': 2 * (1 - math.exp(-1 / 8)),
  'total_variation': 2 * stats.norm.cdf(0.5) - 1,
  'least_squares': integral(lambda p, q: (p - q) ** 2 / (p + q) / 8),
  'relativistic': of_product(),
  'accuracy': stats.norm.cdf(0.5),
}


@pytest.fixture(scope='module')
def ratios():
  return [log_ratio(of.rvs(200_000, random_state=i)) for i, of in enumerate((P, Q))]


def test_all_samples_of_two_flows_differ(subject):
  flows = module._Flows(subject, subject, seed=0)
  sets = [*flows.held_out(3), *flows.held_out(module._MEASURED + 3)]
  sets = [images[-3:] for images in sets] + [images.numpy() for step in (0, 1) for images in flows.sample(3, 1, step)]
  for i, images in enumerate(sets):
    assert not any(np.allclose(images, other) for other in sets[:i])


def test_exact_divergences(ratios):
  found = exact(*ratios)
  assert set(KNOWN) == set(DIVERGENCES) - {'wasserstein'} == set(TRUTH) - {'accuracy'}
  for name, value in TRUTH.items():
    assert found[name] == pytest.approx(value, abs=4 * found[f'{name}_standard_error']), name
    assert 0 < found[f'{name}_standard_error'] < 0.01


def test_errors_are_those_of_repeated_draws():
  draws = [[log_ratio(of.rvs(400, random_state=2 * i + k)) for k, of in enumerate((P, Q))] for i in range(300)]
  found = [exact(*ratios) for ratios in draws]
  for name in TRUTH:
    spread = np.std([one[name] for one in found])
    assert np.mean([one[f'{name}_standard_error'] for one in found]) == pytest.approx(spread, rel=0.12), name


@pytest.mark.parametrize('name', [name for name, known in KNOWN.items() if known.optimum])
def test_the_optimal_critic_reaches_the_divergence(ratios, name):
  known, outputs = KNOWN[name], []
  for r in ratios:
    outputs.append(known.optimum(tf.constant(r[:2000] if name == 'relativistic' else r)))
  assert float(DIVERGENCES[name].value(*outputs)) == pytest.approx(TRUTH[name], abs=0.02)
  assert known.threshold in (None, pytest.approx(float(known.optimum(tf.constant(0.0)))))


@pytest.fixture(scope='module')
def other(workdir, tmp_path_factory):
  """A run on the same data that differs."""
  folder = tmp_path_factory.mktemp('other') / 'run'
  config = load_run(workdir, 'latest').config
  assert train(
    make_config(
      dataset=config.dataset, objective='mle', steps=40, **{'optimizer.learning_rate': 0.1, 'eval_every': 40}
    ),
    folder,
  )
  return folder


class Truth:
  """A critic that knows the densities."""

  trainable_variables = ()

  def __init__(self, flows, divergence):
    self.flows, self.optimum = flows, KNOWN[divergence].optimum

  def __call__(self, images, training):
    return self.optimum(self.flows.log_ratio(images))[:, tf.newaxis]


@pytest.mark.parametrize('divergence', ['jensen_shannon', 'kl', 'least_squares'])
def test_a_critic_that_knows_the_densities_sees_everything(subject, workdir, divergence):
  model, rng = Subject(load_run(workdir, 'latest')), np.random.default_rng(0)
  for variable in model.run.generator.trainable_variables:
    variable.assign_add(rng.normal(0, 0.2, variable.shape))
  flows = module._Flows(subject, model, 0)
  held_out = flows.held_out(500)
  ratios = [flows.log_ratios(images) for images in held_out]
  found = module._Trained(Truth(flows, divergence), 'pixels', divergence, flows).measure(held_out, ratios)
  truth = exact(*ratios)
  assert truth['jensen_shannon'] > 0.1
  assert found['estimate'] == pytest.approx(truth[divergence], abs=6 * truth[f'{divergence}_standard_error'])
  assert found['accuracy'] == pytest.approx(truth['accuracy'])
  assert found['rank'] == pytest.approx(1) and found['direction'] == pytest.approx(1, abs=1e-3)


def settings_for(other, sights, updates, **more):
  return Critic.Settings(
    other=str(other),
    other_checkpoint='latest',
    critics=('dense_critic',),
    sights=sights,
    updates=updates,
    held_out=500,
    **more,
  )


@pytest.mark.slow
def test_the_analysis(subject, other):
  divergences = ('jensen_shannon', 'total_variation')
  settings = settings_for(other, ('pixels', 'pixels+logits+noise'), 48, divergences=divergences)
  record, arrays = Critic().measure(subject, settings)
  rows = Critic().records(record)
  assert len(rows) == 4 and not arrays
  for label, row in rows.items():
    curve = record['critics'][label]['curve']
    assert list(curve) == ['6', '12', '24', '48'] and row['updates'] == 48
    assert row['share'] == pytest.approx(row['estimate'] / row['exact'])
    assert curve['48']['rank'] > curve['6']['rank']
    assert ('direction' in row) == ('total_variation' not in label)
  best = rows['dense_critic on pixels+logits+noise, jensen_shannon']
  assert 0 < best['share'] < 1.1 and 0.5 < best['accuracy'] <= best['exact_accuracy'] + 0.05
  run = summary('mle', studies={'critic': type('S', (), {'record': record, 'arrays': {}})()})
  assert str(other) in Critic().notes([run])[0] and set(Critic().figures([run])) == {'critic'}


@pytest.mark.slow
def test_flows_that_do_not_differ_have_no_share(subject, workdir):
  settings = settings_for(workdir, ('pixels',), 8)
  [row] = Critic().records(Critic().measure(subject, settings)[0]).values()
  assert row['exact'] == 0 and row['share'] is None and row['exact_accuracy'] == 0.5
  assert 'rank' not in row


@pytest.mark.slow
def test_with_a_label_both_flows_are_given_it(subject, tmp_path):
  config = make_config(dataset=subject.run.config.dataset, objective='mle', steps=2, condition='label')
  assert train(config, tmp_path / 'run')
  run = load_run(tmp_path / 'run', 'latest')
  flows, images = module._Flows(Subject(run, 1), subject, 0), subject.images('test', 5)
  expected = run.generator.log_prob(images, condition=np.ones(5, np.int32)) - subject.run.generator.log_prob(images)
  np.testing.assert_allclose(flows.log_ratio(images), expected, atol=1e-4)
  settings = Critic.Settings(other=str(tmp_path / 'run'), critics=('dense_critic',), sights=('noise',))
  with pytest.raises(UsageError, match='`sights` must be without noise'):
    Critic().measure(subject, settings)


def test_settings_unpack_no_pretrained_flow(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert Critic.Settings(other='pretrained:mnist').other and not (tmp_path / 'runs').exists()


def test_rejections(subject):
  for settings, message in (
    ({}, '`other` must be the folder of another run'),
    ({'other': 'missing'}, '`other`: missing: no such folder'),
    ({'other': str(subject.run.workdir), 'critics': ('dcgan',)}, '`critics` must be one of dcgan_critic, '),
  ):
    with pytest.raises(UsageError, match=message):
      Critic().check(Critic.Settings(**settings), subject.run.config, subject.dataset)
  with pytest.raises(UsageError, match='`divergences`'):
    Critic.Settings(divergences=('wasserstein',))
  with pytest.raises(UsageError, match='pixels, logits, noise'):
    Critic.Settings(sights=('pixel',))
  for name, value in (('critics', ()), ('sights', (1,)), ('divergences', [])):
    with pytest.raises(UsageError, match=f'^`{name}` must be one or more names'):
      Critic.Settings(**{name: value})


@pytest.mark.slow
def test_both_runs_need_the_same_data(subject, tmp_path):
  assert train(make_config(dataset='digits', steps=2), tmp_path / 'digits')
  with pytest.raises(UsageError, match='`other` must be a run that was trained on images'):
    Critic().measure(subject, Critic.Settings(other=str(tmp_path / 'digits')))


class Recorder:
  """A critic that keeps what it is trained on."""

  sees = 'pixels'

  def __init__(self):
    self.seen = tf.Variable(tf.zeros((2, module._BATCH, 4, 4, 1)))

  def update(self, real, fake):
    self.seen.assign(tf.stack([real, fake]))


def test_no_critic_is_measured_on_samples_that_it_was_trained_on(subject):
  """With the same seed, a batch would be the first samples of a larger one."""
  flows, recorder = module._Flows(subject, subject, seed=0), Recorder()
  assert list(module._train([recorder], flows, 1)) == [1]
  for trained, measured in zip(recorder.seen.numpy(), flows.held_out(module._MEASURED), strict=True):
    assert trained.std() > 0.1 and cdist(*(x.reshape(len(x), -1) for x in (trained, measured))).min() > 1e-3
