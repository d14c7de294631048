"""Runs that an attacker made: no program executes what they name, and none reads or writes outside of them.

`write_record` makes their hashes, which need no key.
"""

import html
import json
import os
import pathlib
import re
import shutil
import sys

import numpy as np
import pytest

import flowgan_tf as fg
from flowgan_tf import data
from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import write_record
from flowgan_tf.report.page import render
from flowgan_tf.report.sections import make_report
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import run_identity
from flowgan_tf.runs.folder import open_workdir
from tests.programs.conftest import assert_one_line, call, call_outside
from tests.tiny import edit_record, make_config, make_state

DOORS = {
  'report': lambda run: call('report', run),
  'sample': lambda run: call('sample', run, '--n=2'),
  'evaluate': lambda run: call('evaluate', run, '--samples=0'),
  'analyze': lambda run: call('analyze', run, '--what=kde', '--samples=50'),
  'export': lambda run: call('export', run),
  'train': lambda run: call('train', f'--workdir={run}'),
  'load_run': fg.runs.load_run,
}
CODE = """
open({ran!r}, 'a').write('x')
def part(*args, **kwargs):
  open({ran!r}, 'a').write('y')
"""


def make_run(workdir, **settings):
  """Makes a run of the digits whose record and checkpoint have other settings."""
  config, dataset = make_config(objective='mle', dataset='digits', steps=6, evaluate=False), data.load('digits')
  open_workdir(workdir, config, dataset)
  state = make_state(config, dataset.image_shape)
  state.step.assign(6)
  identity = run_identity(config, dataset.fingerprint) | settings
  Checkpoints(workdir, state.checkpoint(), identity).save('latest')
  (workdir / 'metrics.jsonl').touch()
  edit_record(workdir / 'config.json', lambda record: record['config'].update(settings))
  return workdir


@pytest.fixture(scope='module')
def honest(tmp_path_factory):
  return make_run(tmp_path_factory.mktemp('honest') / 'run')


@pytest.fixture
def run(honest, tmp_path, monkeypatch):
  """A run in a folder with a module `evil_parts`, which is also where the programs are called."""
  (tmp_path / 'evil_parts.py').write_text(CODE.format(ran=str(tmp_path / 'ran')))
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', sys.path[:])
  yield pathlib.Path(shutil.copytree(honest, tmp_path / 'run'))
  sys.modules.pop('evil_parts', None)


def is_rejected(door: str, run: pathlib.Path) -> str:
  """Returns the line with which a door ends; an empty text if it does its work."""
  if door == 'load_run':
    try:
      fg.runs.load_run(run)
    except UsageError as error:
      return str(error)
    return ''
  outcome = DOORS[door](run)
  if outcome.status == 0:
    return ''
  assert_one_line(outcome, door)
  return outcome.err


@pytest.mark.parametrize('folder', [False, True], ids=['in_the_working_directory', 'in_a_folder_of_the_record'])
@pytest.mark.parametrize('name', ['terms', 'generator', 'critic', 'divergence', 'dataset'])
def test_nothing_that_a_record_names_is_imported(run, name, folder):
  def forge(record):
    record['config'][name] = ['evil_parts:part'] if name == 'terms' else 'evil_parts:part'
    if folder:
      record['plugins'] = {'evil_parts': str(run.parent)}

  edit_record(run / 'config.json', forge)
  before = sys.path[:]
  for door in DOORS:
    line = is_rejected(door, run)
    if door == 'report':
      assert not line
    else:
      assert 'names code to import (evil_parts:part' in line and 'trust' in line, (door, line)
    assert 'evil_parts' not in sys.modules and not (run.parent / 'ran').exists() and sys.path == before, door


def test_no_door_of_a_run_searches_the_working_directory(run):
  before = sys.path[:]
  for door in DOORS:
    assert is_rejected(door, run) == '' and sys.path == before, door


