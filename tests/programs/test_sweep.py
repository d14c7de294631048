"""`sweep`: a run for each lambda and seed, drawn together."""

import shutil
from unittest import mock

import pytest

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import read_record, write_record
from flowgan_tf.study.summary import read_summary
from tests.programs.conftest import FAST, TINY, assert_one_line, call, flag_names, parsed_config
from tests.tiny import write_images

FLAGS = (*(flag for flag in TINY if 'objective' not in flag), '--steps=5', '--what=jacobian', '--noise_vectors=2')


def evaluation(folder, weight):
  return folder / f'lambda-{weight}-seed-0' / 'evaluation.json'


@pytest.fixture(scope='module')
def swept(tmp_path_factory, cache):
  folder = tmp_path_factory.mktemp('swept') / 'sweep'
  command = ('sweep', *FLAGS, f'--config.cache_dir={cache}', f'--workdir={folder}', '--lambdas=0,0.5,inf')
  outcome = call(*command)
  assert outcome.status == 0, outcome
  return folder, outcome, command


@pytest.mark.slow
def test_a_run_for_each_lambda(swept):
  folder, outcome, _ = swept
  objectives = {'lambda-0-seed-0': 'adversarial', 'lambda-0.5-seed-0': 'hybrid', 'lambda-inf-seed-0': 'mle'}
  for name, objective in objectives.items():
    found = read_summary(folder / name)
    assert found.config.objective == objective and 'jacobian' in found.studies
    assert (found.config['lambda'] == 0.5) == (objective == 'hybrid')
  for name in ('front.svg', 'condition_numbers.svg', 'report.html'):
    assert (folder / name).exists() and f'{folder}/{name}' in outcome.out
  lines = outcome.out.splitlines()
  start = next(i for i, line in enumerate(lines) if 'condition number' in line)
  assert [line.split('  ')[0] for line in lines[start + 2 : start + 5]] == ['MLE', 'ADV', 'Hybrid λ = 0.5']
  # Likelihoods are in the unit of the data.
  assert 'nats' in (folder / 'front.svg').read_text()


@pytest.mark.parametrize(('weight', 'objective'), [('0.5', 'hybrid'), ('inf', 'mle'), ('0', 'adversarial')])
def test_a_run_has_its_seed_and_lambda(images, tmp_path, weight, objective):
  flags = ('--nojit', f'--dataset={images}', f'--workdir={tmp_path}', f'--lambdas={weight}', '--seeds=5')
  with mock.patch('flowgan_tf.training.train', side_effect=UsageError('enough')) as begun:
    call('sweep', *flags)
  config = begun.call_args.args[0]
  assert (config.seed, config.objective) == (5, objective)
  assert (config['lambda'] == 0.5) == (objective == 'hybrid')


@pytest.mark.parametrize('weight', ['0.5', 'inf', '0'])
def test_a_run_remembers_the_flags_that_train_it_alone(images, tmp_path, weight):
  flags = ['--nojit', '--config.nice.couplings', '3', f'--dataset={images}', '--seeds=5', '--trust']
  flags += [] if weight == 'inf' else ['--config.dcgan_critic.channels=(4, 2)']
  with mock.patch('flowgan_tf.training.train', side_effect=UsageError('enough')) as begun:
    call('sweep', *flags, f'--workdir={tmp_path}', f'--lambdas={weight}')
  config, words = begun.call_args.args[0], begun.call_args.kwargs['command']
  assert words[-1] == f'--workdir={begun.call_args.args[1]}'
  names = [word.partition('=')[0] for word in words]
  assert not {'--lambdas', '--seeds', '--trust'} & {*names} and names.count('--workdir') == 1
  assert parsed_config(words) == config


