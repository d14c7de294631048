"""`sweep`: a run for each lambda and seed, drawn together."""

import json
from unittest import mock

import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.files import write_record
from flowgan_tf.report import commands
from flowgan_tf.study.summary import read_summary
from tests.programs.conftest import TINY, assert_one_line, call

FLAGS = (*TINY[1:], '--steps=5', '--what=jacobian')


@pytest.fixture(scope='module')
def swept(tmp_path_factory, cache):
  folder = tmp_path_factory.mktemp('swept') / 'sweep'
  command = ('sweep', *FLAGS, f'--config.cache_dir={cache}', f'--workdir={folder}', '--lambdas=0,0.5,inf')
  outcome = call(*command)
  assert outcome.status == 0, outcome
  return folder, outcome, command


def test_a_run_for_each_lambda(swept):
  folder, outcome, _ = swept
  objectives = {'lambda-0-seed-0': 'adversarial', 'lambda-0.5-seed-0': 'hybrid', 'lambda-inf-seed-0': 'mle'}
  for name, objective in objectives.items():
    config = json.loads((folder / name / 'config.json').read_text())['config']
    assert config['objective'] == objective
    assert (config['lambda'] == 0.5) == (objective == 'hybrid')
    assert (folder / name / 'analysis' / 'jacobian.json').exists()
  for name in ('front.svg', 'condition_numbers.svg', 'report.html'):
    assert (folder / name).exists() and f'{folder}/{name}' in outcome.out
  lines = outcome.out.splitlines()
  start = next(i for i, line in enumerate(lines) if 'condition number' in line)
  assert [line.split('  ')[0] for line in lines[start + 2 : start + 5]] == ['MLE', 'ADV', 'Hybrid λ = 0.5']


def test_the_same_command_again_goes_on(swept):
  """Finished runs are left alone, an unfinished one is completed, and another lambda may come to them."""
  folder, _, command = swept
  kept = folder / 'lambda-0-seed-0' / 'evaluation.json'
  before = kept.stat().st_mtime_ns
  (folder / 'lambda-inf-seed-0' / 'evaluation.json').unlink()
  odd = folder / 'lambda-0-seed-0' / 'samples' / 'step_9999999.png'  # No reason to measure that run again.
  odd.write_text('a text')
  outcome = call(*command[:-1], '--lambdas=0,0.5,2,inf')
  odd.unlink()
  assert outcome.status == 0, outcome
  assert f'sweep: {odd}: not a readable PNG file' in outcome.err and f'{odd}: ' in (folder / 'report.html').read_text()
  assert kept.stat().st_mtime_ns == before
  assert (folder / 'lambda-inf-seed-0' / 'evaluation.json').exists()
  assert (folder / 'lambda-2-seed-0' / 'evaluation.json').exists()
  assert 'λ = 2' in outcome.out


@pytest.mark.parametrize('change', [{'step': 4}, {'settings': {'seed': 0, 'noise_vectors': 3}}])
def test_stale_analyses_are_made_again(swept, change):
  """Those of an earlier step, which stay when a run goes on, and those that look at less."""
  folder, _, command = swept
  run = folder / 'lambda-0-seed-0'
  fresh, other = read_summary(run).studies['jacobian'], folder / 'lambda-inf-seed-0' / 'analysis' / 'jacobian.json'
  write_record(run / 'analysis' / 'jacobian.json', fresh.record | change, fresh.arrays)
  before = other.stat().st_mtime_ns
  assert call(*command).status == 0
  again = read_summary(run).studies['jacobian']
  assert {name: again.record[name] for name in change} == {name: fresh.record[name] for name in change}
  assert other.stat().st_mtime_ns == before


def test_a_damaged_analysis_is_made_again(swept):
  folder, _, command = swept
  path = folder / 'lambda-0-seed-0' / 'analysis' / 'jacobian.json'
  path.write_text('{')
  outcome = call(*command)
  assert outcome.status == 0, outcome
  assert read_summary(path.parent.parent).studies['jacobian'].record['what'] == 'jacobian'


