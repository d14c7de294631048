"""The folder of a run: `config.json`, and which trainings may use it."""

import json
import shutil

import pytest

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.runs.folder import (
  count_rollback,
  exclusive,
  open_workdir,
  read_description,
  training_changes,
  write_description,
)
from flowgan_tf.runs.run import find_run, load_run
from tests.tiny import edit_record, make_config, write_images


def test_a_new_folder_holds_a_description(tmp_path, config, dataset):
  workdir = open_workdir(tmp_path / 'a' / 'b', config, dataset, {'run': '/runs/first', 'step': 3})
  assert [f.name for f in workdir.iterdir()] == ['config.json']
  found = read_description(workdir)
  assert found.config.to_json() == config.to_json()
  assert found.data == {
    'name': dataset.name,
    'image_shape': [4, 4, 1],
    'levels': 256,
    'fingerprint': dataset.fingerprint,
  }
  assert (found.init, found.rollbacks) == ({'run': '/runs/first', 'step': 3}, 0)
  assert 'real_nvp' not in json.loads((workdir / 'config.json').read_text())['config']
  assert read_description(tmp_path) is None
  with pytest.raises(UsageError, match='has no checkpoint yet'):
    find_run(workdir)


def test_rollbacks_are_counted_and_a_run_that_resumes_keeps_what_it_knows(run, config, dataset):
  workdir, _ = run
  edit_record(workdir / 'config.json', lambda record: record.update(init={'run': 'first'}))
  assert [count_rollback(workdir), count_rollback(workdir)] == [1, 2]
  config.steps = 77
  open_workdir(workdir, config, dataset)
  config, _, init, rollbacks = read_description(workdir)
  assert (config.steps, init, rollbacks) == (77, {'run': 'first'}, 2)


@pytest.mark.parametrize('text', ['', '[]', '{"config": {}}', '{"a": 1, "sha256": 3}', '\xff', '[' * 100_000])
def test_a_file_that_was_not_written_so_is_damaged(run, config, dataset, text):
  path = run[0] / 'config.json'
  path.write_text(text, encoding='latin-1')
  for read in (lambda: load_run(run[0], 'latest'), lambda: open_workdir(run[0], config, dataset)):
    with pytest.raises(UsageError) as caught:
      read()
    assert str(caught.value).startswith(f'{path}: damaged (') and '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'edit',
  [
    lambda record: record['config'].update(newer=1),
    lambda record: record['config'].update(seed='a'),
    lambda record: record.update(newer=1),
    lambda record: record.pop('data'),
  ],
)
def test_a_file_of_another_version_is_one_line(run, edit):
  edit_record(run[0] / 'config.json', edit)
  with pytest.raises(UsageError) as caught:
    load_run(run[0])
  assert str(caught.value).startswith(f'{run[0]}/config.json: is of another version of flowgan_tf (')
  assert '\n' not in str(caught.value)


def test_free_settings_may_change(run, config, dataset):
  config.update({'steps': 77, 'log_every': 3, 'data_dir': 'x', 'cache_dir': 'y', 'on_nan': 'rollback'})
  config.real_nvp.scales = 3
  open_workdir(run[0], config, dataset)
  assert load_run(run[0], 'latest').config.steps == 77


@pytest.mark.parametrize(
  'setting',
  [{'optimizer.schedule': 'cosine'}, {'critic_optimizer.schedule': 'cosine'}, {'final_lambda': 0.01}],
  ids=str,
)
def test_a_schedule_that_ends_with_the_training_cannot_be_prolonged(run, config, dataset, setting):
  workdir, _ = run
  config.update_from_flattened_dict(setting)
  write_description(workdir, read_description(workdir)._replace(config=config))
  open_workdir(workdir, config, dataset)
  config.steps += 1
  with pytest.raises(UsageError, match=f'another configuration .*steps {config.steps - 1} -> {config.steps}'):
    open_workdir(workdir, config, dataset)


@pytest.mark.parametrize(
  ('key', 'value', 'change'),
  [
    ('batch_size', 9, 'batch_size 8 -> 9'),
    ('generator', 'real_nvp', 'generator nice -> real_nvp'),
    ('nice.hidden_units', 9, 'nice.hidden_units 8 -> 9'),
    ('gradient_penalty', 1.0, 'gradient_penalty None -> 1.0'),
    ('init_from', '/runs/first', 'init_from  -> /runs/first'),
    ('dcgan_critic.channels', (3,), r'dcgan_critic.channels \[2\] -> \[3\]'),
  ],
)
def test_another_configuration_is_refused(run, config, dataset, key, value, change):
  workdir, _ = run
  before = (workdir / 'config.json').read_bytes()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UsageError, match=f'{workdir}: holds a run with another configuration .*{change}'):
    open_workdir(workdir, config, dataset)
  assert (workdir / 'config.json').read_bytes() == before