@pytest.mark.slow
def test_the_same_command_again_goes_on(swept):
  """Finished runs are left alone; what is missing, stale or damaged is made again; another lambda may come to them."""
  folder, _, command = swept
  before = evaluation(folder, 0).stat().st_mtime_ns
  evaluation(folder, 'inf').unlink()
  analyses = {weight: folder / f'lambda-{weight}-seed-0' / 'analysis' / 'jacobian.json' for weight in (0, 0.5)}
  fresh = read_summary(folder / 'lambda-0-seed-0').studies['jacobian']
  write_record(analyses[0], fresh.record | {'step': 4}, fresh.arrays)  # As when a run has gone on.
  analyses[0.5].write_text('{')
  stale, _ = read_record(evaluation(folder, 0.5))
  write_record(evaluation(folder, 0.5), {'records': [record | {'step': 4} for record in stale['records']]})
  odd = folder / 'lambda-0-seed-0' / 'samples' / 'step_9999999.png'  # No reason to measure that run again.
  odd.write_text('a text')
  outcome = call(*command[:-1], '--lambdas=0,0.5,2,inf')
  odd.unlink()
  assert outcome.status == 0, outcome
  assert f'sweep: {odd}: not a readable PNG file' in outcome.err and f'{odd}: ' in (folder / 'report.html').read_text()
  assert evaluation(folder, 'inf').exists() and evaluation(folder, 2).exists() and 'λ = 2' in outcome.out
  for weight in (0, 0.5):
    study = read_summary(folder / f'lambda-{weight}-seed-0').studies['jacobian']
    assert (study.record['what'], study.record['settings']) == ('jacobian', fresh.record['settings'])
  assert read_summary(folder / 'lambda-0-seed-0').studies['jacobian'].record['step'] == fresh.record['step']
  assert read_summary(folder / 'lambda-0.5-seed-0').evaluated('latest')['step'] == 5
  assert evaluation(folder, 0).stat().st_mtime_ns > before


@pytest.mark.slow
def test_finished_runs_are_left_alone(swept, images, tmp_path):
  """Also those on images without labels, which have no scores."""
  folder, _, command = swept
  before = evaluation(folder, 'inf').stat().st_mtime_ns
  (folder / 'report.html').unlink()
  (folder / 'report.html').mkdir()
  outcome = call(*command)
  (folder / 'report.html').rmdir()
  assert outcome.status == 2 and evaluation(folder, 'inf').stat().st_mtime_ns == before
  assert outcome.err.splitlines()[-1].startswith(f'sweep: {folder}/report.html: cannot be written')
  flags = [flag for flag in FAST if 'objective' not in flag]
  command = ('sweep', *flags, f'--dataset={images}', '--lambdas=inf', '--what=', f'--workdir={tmp_path}')
  assert call(*command).status == 0
  before = evaluation(tmp_path, 'inf').stat().st_mtime_ns
  assert call(*command).status == 0
  assert evaluation(tmp_path, 'inf').stat().st_mtime_ns == before
  shutil.rmtree(tmp_path / 'lambda-inf-seed-0' / 'export')  # As after a kill before the export.
  assert call(*command).status == 0 and (tmp_path / 'lambda-inf-seed-0' / 'export').exists()
  command = (*command[:-3], '--lambdas=0.7,inf', *command[-2:])
  # Nothing is trained if a later run cannot go on.
  last = call(*command, '--batch_size=20').err.splitlines()[-1]
  assert last.startswith('sweep: ') and 'lambda-inf-seed-0' in last and 'batch_size' in last
  changed = shutil.copy(images, tmp_path / 'images.npz')
  sweep, own = tmp_path / 'of_changed', [f'--dataset={changed}' if 'dataset' in flag else flag for flag in command]
  assert call(*own[:-1], f'--workdir={sweep}', '--lambdas=inf').status == 0
  shutil.copy(write_images(tmp_path / 'others.npz', 41, (8, 8, 1)), changed)
  last = call(*own[:-1], f'--workdir={sweep}').err.splitlines()[-1]
  assert last == f'sweep: {sweep}/lambda-inf-seed-0: holds a run on other data than {changed} holds now'
  assert not [*tmp_path.glob('**/lambda-0.7*')]
  said = f'--workdir must be a folder for runs. Got: {sweep}/lambda-inf-seed-0, which is a run itself.'
  assert_one_line(call(*own[:-1], f'--workdir={sweep}/lambda-inf-seed-0'), 'sweep', said)