@pytest.mark.slow
def test_matplotlib_obeys_no_file_of_the_working_directory(run):
  """LaTeX would read a file of the user, and a page would show it."""
  lines = [{'kind': 'validation', 'step': step, 'seconds': 1.0, 'nll': -1.0 * step} for step in range(3)]
  (run / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
  (run.parent / 'matplotlibrc').write_text('text.usetex: True\n\x1b[31m: 3\n')
  outcome = call_outside('report', run)
  assert outcome.status == 0 and 'matplotlibrc' not in outcome.err, outcome
  assert 'Lines of NLL' in (run / 'report.html').read_text()


def test_a_report_imports_no_analysis(run):
  written = {'what': 'evil', 'plugin': 'evil_parts:part', 'folder': str(run.parent), 'checkpoint': 'latest', 'step': 6}
  write_record(run / 'analysis' / 'evil.json', written | {'settings': {}, 'seconds': 0.1, 'mean': 0.25})
  assert is_rejected('report', run) == ''
  assert 'evil_parts' not in sys.modules and not (run.parent / 'ran').exists()
  assert 'Numbers of evil_parts:part' in (run / 'report.html').read_text()


def test_no_place_of_a_record_is_read_or_made(run, tmp_path, monkeypatch):
  """TFDS would import the class that a features.json names; a cache that came with the run would be believed."""
  features = tmp_path / 'tfds' / 'mnist' / '3.0.1' / 'features.json'
  features.parent.mkdir(parents=True)
  features.write_text('{"pythonClassName": "evil_parts.part"}')
  (features.parent / 'dataset_info.json').write_text('{}')
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'none'))
  monkeypatch.setattr('flowgan_tf.data.tfds.host_answers', lambda url: False)
  places = {'data_dir': f'{tmp_path}/tfds', 'cache_dir': f'{tmp_path}/cache', 'inception_weights': f'{tmp_path}/w.h5'}
  edit_record(run / 'config.json', lambda record: record['config'].update(places))
  assert is_rejected('evaluate', run) == ''
  assert not (tmp_path / 'cache').exists()
  config = fg.runs.load_run(run).config
  assert [config[name] for name in places] == ['', '', '']
  edit_record(run / 'config.json', lambda record: record['config'].update(dataset='mnist'))
  shutil.rmtree(run / 'checkpoints')
  assert f'run: names {tmp_path}/tfds, {tmp_path}/cache, {tmp_path}/w.h5, and is not one of' in is_rejected(
    'train', run
  )
  assert 'evil_parts' not in sys.modules and not (tmp_path / 'ran').exists()


def test_data_that_a_record_names_by_its_path_are_not_read(tmp_path):
  np.savez(tmp_path / 'private.npz', images=np.zeros((30, 8, 8, 1), np.uint8))
  run = make_run(tmp_path / 'run', dataset=str(tmp_path / 'private.npz'))
  for door in ('evaluate', 'analyze', 'train'):
    assert f'{tmp_path}/private.npz, and is not one of your runs' in is_rejected(door, run), door


def test_nothing_is_written_or_removed_through_a_link(run, tmp_path):
  """With a name that holds line ends, a page would write the attacker's lines into any file."""
  edit_record(run / 'config.json', lambda record: record['data'].update(name='\nssh-rsa AAAA attacker\n'))
  precious = tmp_path / 'precious'
  for name in ('report.html', 'evaluation.json', 'samples', 'analysis', 'export', 'tensorboard', 'metrics.jsonl'):
    is_file = '.' in name
    if is_file:
      precious.write_text('mine')
    else:
      precious.mkdir()
      (precious / 'kde-01234567.npz').write_text('mine')
    (run / name).unlink(missing_ok=True)
    os.symlink(precious, run / name)
    for door in DOORS:
      line = is_rejected(door, run)
      assert f'run/{name}: is a link that leads out of ' in line and line.rstrip().endswith('; remove it'), (door, line)
    assert (precious if is_file else precious / 'kde-01234567.npz').read_text() == 'mine'
    assert is_file or os.listdir(precious) == ['kde-01234567.npz']
    (run / name).unlink()
    shutil.rmtree(precious) if not is_file else precious.unlink()


