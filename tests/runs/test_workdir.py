import json
import shutil

import pytest

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.runs.description import read_description
from flowgan_tf.runs.log import sealed_line
from flowgan_tf.runs.run import find_run, load_run
from flowgan_tf.runs.workdir import exclusive, open_workdir, training_changes
from tests.tiny import edit_sealed, make_config, write_images


def test_new_folders_are_made(tmp_path, config, dataset):
  workdir = open_workdir(tmp_path / 'a' / 'b', config, dataset)
  assert [f.name for f in workdir.iterdir()] == ['config.json']
  with pytest.raises(UsageError, match='has no checkpoint yet'):
    find_run(workdir)


def test_free_settings_may_change(run, config, dataset):
  workdir, _ = run
  config.update({'steps': 77, 'log_every': 3, 'data_dir': 'x', 'cache_dir': 'y', 'on_nan': 'rollback'})
  open_workdir(workdir, config, dataset)
  assert load_run(workdir, 'latest').config.steps == 77


@pytest.mark.parametrize(
  'setting',
  [{'optimizer.schedule': 'cosine'}, {'critic_optimizer.schedule': 'cosine'}, {'final_lambda': 0.01}],
  ids=str,
)
def test_a_schedule_that_ends_with_the_training_cannot_be_prolonged(run, config, dataset, setting):
  workdir, _ = run
  edit_sealed(workdir / 'config.json', lambda description: set_flattened(description['config'], setting))
  config.update_from_flattened_dict(setting)
  open_workdir(workdir, config, dataset)
  config.steps += 1
  with pytest.raises(UsageError, match=f'another configuration .*steps {config.steps - 1} -> {config.steps}'):
    open_workdir(workdir, config, dataset)


def set_flattened(nested, changes):
  for name, value in changes.items():
    *blocks, last = name.split('.')
    for block in blocks:
      nested = nested[block]
    nested[last] = value


@pytest.mark.parametrize(
  ('key', 'value', 'change'),
  [
    ('batch_size', 9, 'batch_size 8 -> 9'),
    ('image_size', 4, 'image_size 0 -> 4'),
    ('lambda', 0.2, 'lambda 0.1 -> 0.2'),
    ('nice.hidden_units', 9, 'nice.hidden_units 8 -> 9'),
    ('gradient_penalty', 1.0, 'gradient_penalty None -> 1.0'),
    ('penalty', 'zero_centered', 'penalty None -> zero_centered'),
    ('penalty_interval', 4, 'penalty_interval 1 -> 4'),
    ('final_lambda', 0.2, 'final_lambda None -> 0.2'),
    ('critic_warmup', 1, 'critic_warmup 0 -> 1'),
    ('optimizer.warmup_steps', 2, 'optimizer.warmup_steps 0 -> 2'),
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
  """As when it failed at its start for want of what the configuration asks for."""
  workdir = open_workdir(tmp_path / 'run', config, dataset)
  config.scorer = 'inception'
  open_workdir(workdir, config, dataset)
  assert json.loads((workdir / 'config.json').read_text())['config']['scorer'] == 'inception'


def test_fewer_steps_than_the_run_has_done_are_refused(run, config, dataset):
  before = (run[0] / 'config.json').read_bytes()
  config.steps = 5
  with pytest.raises(UsageError) as caught:
    open_workdir(run[0], config, dataset)
  assert str(caught.value) == f'`steps` must be at least 6, which the run in {run[0]} has done. Got: 5.'
  assert (run[0] / 'config.json').read_bytes() == before
  config.steps = 6
  open_workdir(run[0], config, dataset)


def metrics(workdir, *steps, rest=b''):
  before, contents = None, []
  for step in steps:
    before = sealed_line({'kind': 'train', 'step': step, 'seconds': 1.0}, before)
    contents.append(before.content + b'\n')
  (workdir / 'metrics.jsonl').write_bytes(b''.join(contents) + rest)


def test_a_run_that_was_killed_before_its_first_checkpoint_may_start_again(tmp_path, config, dataset):
  workdir = open_workdir(tmp_path / 'run', config, dataset)
  config.seed = 1
  for steps, rest in (((), b''), ((), b'{"kind": "val'), ((0,), b''), ((0,), b'{"ki')):
    metrics(workdir, *steps, rest=rest)
    open_workdir(workdir, config, dataset)
  assert read_description(workdir)[0].seed == 1


@pytest.mark.parametrize('change', [{}, {'seed': 1}])
@pytest.mark.parametrize('how', ['removed', 'emptied'])
def test_a_run_that_lost_its_checkpoints_does_not_start_again(run, config, dataset, change, how):
  workdir, _ = run
  metrics(workdir, 0, 2, 4)
  shutil.rmtree(workdir / 'checkpoints')
  if how == 'emptied':
    (workdir / 'checkpoints' / 'latest').mkdir(parents=True)
  before = {file: file.read_bytes() for file in workdir.iterdir() if file.is_file()}
  config.update(change)
  with pytest.raises(UsageError) as caught:
    open_workdir(workdir, config, dataset)
  assert str(caught.value) == (
    f'{workdir}: has metrics up to step 4 but no checkpoint to go on from; put {workdir}/checkpoints back, or use '
    'another `workdir`'
  )
  assert {file: file.read_bytes() for file in workdir.iterdir() if file.is_file()} == before


def test_damaged_metrics_are_not_overwritten(run, config, dataset):
  shutil.rmtree(run[0] / 'checkpoints')
  metrics(run[0], 4)
  path = run[0] / 'metrics.jsonl'
  path.write_bytes(path.read_bytes().replace(b'4', b'5'))
  with pytest.raises(UsageError, match='has metrics up to step 0 but no checkpoint'):
    open_workdir(run[0], config, dataset)


@pytest.mark.parametrize('what', ['evaluation.json', 'export', 'analysis'])
def test_what_was_measured_shows_that_there_were_checkpoints(run, config, dataset, what):
  shutil.rmtree(run[0] / 'checkpoints')
  (run[0] / what).mkdir()
  with pytest.raises(UsageError, match=f'{run[0]}: has {what} but no checkpoint to go on from'):
    open_workdir(run[0], config, dataset)


def test_what_a_kill_left_of_the_first_files_is_removed(tmp_path, config, dataset):
  """Or the folder would not be empty, and hold no run."""
  for name in ('config.json.123.tmp', 'init.json.7.tmp', 'metrics.jsonl.45.tmp', 'rollbacks.json.6.tmp'):
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


def test_foreign_files_are_refused(tmp_path, config, dataset):
  (tmp_path / 'thesis.tex').write_text('precious')
  with pytest.raises(UsageError, match='is not empty and holds no run; `workdir` must be a new folder'):
    open_workdir(tmp_path, config, dataset)
  assert [f.name for f in tmp_path.iterdir()] == ['thesis.tex']


def test_unwritable_folders_are_refused(tmp_path, config, dataset):
  file = tmp_path / 'file'
  file.touch()
  for workdir in (file, file / 'run'):
    with pytest.raises(UsageError, match=f'{workdir}: cannot be written'):
      open_workdir(workdir, config, dataset)


def test_blocks_of_other_generators_may_change(run, config, dataset):
  config.real_nvp.scales = 3
  open_workdir(run[0], config, dataset)


def test_another_generator_is_refused(run, config, dataset):
  config.generator = 'real_nvp'
  with pytest.raises(UsageError, match=r'another configuration .*generator nice -> real_nvp'):
    open_workdir(run[0], config, dataset)


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
