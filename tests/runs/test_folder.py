"""The folder of a run: `config.json`, and which trainings may use it."""

import dataclasses
import json
import shutil

import pytest

from flowgan_tf import data
from flowgan_tf.base.errors import UsageError
from flowgan_tf.runs.folder import (
  count_rollback,
  exclusive,
  find_run,
  open_workdir,
  read_description,
  write_description,
)
from flowgan_tf.runs.run import load_run
from tests.tiny import edit_record, make_config, write_images


def test_a_new_folder_holds_a_description(tmp_path, config, dataset):
  start = {'run': '/runs/first', 'step': 3}
  workdir = open_workdir(tmp_path / 'a' / 'b', config, dataset, start)
  assert [f.name for f in workdir.iterdir()] == ['config.json']
  found = read_description(workdir)
  assert found.config.to_json() == config.to_json()
  facts = {'name': dataset.name, 'image_shape': [4, 4, 1], 'levels': 256, 'fingerprint': dataset.fingerprint}
  assert found.data == facts
  assert (found.init, found.rollbacks) == (start, 0)
  assert 'real_nvp' not in json.loads((workdir / 'config.json').read_text())['config']
  assert read_description(tmp_path) is None
  with pytest.raises(UsageError, match='has no checkpoint yet'):
    find_run(workdir)


def test_the_condition_is_kept_and_may_not_change(run, tmp_path, config, dataset):
  config.condition = 'low_resolution:2'
  dataset = dataclasses.replace(dataset, condition_kind=config.condition)
  with pytest.raises(UsageError, match=r'holds a run with another configuration \(condition  -> low_resolution:2\)'):
    open_workdir(run[0], config, dataset)
  workdir = open_workdir(tmp_path / 'conditional', config, dataset)
  assert read_description(workdir).data['condition'] == {'condition_shape': [2, 2, 1]}
  shutil.copytree(run[0] / 'checkpoints', workdir / 'checkpoints')
  open_workdir(workdir, config, dataset)


def test_rollbacks_are_counted_and_a_run_that_resumes_keeps_what_it_knows(run, config, dataset):
  workdir, _ = run
  edit_record(workdir / 'config.json', lambda record: record.update(init={'run': 'first', 'step': 3}))
  assert [count_rollback(workdir), count_rollback(workdir)] == [1, 2]
  # These settings may change.
  config.update({'steps': 77, 'log_every': 3, 'data_dir': 'x', 'cache_dir': 'y', 'on_nan': 'rollback'})
  config.real_nvp.scales = 3
  # Names of classes identify no data. An older run has none.
  open_workdir(workdir, config, dataclasses.replace(dataset, class_names=('a', 'b')))
  found = read_description(workdir)
  assert (found.config.steps, found.init, found.rollbacks) == (77, {'run': 'first', 'step': 3}, 2)
  assert found.class_names == ['a', 'b']


def test_a_run_with_a_setting_that_went_away_is_read_and_goes_on_only_without_it(run, config, dataset):
  workdir, _ = run
  for value, goes_on in ((False, True), (True, False)):
    edit_record(workdir / 'config.json', lambda record, value=value: record['config'].update(spread_labels=value))
    assert 'spread_labels' not in load_run(workdir).config
    if goes_on:
      open_workdir(workdir, config, dataset)
    else:
      with pytest.raises(UsageError, match=r'was trained with spread_labels True, which this version cannot train on'):
        open_workdir(workdir, config, dataset)


def test_a_file_that_was_not_written_so_or_is_of_another_version_is_one_line(run, config, dataset):
  path = run[0] / 'config.json'
  for edit, said in (
    (lambda record: record['config'].update(newer=1), r'there is no setting newer\)$'),
    (lambda record: record['config'].update(seed='a'), '.*$'),
    (lambda record: record.update(newer=1), '.*$'),
    (lambda record: record.pop('data'), '.*$'),
  ):
    edit_record(path, edit)
    with pytest.raises(UsageError, match=rf'^{path}: was written by another version of flowgan_tf \({said}'):
      load_run(run[0])
  path.write_text('{"config": {}}')
  for read in (lambda: load_run(run[0], 'latest'), lambda: open_workdir(run[0], config, dataset)):
    with pytest.raises(UsageError, match=rf'^{path}: damaged \('):
      read()


@pytest.mark.parametrize(
  'setting',
  [
    {'optimizer.schedule': 'cosine'},
    {'critic_optimizer.schedule': 'cosine'},
    {'final_lambda': 0.01},
    {'transport_weight': 2.0, 'final_transport_weight': 1.0},
  ],
  ids=str,
)
def test_a_schedule_that_ends_with_the_training_cannot_be_prolonged(run, config, dataset, setting):
  workdir, _ = run
  config.update_from_flattened_dict(setting | {'objective': 'hybrid'})
  write_description(workdir, read_description(workdir)._replace(config=config))
  open_workdir(workdir, config, dataset)
  config.steps += 1
  with pytest.raises(
    UsageError,
    match=rf'another configuration .*steps \d+ -> {config.steps}, on which a learning rate or a weight depends\)',
  ):
    open_workdir(workdir, config, dataset)