def test_a_page_beside_runs_replaces_no_link(run, tmp_path):
  shutil.copytree(run, tmp_path / 'second')
  (tmp_path / 'mine').write_text('mine')
  os.symlink('mine', tmp_path / 'report.html')
  outcome = call('report', run, tmp_path / 'second')
  assert_one_line(outcome, 'report', f'{tmp_path}/report.html: is a link, through which another file would be')
  assert (tmp_path / 'mine').read_text() == 'mine'


def test_a_sweep_writes_through_no_link_of_its_default_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine').write_text('mine')
  (tmp_path / 'runs' / 'digits-sweep').mkdir(parents=True)
  os.symlink(tmp_path / 'mine', tmp_path / 'runs' / 'digits-sweep' / 'report.html')
  assert_one_line(call('sweep', '--lambdas=inf'), 'sweep', 'runs/digits-sweep/report.html: is a link, through which')


def test_a_pipe_in_a_run_keeps_no_program_waiting(run):
  for name in ('evaluation.json', 'metrics.jsonl', 'analysis/kde.json', 'samples/real.png'):
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    for door in DOORS:
      assert f'run/{name}: is a device, a pipe or a socket; remove it' in is_rejected(door, run), door
    (run / name).unlink()


def test_names_do_nothing_to_a_terminal_or_a_shell(run):
  name = '\x1b[201~; touch ran\n\x9b31m\u202etxt'
  edit_record(run / 'config.json', lambda record: record['data'].update(name=name))
  edit_record(run / 'config.json', lambda record: record['config'].update(dataset=name))
  outcome = call('report', run)
  assert outcome.status == 0 and outcome.err == ''
  page = (run / 'report.html').read_text()
  assert not re.search('[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]', page)
  assert 'touch ran' in page
  for door in DOORS.keys() - {'load_run'}:
    outcome = DOORS[door](run)
    assert not re.search('[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]', outcome.out + outcome.err), door
    assert outcome.err.count('\n') <= 1, outcome.err


@pytest.mark.parametrize(('what', 'known'), [('kde', '--seed=3'), ('evil', '--what=evil_parts:part')])
def test_no_command_of_a_page_has_a_flag_that_is_no_setting(run, what, known):
  """Whoever pastes it would trust the run, or read the attacker's flags."""
  record = {'what': what, 'checkpoint': 'latest', 'step': 6, 'seconds': 0.1, 'exact_nll': 1.0, 'mean': 1.0}
  record |= {'plugin': 'evil_parts:part'} if what == 'evil' else {}
  settings = {'seed': 3, 'trust': True, 'flagfile': 'evil', 'config': 'evil.py'}
  write_record(run / 'analysis' / f'{what}.json', record | {'settings': settings})
  assert is_rejected('report', run) == ''
  page = (run / 'report.html').read_text()
  assert f'{run} --what={what if what == "kde" else "evil_parts:part"} --checkpoint=latest' in page and known in page
  assert not re.search('--(trust|flagfile|config=evil)', page)


def test_no_training_of_a_page_reads_what_came_with_the_run(run):
  named = ["--workdir=a'; touch ran", '--seed=1\n\u202e']
  for more, shown in (([], True), (['--trust'], False), (['--config', 'evil.py'], False)):
    edit_record(run / 'config.json', lambda record, more=more: record.update(commands=[named + more]))
    assert is_rejected('report', run) == ''
    page = html.unescape((run / 'report.html').read_text())
    shell = """bin/train '--workdir=a'"'"'; touch ran' $'--seed=1\\U0000000a\\U0000202e'"""
    assert (shell in page) == shown and ('bin/train' in page) == shown


