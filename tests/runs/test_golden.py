"""Runs of older versions load, resume and report, with the numbers that they recorded."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.evaluation.evaluate import Evaluator, read_evaluation
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import default_config, settings
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.runs.run import describe_run, load_run, make_objective
from flowgan_tf.runs.workdir import open_workdir
from flowgan_tf.study.summary import read_summary
from flowgan_tf.training.loop import train
from flowgan_tf.training.state import TrainState

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden'


@pytest.fixture
def golden(tmp_path):
  """Copies, since loading makes folders writable and training goes on in them."""
  return pathlib.Path(shutil.copytree(GOLDEN, tmp_path / 'golden'))


@pytest.mark.parametrize(
  ('name', 'checkpoint'),
  [
    ('nice', 'best_nll'),
    ('nice', 'best_score'),
    ('real_nvp', 'latest'),
    ('sealed', 'best_nll'),
    ('sealed', 'best_score'),
  ],
)
def test_the_likelihood_is_the_recorded_one(golden, name, checkpoint):
  run = load_run(golden / name, checkpoint)
  [recorded] = [record for record in read_evaluation(golden / name) if record['checkpoint'] == checkpoint]
  found = Evaluator(run.generator, data.load('digits'), run.config).likelihood('test')
  assert run.step == recorded['step']
  np.testing.assert_allclose(found.nll, recorded['nll'], atol=1e-4)


def test_a_generator_without_a_density_is_restored(golden):
  run = load_run(golden / 'dcgan')
  assert run.step == 6
  # N(0, 0.02^2) is what weights start from: a generator that was not restored has no running means.
  means = [v for v in run.generator.variables if 'moving_mean' in v.name]
  assert means and all(np.abs(mean.numpy()).max() > 0 for mean in means)


def test_training_goes_on(golden):
  name = 'dcgan'  # which was trained without scores, that is without a classifier of its own version
  config, _ = describe_run(golden / name)
  config.steps = 8
  before = read_metrics(golden / name)
  assert train(config, golden / name)
  after = read_metrics(golden / name)
  assert after[: len(before)] == before and after[-1]['step'] == 8


def test_a_training_can_start_from_an_old_run(golden, tmp_path):
  config, _ = describe_run(golden / 'nice')
  config.update({'init_from': str(golden / 'nice'), 'objective': 'mle', 'steps': 1, 'score_samples': 0})
  assert train(config, tmp_path / 'run')
  lowest = min(r['nll'] for r in read_metrics(golden / 'nice') if r['kind'] == 'validation' and r['step'])
  assert read_metrics(tmp_path / 'run')[0]['nll'] == pytest.approx(lowest, abs=1e-3)


@pytest.mark.parametrize('name', ['nice', 'real_nvp', 'dcgan', 'sealed'])
def test_settings_that_came_later_are_as_if_they_were_not_there(golden, name):
  found, defaults = settings(describe_run(golden / name)[0]), settings(default_config())
  later = ['final_lambda', 'penalty', 'penalty_interval', 'critic_warmup', 'init_from', 'pseudo_labels']
  later += ['optimizer.warmup_steps', 'critic_optimizer.warmup_steps']
  assert {key: found[key] for key in later} == {key: defaults[key] for key in later}


@pytest.mark.parametrize(
  ('name', 'block'),
  [
    ('nice', {'couplings': 2, 'hidden_units': 8, 'hidden_layers': 1, 'initial_weights': 'zero_output'}),
    (
      'real_nvp',
      {
        'scales': 2,
        'channels': 2,
        'blocks': 1,
        'architecture': 'preactivation',
        'batch_norm_between': False,
        'log_scale_bound': 2.0,
      },
    ),
    ('dcgan', {'channels': (2, 2)}),
  ],
)
def test_settings_of_version_1_are_those_of_the_builders(golden, name, block):
  """The prior of all three, and the norm of the flows, were not what the builders have as defaults."""
  config, _ = describe_run(golden / name)
  common = {'prior': 'logistic'}
  if name != 'dcgan':
    common |= {'components': 1, 'normalization': 'layer', 'alpha': 1e-7}
  assert config.generator == name and config[name].to_dict() == common | block
  assert config.critic == 'dcgan_critic'
  assert config.dcgan_critic.to_dict() == {'channels': (2,), 'dense_units': 4, 'layer_norm': False}


def test_analyses_are_read(golden):
  studies = read_summary(golden / 'nice').studies
  study = studies['jacobian']
  assert study.record['step'] == 3
  assert study.arrays['singular_values'].shape == (2, 64)
  assert studies['kde'].record['n_samples'] == 50


@pytest.mark.parametrize('name', ['nice', 'real_nvp', 'dcgan', 'sealed'])
def test_metrics_are_read_without_a_warning(golden, name, caplog):
  records = read_metrics(golden / name)
  assert [(r['kind'], r['step']) for r in records] == [
    ('validation', 0),
    ('train', 2),
    ('validation', 3),
    ('train', 4),
    ('train', 6),
    ('validation', 6),
  ]
  assert caplog.messages == []


def test_the_whole_state_of_a_sealed_run_is_restored(golden, caplog):
  """As for going on, which would want a classifier of that version."""
  config, facts = describe_run(golden / 'sealed')
  assert open_workdir(golden / 'sealed', config, data.load('digits')) == golden / 'sealed'
  state = TrainState(config, facts['image_shape'], make_objective(config))
  assert Checkpoints(golden / 'sealed', state.checkpoint()).restore()
  lowest = min(r['nll'] for r in read_metrics(golden / 'sealed') if r['kind'] == 'validation')
  assert (int(state.step), float(state.best_nll)) == (6, pytest.approx(lowest))
  for restored, best in zip(state.ema.variables, load_run(golden / 'sealed').generator.variables, strict=True):
    np.testing.assert_array_equal(restored.numpy(), best.numpy())
  assert caplog.messages == []


def test_analyses_of_a_sealed_run_are_read(golden):
  studies = read_summary(golden / 'sealed').studies
  assert studies.keys() == {'jacobian', 'kde', 'outliers'}
  assert {study.record['step'] for study in studies.values()} == {3}
  assert studies['jacobian'].arrays['singular_values'].shape == (2, 64)
  assert studies['kde'].record['n_samples'] == 50


def test_a_saved_model_gives_the_recorded_numbers(golden, tmp_path):
  shutil.unpack_archive(golden / 'sealed' / 'saved_model.zip', tmp_path / 'export')
  model = tf.saved_model.load(tmp_path / 'export')
  with np.load(golden / 'sealed' / 'saved_model.npz') as recorded:
    images, noise = recorded['images'], recorded['noise']
    found = {'log_prob': model.log_prob(images), 'encoded': model.encode(images), 'decoded': model.decode(noise)}
    found['sampled'] = model.sample(n=2, seed=3, temperature=0.7)
    for name, value in found.items():
      np.testing.assert_allclose(value, recorded[name], rtol=1e-4, atol=1e-4, err_msg=name)
    # The run's generator is the same model.
    np.testing.assert_allclose(load_run(golden / 'sealed').generator.log_prob(images), found['log_prob'], atol=1e-4)
