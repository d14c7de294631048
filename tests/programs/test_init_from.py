"""--init_from: a training that starts from another run."""

import json
import shutil
import signal

import pytest

from flowgan_tf.runs.folder import read_description
from flowgan_tf.runs.log import read_metrics
from tests.programs.conftest import TINY, assert_one_line, call, call_outside, parsed_config
from tests.programs.test_resume import SIGNAL_AFTER, assert_same, newest
from tests.tiny import write_images

# All that a training which goes on from maximum likelihood uses.
RECIPE = (
  *TINY,
  '--divergence=relativistic',
  '--critic_steps=1',
  '--steps=12',
  '--config.reuse_batch=True',
  '--config.critic_warmup=3',
  '--config.penalty_interval=2',
  '--config.final_lambda=0.01',
  '--config.optimizer.warmup_steps=4',
  '--config.critic_optimizer.warmup_steps=2',
  '--config.optimizer.schedule=cosine',
)


@pytest.mark.parametrize(
  ('given', 'expected'),
  [('runs/a', '/cwd/runs/a'), ('../b/', '/b'), ('~/runs/a', '/home/runs/a'), ('/elsewhere/a', '/elsewhere/a')],
)
def test_paths_are_made_absolute(given, expected, tmp_path, monkeypatch):
  (tmp_path / 'cwd').mkdir()
  monkeypatch.chdir(tmp_path / 'cwd')
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  found = parsed_config([f'--init_from={given}']).init_from
  assert found == (expected if given.startswith('/') else f'{tmp_path}{expected}')


def test_none_is_the_default(tmp_path):
  assert parsed_config([]).init_from == parsed_config(['--init_from=']).init_from == ''


@pytest.fixture
def runs(tmp_path, finished):
  """What may be named: a flow, and folders that are no run."""
  runs = tmp_path / 'runs'
  (runs / 'flow').symlink_to(finished[0])
  (runs / 'empty').mkdir()
  shutil.copytree(finished[0], runs / 'young')
  shutil.rmtree(runs / 'young' / 'checkpoints')
  shutil.copytree(finished[0], runs / 'damaged')
  file = newest(runs / 'damaged', 'best_nll').with_suffix('.data-00000-of-00001')
  file.write_bytes(file.read_bytes()[:-200])
  return runs


@pytest.mark.parametrize(
  ('name', 'flags', 'parts'),
  [
    ('none', [], ['--init_from: ', '/runs/none: no such folder']),
    ('empty', [], ['--init_from: ', '/runs/empty: holds no config.json, so it is not the folder of a training']),
    ('young', [], ['--init_from: ', '/runs/young: has no checkpoint yet']),
    ('damaged', [], ['--init_from: ', 'the checkpoint is damaged']),
    ('flow', ['--config.nice.hidden_units=17'], ['nice.hidden_units is 16 instead of 17.']),
    ('flow', ['--config.nice.prior=normal'], ['nice.prior is logistic instead of normal.']),
    (
      'flow',
      ['--generator=real_nvp', '--config.real_nvp.channels=2', '--config.real_nvp.blocks=1'],
      ['generator is nice instead of real_nvp.'],
    ),
    ('flow', ['--generator=dcgan', '--objective=adversarial'], ['generator is nice instead of dcgan.']),
    ('flow', ['--dataset=IMAGES'], ['image_shape is (8, 8, 1) instead of (8, 6, 1).']),
  ],
)
def test_what_cannot_be_a_start_is_refused_before_anything_is_made(runs, tmp_path, name, flags, parts):
  if '--dataset=IMAGES' in flags:
    flags = [f'--dataset={write_images(tmp_path / "images.npz", shape=(8, 6, 1))}']
  outcome = call('train', *TINY, f'--init_from={runs / name}', *flags, f'--workdir={tmp_path / "run"}')
  if len(parts) == 1:
    parts = [f'--init_from must be a run with the same generator. Got: {runs / name}, whose ', *parts]
  assert_one_line(outcome, 'train', *parts)
  assert not (tmp_path / 'run').exists()


@pytest.fixture(scope='module')
def recipe(tmp_path_factory, finished, cache):
  """The recipe in one go, and killed and resumed without the run that it starts from; and how each part ended."""
  folder = tmp_path_factory.mktemp('recipe')
  source = shutil.copytree(finished[0], folder / 'source')
  flags = (*RECIPE, f'--config.cache_dir={cache}', f'--init_from={source}')
  ends = [call('train', *flags, f'--workdir={folder / "whole"}')]
  prelude = SIGNAL_AFTER.format(count=8, number=int(signal.SIGKILL))
  ends.append(call_outside('train', *flags, f'--workdir={folder / "parts"}', prelude=prelude))
  source.rename(folder / 'moved')
  ends.append(call('train', *flags, f'--workdir={folder / "parts"}'))
  return folder, source, ends


def test_a_killed_training_goes_on_bit_for_bit_and_without_the_run_that_it_started_from(recipe):
  folder, _, (whole, killed, resumed) = recipe
  assert whole.status == 0, whole
  assert killed.status == -signal.SIGKILL, killed
  assert resumed.status == 0, resumed
  assert f'Resuming at step 5 of 12 in {folder}/parts.' in resumed.err and 'starts from' not in resumed.err
  assert_same(folder / 'whole', folder / 'parts')
  assert read_description(folder / 'whole').init == read_description(folder / 'parts').init


def test_what_is_said_of_the_start(recipe, finished):
  folder, source, (whole, *_) = recipe
  last = json.loads((finished[0] / 'evaluation.json').read_text())['records']
  step = next(record['step'] for record in last if record['checkpoint'] == 'best_nll')
  assert f'The generator starts from {source}, checkpoint best_nll, step {step}.\n' in whole.err
  validations = [record for record in read_metrics(folder / 'whole') if record['kind'] == 'validation']
  best = min(record['nll'] for record in read_metrics(finished[0]) if record['kind'] == 'validation' and record['step'])
  # The curve begins where the other ended, and a critic that is warmed up alone leaves the flow as it is.
  assert [record['step'] for record in validations] == [0, 5, 10, 12]
  assert validations[0]['nll'] == pytest.approx(best)
  warmup = [record for record in read_metrics(folder / 'whole') if record['kind'] == 'train'][:3]
  assert all('critic_gap' in record and 'nll' not in record for record in warmup)


def test_the_report_names_the_start(recipe):
  folder, source, _ = recipe
  page = folder / 'page.html'
  outcome = call('report', folder / 'whole', f'--out={page}')
  assert outcome.status == 0 and outcome.err == '', outcome
  text = page.read_text()
  assert 'starts from' in text and 'source, iteration ' in text and f'--init_from={source}' in text
  assert 'Hybrid λ = 0.1 to 0.01 relativistic' in text


def test_a_run_that_has_another_start_is_refused(recipe, cache):
  folder, _, _ = recipe
  flags = (*RECIPE, f'--config.cache_dir={cache}', f'--workdir={folder / "whole"}')
  outcome = call('train', *flags, f'--init_from={folder / "moved"}')
  assert_one_line(outcome, 'train', 'another configuration', f'init_from {folder}/source -> {folder}/moved')