@pytest.mark.parametrize(
  'setting',
  [
    {'critic_optimizer.schedule': 'cosine'},
    {'final_lambda': 0.01},
    {'transport_weight': 2.0, 'final_transport_weight': 1.0},
    {'objective': 'hybrid', 'lambda': 0.5, 'final_lambda': 0.5},
    {'objective': 'hybrid', 'transport_weight': 2.0, 'final_transport_weight': 2.0},
  ],
  ids=str,
)
def test_a_training_can_be_prolonged_if_nothing_that_it_uses_depends_on_its_end(run, config, dataset, setting):
  workdir, _ = run
  config.update_from_flattened_dict({'objective': 'mle'} | setting)
  write_description(workdir, read_description(workdir)._replace(config=config))
  config.steps += 1
  assert open_workdir(workdir, config, dataset) == workdir


def test_a_run_with_a_setting_that_has_gone_loads_and_goes_on_if_it_had_no_effect(run, config, dataset):
  workdir, _ = run
  for value in ('logits', 'pixels'):
    edit_record(workdir / 'config.json', lambda record, value=value: record['config'].update(critic_sees=value))
    assert 'critic_sees' not in load_run(workdir).config
    if value == 'logits':
      with pytest.raises(
        UsageError, match=r"was trained with critic_sees 'logits', which this version cannot train on"
      ):
        open_workdir(workdir, config, dataset)
  assert open_workdir(workdir, config, dataset) == workdir


def test_another_configuration_or_data_or_fewer_steps_are_rejected(run, config, dataset, tmp_path):
  workdir, _ = run
  before = (workdir / 'config.json').read_bytes()
  other = {'batch_size': 9, 'gradient_penalty': 1.0, 'dcgan_critic.channels': (3,)}
  changes = r'batch_size 8 -> 9, dcgan_critic.channels \[2\] -> \[3\], gradient_penalty None -> 1.0'
  with pytest.raises(UsageError, match=rf'^{workdir}: holds a run with another configuration \({changes}\); '):
    open_workdir(workdir, make_config(other, objective='mle', dataset=config.dataset, steps=6), dataset)
  (tmp_path / 'other').mkdir()
  with pytest.raises(UsageError, match='run on other data'):
    open_workdir(workdir, config, data.load(write_images(tmp_path / 'other' / 'images.npz', count=41)))
  config.steps = 5
  with pytest.raises(UsageError, match=rf'^`steps` must be at least 6, which the run in {workdir} has done\. Got: 5'):
    open_workdir(workdir, config, dataset)
  assert (workdir / 'config.json').read_bytes() == before


def test_a_run_that_saved_nothing_may_take_another_configuration(tmp_path, config, dataset):
  open_workdir(tmp_path, config, dataset, {'run': 'first', 'step': 3})
  count_rollback(tmp_path)
  config.scorer = 'inception'
  open_workdir(tmp_path, config, dataset)
  config, _, init, rollbacks, *_ = read_description(tmp_path)
  assert (config.scorer, init, rollbacks) == ('inception', None, 0)


def test_a_run_remembers_the_commands_that_began_it_and_changed_its_settings(run, tmp_path, config, dataset):
  first, again, longer, other = ['--objective=mle'], ['--workdir=x'], ['--workdir=x', '--steps=9'], ['--lambda=1']
  kept = read_description(open_workdir(tmp_path / 'new', config, dataset, command=first))
  assert kept.commands == [first]
  for workdir, at_first, at_last in ((tmp_path / 'new', [first], [first, longer]), (run[0], None, None)):
    open_workdir(workdir, config, dataset, command=again)
    assert read_description(workdir).commands == at_first
    changed = config.copy_and_resolve_references()
    changed.steps += 1
    open_workdir(workdir, changed, dataset, command=longer)
    count_rollback(workdir)
    open_workdir(workdir, changed, dataset)
    assert read_description(workdir).commands == at_last
  changed.scorer = 'inception'  # It has saved nothing, so it begins again.
  open_workdir(tmp_path / 'new', changed, dataset, command=other)
  assert read_description(tmp_path / 'new').commands == [other]
  open_workdir(tmp_path / 'new', config, dataset)
  assert read_description(tmp_path / 'new').commands is None


@pytest.mark.parametrize('what', ['metrics.jsonl', 'evaluation.json', 'export', 'analysis'])
def test_a_run_that_lost_its_checkpoints_does_not_start_again(run, config, dataset, what):
  workdir, _ = run
  (workdir / what).touch()
  shutil.rmtree(workdir / 'checkpoints')
  before = (workdir / 'config.json').read_bytes()
  config.seed = 1
  with pytest.raises(UsageError, match=f'^{workdir}: has {what} but no checkpoint to resume from; put {workdir}/check'):
    open_workdir(workdir, config, dataset)
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


def test_folders_that_hold_something_else_or_cannot_be_written_are_rejected(tmp_path, config, dataset):
  thesis = tmp_path / 'thesis.tex'
  thesis.write_text('precious')
  with pytest.raises(UsageError, match='is not empty and holds no run; `workdir` must be a new folder'):
    open_workdir(tmp_path, config, dataset)
  assert [f.name for f in tmp_path.iterdir()] == ['thesis.tex']
  for workdir in (thesis, thesis / 'run'):
    with pytest.raises(UsageError, match=f'{workdir}: cannot be written'):
      open_workdir(workdir, config, dataset)


def test_two_trainings_in_one_folder_are_rejected(tmp_path):
  with exclusive(tmp_path), pytest.raises(UsageError, match='another training'), exclusive(tmp_path):
    raise AssertionError('the second training got in')
  with exclusive(tmp_path / 'new' / 'folder'):
    assert (tmp_path / 'new' / 'folder').is_dir()
