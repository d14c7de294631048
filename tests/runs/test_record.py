"""Whose a run is: only the user's own may name code and places."""

import json
import os
import re
import stat

import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.files import read_record, write_record
from flowgan_tf.runs import load_data, load_run, record, trust
from flowgan_tf.runs.folder import read_description
from tests.tiny import FACTS, edit_record


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  """A user without a key."""
  monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'home'))
  return tmp_path / 'home'


def make_record(**settings):
  named = {'objective': 'mle', 'generator': 'nice', 'critic': 'dcgan_critic', 'divergence': 'wasserstein'}
  return {'config': named | {'dataset': 'digits'} | settings, 'data': FACTS, 'rollbacks': 0, 'plugins': None}


NAMED = [
  {'generator': 'parts:flow'},
  {'terms': ['parts:Term']},
  {'dataset': 'parts:images'},
  {'data_dir': '/data'},
  {'cache_dir': '/cache'},
  {'inception_weights': '/weights.h5'},
]


@pytest.mark.parametrize('settings', NAMED, ids=str)
def test_the_record_of_a_run_that_names_something_has_a_mark_that_only_its_key_makes(tmp_path, monkeypatch, settings):
  record.write(tmp_path, make_record(**settings))
  written = record.read(tmp_path)
  assert record.is_own(written) and len(written['mark']) == 64
  key = tmp_path / 'home' / 'flowgan_tf' / 'key'
  assert key.stat().st_size == 32 and stat.S_IMODE(key.stat().st_mode) == 0o600
  for name, value in (
    ('config', written['config'] | {'generator': 'jet'}),
    ('plugins', {'a': '/b'}),
    ('mark', '0' * 64),
  ):
    assert not record.is_own(written | {name: value}), name
  monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'another'))
  assert not record.is_own(written)


def test_a_record_that_names_nothing_has_no_mark_and_makes_no_key(tmp_path, home):
  record.write(tmp_path, make_record())
  assert record.read(tmp_path)['mark'] is None and not home.exists()
  assert not record.is_own(record.read(tmp_path))


def test_without_a_key_nothing_is_marked_and_a_warning_says_why(tmp_path, home, caplog):
  home.write_text('no folder')
  record.write(tmp_path, make_record(generator='parts:flow'))
  assert not record.is_own(record.read(tmp_path))
  assert re.search(r'home/flowgan_tf/key: cannot be used \(.*\), so the run is not marked as yours', caplog.text)


def test_a_run_without_a_mark_names_no_places_until_it_is_trusted(run, images, caplog):
  workdir, _ = run
  places = {'data_dir': '/data', 'cache_dir': '/cache', 'inception_weights': '/weights.h5'}
  edit_record(workdir / 'config.json', lambda written: written['config'].update(places))
  assert [read_description(workdir).config[name] for name in places] == ['', '', '']
  with pytest.raises(UsageError, match=rf'^{workdir}: was trained on {images}, and is not marked as yours; '):
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


def test_trusting_a_run_changes_nothing_but_the_mark(run):
  workdir, _ = run
  before = json.loads((workdir / 'config.json').read_text())
  trust(workdir)
  after = json.loads((workdir / 'config.json').read_text())
  assert after.pop('mark')
  del before['sha256'], after['sha256']
  assert after == {name: value for name, value in before.items() if value is not None and name != 'mark'}


def test_trusting_a_run_that_names_nothing_leaves_it_as_it_is(tmp_path):
  record.write(tmp_path, make_record())
  before = (tmp_path / 'config.json').read_bytes()
  trust(tmp_path)
  assert (tmp_path / 'config.json').read_bytes() == before


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
    {'config': []},
    {'config': {'objective': 'mle'}},
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