@pytest.mark.slow
def test_runs_that_have_begun_do_not_need_the_run_that_they_started_from(finished, tmp_path):
  start = shutil.copytree(finished[0], tmp_path / 'start')
  flags = [flag for flag in FLAGS if not flag.startswith(('--what', '--noise'))]
  command = ('sweep', *flags, '--what=', '--lambdas=0.5', f'--init_from={start}', f'--workdir={tmp_path / "sweep"}')
  assert call(*command).status == 0
  shutil.rmtree(start)
  evaluation(tmp_path / 'sweep', 0.5).unlink()
  assert call(*command).status == 0 and evaluation(tmp_path / 'sweep', 0.5).exists()


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (['--lambdas=nan'], '--lambdas must be different numbers of at least 0, or inf. Got: nan.'),
    (['--seeds=0.5'], '--seeds must be different integers from 0 to 2147483647. Got: 0.5.'),
    (['--config.seed=1'], '--seed must be left out, because sweep sets it. Got: 1.'),
    (['--generator=dcgan'], '--lambdas must be 0 for a generator without a likelihood, dcgan. Got: 0.01,0.1,1.'),
    (
      ['--lambdas=inf,0', '--config.dcgan_critic.channels=()'],
      '--config.dcgan_critic.channels must be 1 to 16 integers',
    ),
    (['--what=outliers', '--other_dataset=digits'], '--other_dataset must be a data set that'),
    (['--what=outliers', '--generator=dcgan', '--lambdas=0'], '--what must not contain outliers, which needs'),
    (
      ['--what=kde', '--condition=low_resolution:2'],
      '--what must not contain kde with condition low_resolution:2: each condition would need a window',
    ),
    (['--what=jacobian', '--noise_vectors=1000000000000'], '--noise_vectors must be an integer from 1 to 100000'),
    (['--init_from=/missing'], '/missing: no such folder'),
    (['--condition=vector'], "--condition must be something other than 'vector': digits has no array of conditions."),
    (['--condition=low_resolution:1'], "--condition must be 'label', 'vector', 'low_resolution:N' with an N of at"),
    (['--evaluate=false'], '--evaluate must be left out, because sweep sets it. Got: False.'),
    (['--ais_steps=3'], '--ais_steps must be left out, as it has no effect with --what=jacobian. Got: 3.'),
    (
      ['--generator=vectors'],
      "--lambdas=0.01,0.1,1 cannot be trained: --objective must be 'mle' with generator vectors",
    ),
    (['--strategy=multi_worker'], '--strategy must be for one machine'),
  ],
)
def test_mistakes_are_found_before_the_first_training(flags, said, tmp_path):
  assert_one_line(call('sweep', f'--workdir={tmp_path}/sweep', *flags), 'sweep', said)
  assert not (tmp_path / 'sweep').exists()


def test_the_help_leaves_out_what_the_sweep_decides():
  shown = set(flag_names('sweep'))
  assert not {'objective', 'lambda', 'seed', 'evaluate'} & shown and {'steps', 'lambdas', 'workdir'} <= shown


@pytest.mark.parametrize('generator', ['nice', 'jet'])
def test_cores_compute_parts_as_in_a_single_training(images, tmp_path, generator):
  compute_parts = mock.patch('flowgan_tf.devices.compute_parts')
  with compute_parts as begun, mock.patch('flowgan_tf.training.train', side_effect=UsageError('enough')):
    call('sweep', f'--generator={generator}', '--nojit', f'--dataset={images}', f'--workdir={tmp_path}')
  assert begun.called == (generator == 'jet')


def test_lambdas_that_look_alike_have_folders_of_their_own(images, tmp_path):
  with mock.patch('flowgan_tf.training.train', side_effect=UsageError('enough')):
    flags = ('--lambdas=0.1,0.10000001', f'--dataset={images}', f'--workdir={tmp_path}')
    assert f'{tmp_path}/lambda-0.1-seed-0 (1 of 2)' in call('sweep', *flags).err
