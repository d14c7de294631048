"""A generator without a likelihood, from training to export, through the programs."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.programs.conftest import assert_one_line, call

FLAGS = (
  '--generator=dcgan',
  '--objective=adversarial',
  '--divergence=jensen_shannon',
  '--batch_size=8',
  '--critic_steps=2',
  '--steps=4',
  '--samples=40',
  '--config.dcgan.channels=(8, 4)',
  '--config.dcgan_critic.channels=(4,)',
  '--config.dcgan_critic.dense_units=8',
  '--config.log_every=1',
  '--config.eval_every=2',
  '--config.score_samples=64',
)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, cache):
  workdir = tmp_path_factory.mktemp('dcgan') / 'run'
  outcome = call('train', *FLAGS, f'--config.cache_dir={cache}', f'--workdir={workdir}')
  assert outcome.status == 0, outcome
  return workdir, outcome


def test_training_scores_and_selects_by_score(trained):
  workdir, outcome = trained
  assert 'no likelihood: the generator is not invertible' in outcome.out
  assert 'NLL' not in outcome.out and 'FID' in outcome.out
  assert {f.name for f in (workdir / 'checkpoints').iterdir()} == {'latest', 'best_score'}
  [record, *_] = json.loads((workdir / 'evaluation.json').read_text())['records']
  assert record['score_samples'] == 40 and record['inception_score'] >= 1
  assert 'nll' not in record and 'round_trip_error' not in record


def test_evaluation_has_no_likelihood_and_says_why(trained):
  workdir, _ = trained
  outcome = call('evaluate', workdir, '--samples=40')
  assert outcome.status == 0 and 'no likelihood' in outcome.out
  assert_one_line(call('evaluate', workdir, '--float64'), 'evaluate', 'float64', 'dcgan', 'has no likelihood')


@pytest.mark.parametrize('flags', [[], ['--interpolate'], ['--neighbors']])
def test_pictures(trained, tmp_path, flags):
  assert call('sample', trained[0], '--n=4', f'--out={tmp_path}/x', *flags).status == 0
  with np.load(tmp_path / 'x.npz') as arrays:
    assert arrays['images'].shape == arrays['noise'].shape
    assert 0 <= arrays['images'].min() < arrays['images'].max() <= 1


def test_the_saved_model_samples_and_decodes(trained):
  model = tf.saved_model.load(str(trained[0] / 'export'))
  assert set(model.signatures) == {'sample', 'decode'}
  assert model.sample(n=3).shape == (3, 8, 8, 1)
  assert not hasattr(model, 'log_prob')