def test_a_run_that_saved_nothing_may_take_another_configuration(tmp_path, config, dataset):
  """For instance when it failed at its start for want of what the configuration asks for."""
  open_workdir(tmp_path, config, dataset, {'run': 'first'})
  count_rollback(tmp_path)
  config.scorer = 'inception'
  open_workdir(tmp_path, config, dataset)
  config, _, init, rollbacks = read_description(tmp_path)
  assert (config.scorer, init, rollbacks) == ('inception', None, 0)


def test_fewer_steps_than_the_run_has_done_are_refused(run, config, dataset):
  before = (run[0] / 'config.json').read_bytes()
  config.steps = 5
  with pytest.raises(UsageError) as caught:
    open_workdir(run[0], config, dataset)
  assert str(caught.value) == f'`steps` must be at least 6, which the run in {run[0]} has done. Got: 5.'
  assert (run[0] / 'config.json').read_bytes() == before
  config.steps = 6
  open_workdir(run[0], config, dataset)


@pytest.mark.parametrize('what', ['metrics.jsonl', 'evaluation.json', 'export', 'analysis'])
def test_a_run_that_lost_its_checkpoints_does_not_start_again(run, config, dataset, what):
  workdir, _ = run
  (workdir / what).touch()
  shutil.rmtree(workdir / 'checkpoints')
  before = (workdir / 'config.json').read_bytes()
  config.seed = 1
  with pytest.raises(UsageError) as caught:
    open_workdir(workdir, config, dataset)
  assert str(caught.value) == (
    f'{workdir}: has {what} but no checkpoint to resume from; put {workdir}/checkpoints back, or use another `workdir`'
  )
  assert (workdir / 'config.json').read_bytes() == before


def test_what_a_kill_left_of_the_first_files_is_removed(tmp_path, config, dataset):
  """Otherwise the folder would not be empty, and hold no run."""
  for name in ('config.json.123.tmp', 'metrics.jsonl.45.tmp'):
    (tmp_path / name).write_text('{"conf')
  open_workdir(tmp_path, config, dataset)
  assert [f.name for f in tmp_path.iterdir()] == ['config.json']
  for name in ('thesis.json.123.tmp', 'config.json.tmp'):
    (tmp_path / name).touch()
  open_workdir(tmp_path, config, dataset)
  assert len(list(tmp_path.iterdir())) == 3


def test_other_data_under_the_same_name_are_refused(run, config, tmp_path):
  (tmp_path / 'other').mkdir()
  other = data.load(write_images(tmp_path / 'other' / 'images.npz', count=41))
  with pytest.raises(UsageError, match='run on other data'):
    open_workdir(run[0], config, other)


def test_folders_that_hold_something_else_or_cannot_be_written_are_refused(tmp_path, config, dataset):
  thesis = tmp_path / 'thesis.tex'
  thesis.write_text('precious')
  with pytest.raises(UsageError, match='is not empty and holds no run; `workdir` must be a new folder'):
    open_workdir(tmp_path, config, dataset)
  assert [f.name for f in tmp_path.iterdir()] == ['thesis.tex']
  for workdir in (thesis, thesis / 'run'):
    with pytest.raises(UsageError, match=f'{workdir}: cannot be written'):
      open_workdir(workdir, config, dataset)


def test_two_trainings_in_one_folder_are_refused(tmp_path):
  with exclusive(tmp_path), pytest.raises(UsageError, match='another training'), exclusive(tmp_path):
    raise AssertionError('the second training got in')
  with exclusive(tmp_path / 'new' / 'folder'):
    assert (tmp_path / 'new' / 'folder').is_dir()


def test_changes_of_a_training_leave_out_where_files_are_and_unused_blocks():
  old, new = make_config(), make_config()
  new.data_dir, new.log_every, new.real_nvp.scales = 'elsewhere', 7, 9
  assert training_changes(new, old) == {}
  new.nice.hidden_units, new.steps = 16, 5
  assert training_changes(new, old) == {'nice.hidden_units': (8, 16), 'steps': (4, 5)}
