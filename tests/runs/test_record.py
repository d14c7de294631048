"""Whose a run is: only the user's own may name code and places."""

import os

import pytest

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import read_record, write_record
from flowgan_tf.runs import load_data, load_run, record, trust
from flowgan_tf.runs.folder import read_description
from tests.tiny import FACTS, edit_record


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  """The folder of a user's configuration, which does not exist yet."""
  monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'home'))
  return tmp_path / 'home'


def make_record(**settings):
  named = {'objective': 'mle', 'generator': 'nice', 'critic': 'dcgan_critic', 'divergence': 'wasserstein'}
  return {'config': named | {'dataset': 'digits'} | settings, 'data': FACTS, 'rollbacks': 0, 'plugins': None}


NAMED = [
  {'generator': 'parts:flow'},
  {'terms': ['parts:Term']},
  {'dataset': 'parts:images'},
  {'dataset': '/away/images.npz'},
  {'data_dir': '/data'},
  {'cache_dir': '/cache'},
  {'inception_weights': '/weights.h5'},
  {'init_from': '/runs/first'},
]


@pytest.mark.parametrize('settings', NAMED, ids=str)
def test_a_record_that_names_something_is_own_where_it_was_written(tmp_path, monkeypatch, settings):
  record.write(tmp_path, make_record(**settings))
  written = record.read(tmp_path)
  assert record.is_own(written)
  for name, value in (('config', written['config'] | {'generator': 'jet'}), ('plugins', {'a': '/b'}), ('rollbacks', 1)):
    assert not record.is_own(written | {name: value}), name
  monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'another'))
  assert not record.is_own(written)
  before = (tmp_path / 'config.json').read_bytes()
  trust(tmp_path)
  assert record.is_own(record.read(tmp_path)) and (tmp_path / 'config.json').read_bytes() == before
  monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'home'))
  assert record.is_own(record.read(tmp_path))  # Two users may trust one run.


def test_a_record_that_names_nothing_leaves_nothing_in_the_home(tmp_path, home):
  record.write(tmp_path, make_record())
  trust(tmp_path)
  assert not home.exists() and not record.is_own(record.read(tmp_path))


def test_a_record_written_for_others_is_not_own(tmp_path, home):
  record.write(tmp_path, make_record(generator='parts:flow'), own=False)
  assert not home.exists() and not record.is_own(record.read(tmp_path))


def test_without_a_home_no_training_that_names_something_begins(tmp_path, home, monkeypatch):
  home.write_text('no folder')
  with pytest.raises(UsageError, match=rf'^{home}/flowgan_tf/runs: cannot be written'):
    record.write(tmp_path, make_record(generator='parts:flow'))
  monkeypatch.setenv('XDG_CONFIG_HOME', 'relative')
  monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
  with pytest.raises(UsageError, match=r'there is no home folder; set XDG_CONFIG_HOME to a folder that you can write$'):
    record.write(tmp_path, make_record(generator='parts:flow'))
  assert not (tmp_path / 'config.json').exists()
  record.write(tmp_path, make_record())
  assert not record.is_own(record.read(tmp_path))


COMMANDS = [
  (['--objective=mle', '--config=configs/mnist.py:jet', '--generator', 'a b', '--notrust'], True),
  (['--config.steps=3', '--config_dir'], True),
  (['--config=evil.py'], False),
  (['--config', 'evil.py'], False),
  (['--config=configs/mnist.py\n'], False),
  (['--config=configs/../evil.py'], False),
  (['-flagfile=evil'], False),
  (['--trust=yes'], False),
  (['-trust'], False),
]


