"""`train`: a run, its evaluation and its export; folders that cannot be a run; generators and starts of other kinds."""

import re
import shlex
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.evaluation.results import read_evaluation
from flowgan_tf.runs.config import training_changes
from flowgan_tf.runs.folder import read_description
from flowgan_tf.training import TrainingDiverged
from tests.programs.conftest import FAST, TINY, assert_one_line, call, parsed_config


def test_a_finished_run(finished):
  workdir, outcome = finished
  names = {'checkpoints', 'config.json', 'evaluation.json', 'export', 'metrics.jsonl', 'samples', 'tensorboard'}
  assert {file.name for file in workdir.iterdir()} >= names
  config = read_description(workdir).config
  assert (config.objective, config['lambda'], config.steps, config.dataset) == ('hybrid', 0.1, 20, 'digits')
  assert (config.nice.hidden_units, config.batch_size, config.jit) == (16, 50, False)
  records = read_evaluation(workdir)
  assert [record['checkpoint'] for record in records] == ['latest', 'best_nll', 'best_score']
  for record in records:
    assert record['checkpoint'] in outcome.out
    # The digits have 17 levels.
    assert record['bits_per_dim'] == pytest.approx(record['nll'] / (64 * np.log(2)) + np.log2(17))
    assert (record['n'], record['score_samples']) == (180, 50)
  assert re.search(r'nice: [\d,]+ parameters\.\ncritic: [\d,]+ parameters\.\n', outcome.err)
  *_, metrics, board, model = outcome.out.splitlines()
  assert metrics == f'metrics      {workdir}/metrics.jsonl'
  assert board == f'TensorBoard  tensorboard --logdir {workdir}/tensorboard'
  assert model == f'SavedModel   {workdir}/export  (checkpoint best_nll)'


@pytest.mark.parametrize('flag', ['--trust', '-trust', '--trust=true'])
def test_a_run_does_not_remember_that_it_was_trusted(flag, tmp_path, monkeypatch):
  train = mock.Mock(side_effect=UsageError('enough'))
  monkeypatch.setattr('flowgan_tf.training.train', train)
  call('train', *TINY, flag, f'--workdir={tmp_path}/run')
  assert train.call_args.kwargs['command'] == [*TINY, f'--workdir={tmp_path}/run']


def test_the_folder_of_another_run_is_rejected(tmp_path, finished, cache):
  workdir, _ = finished
  config = (workdir / 'config.json').read_bytes()
  for flags in (['--lambda=0.5'], [*TINY, f'--config.cache_dir={cache}', '--steps=20', '--lambda=0.5']):
    outcome = call('train', *flags, f'--workdir={workdir}')
    assert_one_line(outcome, 'train', str(workdir), '(lambda 0.1 -> 0.5)', 'use another --workdir, or the command of ')
    *_, command = outcome.err.partition(': bin/train ')
    assert training_changes(parsed_config(shlex.split(command)), read_description(workdir).config) == {}
  assert (workdir / 'config.json').read_bytes() == config


def test_a_training_that_diverges_is_one_line_and_exit_status_1(images, monkeypatch):
  error = TrainingDiverged("not finite at step 2: the last good one is kept, or `on_nan` 'rollback'")
  monkeypatch.setattr('flowgan_tf.training.train', mock.Mock(side_effect=error))
  outcome = call('train', *FAST, '--config=configs/digits.py', f'--dataset={images}')
  said = "train: not finite at step 2: the last good one is kept, or --on_nan 'rollback'\n"
  assert outcome == (1, '', said)


def test_folders_are_named_after_the_data_and_the_objective(images, monkeypatch):
  train = mock.Mock(side_effect=UsageError('enough'))
  monkeypatch.setattr('flowgan_tf.training.train', train)
  for flags, name in (
    (['--lambda=0.10000001'], 'hybrid-0.10000001'),
    (['--objective=mle'], 'mle'),
    (['--condition=label'], 'mle-label'),
    (['--lambda=1', '--condition=low_resolution:4'], 'hybrid-1-low_resolution-4'),
  ):
    call('train', f'--dataset={images}', *flags)
    assert str(train.call_args.args[1]) == f'runs/images-{name}'


@pytest.mark.slow
def test_a_generator_without_a_likelihood(tmp_path, cache):
  workdir = tmp_path / 'run'
  flags = """--generator=dcgan --objective=adversarial --divergence=jensen_shannon --batch_size=8 --critic_steps=2
    --steps=2 --samples=40 --config.dcgan.channels='(8, 4)' --config.eval_every=1 --config.score_samples=64
    --config.dcgan_critic.channels=(4,) --config.dcgan_critic.dense_units=8"""
  outcome = call('train', *shlex.split(flags), f'--config.cache_dir={cache}', f'--workdir={workdir}')
  assert outcome.status == 0, outcome
  assert 'no likelihood: the generator is not invertible' in outcome.out
  assert 'NLL' not in outcome.out and 'FID' in outcome.out
  assert {file.name for file in (workdir / 'checkpoints').iterdir()} == {'latest', 'best_score'}
  record, *_ = read_evaluation(workdir)
  assert record['score_samples'] == 40 and record['inception_score'] >= 1 and 'nll' not in record
  assert_one_line(call('evaluate', workdir, '--float64'), 'evaluate', '--float64 must be False, as dcgan of ')
  outcome = call('analyze', workdir, '--what=outliers')
  assert_one_line(outcome, 'analyze', f'{workdir}: outliers needs a likelihood, which generator dcgan does not have')
  model = tf.saved_model.load(str(workdir / 'export'))
  assert set(model.signatures) == {'sample', 'decode'} and not hasattr(model, 'log_prob')
  for flags in ([], ['--interpolate'], ['--neighbors']):
    assert call('sample', workdir, '--n=2', f'--out={tmp_path}/x', *flags).status == 0
    with np.load(tmp_path / 'x.npz') as arrays:
      assert arrays['images'].shape == arrays['noise'].shape
      assert 0 <= arrays['images'].min() < arrays['images'].max() <= 1