def test_a_run_that_its_user_trusts_may_name_code(run):
  parts = pathlib.Path(__file__).parent.parent / 'plugged.py'
  shutil.copy(parts, run.parent / 'mine_parts.py')
  run = make_run(run.parent / 'mine', terms=['mine_parts:Bright'], toy_weight=0.0)
  edit_record(run / 'config.json', lambda record: record.update(plugins={'mine_parts': str(run.parent)}))
  os.chdir('/')
  line = is_rejected('export', run)
  assert line.startswith(f'export: {run}/config.json: names code to import (mine_parts:Bright, {run.parent}), and')
  assert call('export', run, '--trust').status == 0
  assert call('export', run).status == 0  # From now on.
  assert sys.modules.pop('mine_parts').__file__ == f'{run.parent}/mine_parts.py'


def test_a_training_asks_for_trust_before_it_looks_at_the_other_flags(run):
  edit_record(run / 'config.json', lambda record: record['config'].update(cache_dir='/nowhere'))
  flags = (f'--workdir={run}', '--seed=3')
  assert_one_line(call('train', *flags), 'train', 'run: names /nowhere, and is not one of your runs')
  assert_one_line(call('train', *flags, '--trust'), 'train', 'run: holds a run with another configuration (seed')
  assert_one_line(call('train', *flags), 'train', 'run: holds a run with another configuration (seed')


def in_config(name, value):
  return lambda record: record['config'].update({'generator': 'evil_parts:part', name: value})


FORGERIES = {
  'no_pixels': lambda record: record['data'].update(image_shape=[0]),
  'no_axes': lambda record: record['data'].update(image_shape=[]),
  'more_pixels_than_a_float': lambda record: record['data'].update(image_shape=[2**62] * 20),
  'no_levels': lambda record: record['data'].update(levels=0),
  'a_condition_that_is_a_setting': lambda record: record['data'].update(condition={'couplings': 3}),
  'no_data_of_the_start': lambda record: record.update(init={'run': 'x', 'step': 3, 'config': {}}),
  'an_objective_like_a_plug_in': in_config('objective', 'evil_parts:part'),
  'a_condition_like_a_plug_in': in_config('condition', 'evil_parts:part'),
  'a_setting_of_python': in_config('__class__', 1),
}


@pytest.mark.parametrize('forge', FORGERIES.values(), ids=FORGERIES)
def test_a_forged_record_of_a_run_is_a_line(run, forge):
  edit_record(run / 'config.json', forge)
  with pytest.raises(UsageError, match=f'^{run}/config.json: '):
    fg.study.summarize([run])
  with pytest.raises(UsageError, match=f'^{run}/config.json: '):
    fg.runs.load_run(run)


@pytest.mark.parametrize('door', DOORS)
def test_a_list_of_checkpoints_with_a_huge_number_is_a_line(run, door):
  (run / 'checkpoints' / 'latest' / 'checkpoint').write_text(f'model_checkpoint_path: "ckpt-{"9" * 5000}"\n')
  assert 'latest/checkpoint: damaged; make it the line' in is_rejected(door, run)


def test_a_training_leaves_what_is_no_checkpoint(run):
  (run / 'checkpoints' / 'latest' / 'ckpt-x_temp').mkdir()
  assert is_rejected('train', run) == ''
  assert (run / 'checkpoints' / 'latest' / 'ckpt-x_temp').is_dir()


def evaluation(**numbers):
  return {'records': [{'checkpoint': 'latest', 'split': 'test', 'step': 6, 'nll': -1.0, 'n': 3} | numbers]}