@pytest.mark.parametrize(('command', 'shown'), COMMANDS, ids=str)
def test_a_command_of_another_user_trusts_nothing_and_reads_no_file(tmp_path, monkeypatch, command, shown):
  """A command of the user's own may; a home that cannot be written keeps no training from it."""
  record.write(tmp_path, make_record() | {'commands': [['--seed=1'], command]})
  assert read_description(tmp_path).commands == [['--seed=1'], command]
  monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'config.json'))
  assert read_description(tmp_path).commands == ([['--seed=1'], command] if shown else None)
  record.write(tmp_path, make_record() | {'commands': [command]})
  record.check_resumes(tmp_path)


def test_a_run_of_another_names_no_places_until_it_is_trusted(run, images, caplog):
  workdir, _ = run
  places = {'data_dir': '/data', 'cache_dir': '/cache', 'inception_weights': '/weights.h5'}
  edit_record(workdir / 'config.json', lambda written: written['config'].update(places))
  assert [read_description(workdir).config[name] for name in places] == ['', '', '']
  with pytest.raises(UsageError, match=rf'^{workdir}: was trained on {images}, and is not one of your runs; '):
    load_data(load_run(workdir))
  edit_record(workdir / 'config.json', lambda written: written['config'].update(dataset='digits'))
  record.check_data(workdir)
  assert (
    f'{workdir}: data_dir, cache_dir, inception_weights of its settings have no effect, because the run is'
    in caplog.text
  )
  edit_record(workdir / 'config.json', lambda written: written['config'].update(dataset=images))
  trust(workdir)
  assert [read_description(workdir).config[name] for name in places] == [*places.values()]
  assert len(load_data(load_run(workdir)).train) > 0


@pytest.mark.parametrize(
  'change',
  [
    {'data': None},
    {'data': FACTS | {'levels': 'x'}},
    {'data': FACTS | {'image_shape': 4}},
    {'data': FACTS | {'image_shape': [10**30, 4, 1]}},
    {'plugins': ['a']},
    {'plugins': {'a': 1}},
    {'class_names': 5},
    {'init': {'run': 3, 'step': 1}},
    {'rollbacks': 'x'},
    {'rollbacks': 2**63},
    {'data': FACTS | {'levels': 1}},
    {'config': []},
    {'config': {'objective': 'mle'}},
    {'commands': ['--steps=3']},
    {'commands': [[3]]},
    {'newer': 1},
  ],
  ids=str,
)
def test_a_record_of_another_form_is_one_line(tmp_path, change):
  write_record(tmp_path / 'config.json', make_record() | change)
  assert read_record(tmp_path / 'config.json')  # Its hash is right.
  for read in (record.read, trust, read_description, lambda folder: read_description(folder, imports=False)):
    with pytest.raises(UsageError, match=rf'^{tmp_path}/config\.json: was written by another version of flowgan_tf'):
      read(tmp_path)


def test_black_and_white_are_two_grey_levels(tmp_path):
  record.write(tmp_path, make_record() | {'data': FACTS | {'levels': 2}})
  assert record.read(tmp_path)['data']['levels'] == 2


def test_links_out_of_a_run_and_pipes_are_rejected(run, tmp_path):
  workdir, _ = run
  (tmp_path / 'elsewhere').mkdir()
  (workdir / 'analysis').mkdir()
  os.symlink('../config.json', workdir / 'analysis' / 'inside.json')
  load_run(workdir)
  for name, target in (
    ('report.html', '../elsewhere/page'),
    ('export', '/nowhere'),
    ('analysis/gmm.json', '/etc/passwd'),
  ):
    os.symlink(target, workdir / name)
    with pytest.raises(UsageError, match=rf'^{workdir}/{name}: is a link that leads out of .*, to /.*; remove it$'):
      load_run(workdir)
    (workdir / name).unlink()
  os.mkfifo(workdir / 'evaluation.json')
  with pytest.raises(UsageError, match=rf'^{workdir}/evaluation\.json: is a device, a pipe or a socket; remove it$'):
    load_run(workdir)


def test_a_folder_without_a_run_is_not_searched(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  assert record.read(tmp_path) is None and record.read(tmp_path / 'missing') is None