def test_runs_on_images_without_labels_are_finished_too(images, tmp_path):
  command = ('sweep', *FLAGS, f'--dataset={images}', '--lambdas=inf', f'--workdir={tmp_path / "sweep"}')
  assert call(*command).status == 0
  kept = tmp_path / 'sweep' / 'lambda-inf-seed-0' / 'evaluation.json'
  before = kept.stat().st_mtime_ns
  assert call(*command).status == 0
  assert kept.stat().st_mtime_ns == before


def test_a_page_that_cannot_be_written_is_one_line(swept):
  folder, _, command = swept
  (folder / 'report.html').rename(folder / 'kept.html')
  (folder / 'report.html').mkdir()
  outcome = call(*command)
  (folder / 'report.html').rmdir()
  (folder / 'kept.html').rename(folder / 'report.html')
  assert outcome.status == 2
  assert outcome.err.splitlines()[-1].startswith(f'sweep: {folder}/report.html: cannot be written')


def test_another_configuration_is_refused(swept):
  _, _, command = swept
  outcome = call(*command, '--batch_size=20')
  last = outcome.err.splitlines()[-1]
  assert outcome.status == 2 and last.startswith('sweep: ') and 'lambda-0-seed-0' in last and 'batch_size' in last


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (['--lambdas=-1'], ['--lambdas must be', 'at least 0', '-1']),
    (['--lambdas=nan'], ['--lambdas must be', 'nan']),
    (['--lambdas=0.1,a'], ['--lambdas must be', '0.1,a']),
    (['--lambdas=1,1.0'], ['different']),
    (['--seeds=0.5'], ['--seeds must be', 'integers', '0.5']),
    (['--lambda=1'], ['--lambda', '--lambdas']),
    (['--objective=mle'], ['--objective', '--lambdas']),
    (['--seed=1'], ['--seed', '--seeds']),
    (['--what=guess'], ["'guess'"]),
    (['--generator=dcgan'], ['dcgan']),
    (['runs/mnist'], ['runs/mnist']),
    (['--divergence=foo'], ['--divergence must be one of', "'foo'"]),
    (['--lambdas=1e300'], ['--lambda must be']),
    (['--lambdas=1,1e-300'], ['--lambda must be 0 or a finite number', '1e-300']),
    (['--lambdas=inf,0', '--config.dcgan_critic.channels=()'], ['dcgan_critic.channels']),
    (['--what=outliers', '--other_dataset=/nope'], ['--other_dataset must be', "'/nope'"]),
    (['--what=outliers', '--other_dataset=digits'], ['--other_dataset must be another data set', 'the same data']),
    (['--what=outliers', '--generator=dcgan', '--lambdas=0'], ['--what must be without outliers', 'dcgan']),
    (['--what=kde,jacobian', '--noise_vectors=1000000000000'], ['--noise_vectors must be an integer from 1 to 100000']),
    (['--workdir='], ['--workdir', 'must be a path']),
  ],
)
def test_mistakes_are_found_before_the_first_training(flags, said, tmp_path):
  assert_one_line(call('sweep', f'--workdir={tmp_path}/sweep', *flags), 'sweep', *said)
  assert not (tmp_path / 'sweep').exists()


def test_lambdas_that_look_alike_have_folders_of_their_own(images, tmp_path):
  with mock.patch('flowgan_tf.training.loop.train', side_effect=UsageError('enough')):
    flags = ('--lambdas=0.1,0.10000001', f'--dataset={images}', f'--workdir={tmp_path}')
    assert f'{tmp_path}/lambda-0.1-seed-0 (1 of 2)' in call('sweep', *flags).err
  assert commands.short(0.10000001) != commands.short(0.1)


def test_likelihoods_are_in_the_unit_of_the_data(swept, monkeypatch):
  """That of the paper's table for CIFAR-10."""
  folder, _, command = swept
  before = (folder / 'front.svg').read_text()
  monkeypatch.setattr('flowgan_tf.report.paper._IN_BITS', {'digits'})
  assert call(*command).status == 0
  after = (folder / 'front.svg').read_text()
  assert 'nats' in before and 'bits/dim' not in before and 'bits/dim' in after and 'nats' not in after