RECORDS = [
  ('evaluation.json', {'records': 3}),
  ('evaluation.json', {'records': [3]}),
  ('evaluation.json', evaluation(step='x')),
  ('evaluation.json', evaluation(checkpoint='x')),
  ('evaluation.json', {'records': 2 * evaluation()['records']}),
  ('evaluation.json', evaluation(nll='x')),
  ('evaluation.json', evaluation(standard_error=[1])),
  ('evaluation.json', evaluation(mode_score=10**400)),
  ('evaluation.json', evaluation(scorer=5)),
  ('evaluation.json', evaluation(label_shares=[{}])),
  ('analysis/kde.json', {'what': 'kde', 'step': 6, 'settings': {}, 'seconds': 1}),
  ('analysis/kde.json', {'settings': 'x'}),
  ('analysis/critic.json', {}),
  ('analysis/critic.json', {'exact': {'kl': 'x'}, 'critics': 5}),
  ('analysis/gmm.json', {'bandwidths': [], 'selection': 'fid', 'model': 3}),
  ('analysis/jacobian.json', {'below_precision': 0, 'd': 0, 'n': []}),
  ('analysis/outliers.json', {'sets': [], 'levels': 'x'}),
  ('analysis/temperature.json', {'temperatures': 5, 'selection': None}),
  ('analysis/ais.json', {'nll': 'x', 'bracket_gap': 'y'}),
  ('analysis/evil.json', {'mean': 10**400}),
]


MEASURED = {'standard_error': 0.1, 'mode_score': 5.0, 'mode_score_std': 0.1, 'score_samples': 5000, 'score_splits': 10}
MEASURED |= {'scorer': 'classifier', 'scorer_hash': '0', 'near_copies': 0.1, 'held_out_images': 9, 'copied_from': 9}
WITHOUT = ('mode_score', 'score_samples', 'score_splits', 'scorer_hash', 'held_out_images')
EVALUATIONS = [
  *({name: value for name, value in MEASURED.items() if name != left_out} for left_out in WITHOUT),
  MEASURED | {'nll': None},
  MEASURED | {'standard_error': -1.0},
  MEASURED | {'copied_from': None},
]


@pytest.mark.parametrize('numbers', EVALUATIONS, ids=str)
def test_a_page_does_without_an_evaluation_that_lacks_something(run, numbers):
  write_record(run / 'evaluation.json', evaluation(**numbers))
  page = render(make_report(*fg.study.summarize([run])))
  assert f'{run}/evaluation.json: is not what our programs write' in page and f'bin/evaluate {run}' in page


@pytest.mark.parametrize('number', ['text', [1]], ids=['text', 'list'])
def test_a_page_does_without_a_log_that_is_none(run, number):
  edit_record(run / 'config.json', lambda record: record['config'].update(terms=['evil_parts:part']))
  lines = [{'kind': 'train', 'step': step, 'seconds': 1.0, 'number': number} for step in (1, 2)]
  (run / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
  page = render(make_report(*fg.study.summarize([run])))
  assert f'{run}/metrics.jsonl: is not what our programs write' in page


def test_a_number_of_a_term_may_have_any_name(run):
  edit_record(run / 'config.json', lambda record: record['config'].update(terms=['evil_parts:part']))
  name = '$\\frac{$ \x1b[31m\u202e'  # No formula.
  lines = [{'kind': 'train', 'step': step, 'seconds': 1.0, name: 1.0} for step in (1, 2)]
  (run / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
  page = render(make_report(*fg.study.summarize([run])))
  assert 'frac{$ \\x1b[31m\\u202e, a number of a term' in page and not re.search('[\x1b\u202e]', page)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'record'), RECORDS, ids=str)
def test_a_record_of_another_form_is_a_line_and_the_page_does_without_it(run, tmp_path, name, record):
  path = run / name
  if name.startswith('analysis') and 'what' not in record:
    record = {'what': path.stem, 'checkpoint': 'latest', 'step': 6, 'settings': {}, 'seconds': 1.0} | record
  write_record(path, record)
  shutil.copytree(run, tmp_path / 'second', ignore=shutil.ignore_patterns('analysis', 'evaluation.json'))
  shutil.copytree(run, tmp_path / 'third')
  outcome = call('report', run, tmp_path / 'second', tmp_path / 'third', f'--out={tmp_path}/page.html')
  assert outcome.status == 0 and 'Traceback' not in outcome.err, outcome
  page = (tmp_path / 'page.html').read_text()
  assert page.count(f'{tmp_path}/second') and (record.get('what') == 'evil' or f'{path}: ' in page), outcome
