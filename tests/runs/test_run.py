import dataclasses
import json
import pathlib

import numpy as np
import pytest

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.workdir import exclusive, open_workdir
from flowgan_tf.runs.run import find_run, load_data, load_run
from flowgan_tf.training.state import TrainState
from tests.tiny import make_config, write_images


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp('data') / 'images.npz')


@pytest.fixture(scope='module')
def dataset(images):
  return data.load(images)


@pytest.fixture
def config(images):
  return make_config(objective='mle', dataset=images)


@pytest.fixture
def run(tmp_path, config, dataset):
  """A run with one checkpoint at step 6, whose average differs from its flow."""
  workdir = open_workdir(tmp_path / 'run', config, dataset)
  state = TrainState(config, dataset.image_shape)
  state.ema.trainable_variables[0].assign_add(state.ema.trainable_variables[0] + 1)
  state.step.assign(6)
  Checkpoints(workdir, state.checkpoint()).save('latest')
  return workdir, state


def test_load_run(run, config, dataset):
  workdir, state = run
  loaded = load_run(str(workdir), 'latest')
  assert (loaded.step, loaded.checkpoint, loaded.workdir) == (6, 'latest', workdir)
  assert (loaded.image_shape, loaded.levels, loaded.fingerprint) == ((4, 4, 1), 256, dataset.fingerprint)
  assert loaded.config.to_json() == config.to_json()
  for a, b in zip(loaded.generator.variables, state.ema.variables, strict=True):
    np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_load_data(run, dataset, images):
  loaded = load_run(run[0], 'latest')
  assert load_data(loaded).fingerprint == dataset.fingerprint
  with pytest.raises(UsageError, match=f'{run[0]}: was trained on other data than --dataset={images} is now'):
    load_data(dataclasses.replace(loaded, fingerprint='0' * 64))


def test_new_folders_are_made(tmp_path, config, dataset):
  workdir = open_workdir(tmp_path / 'a' / 'b', config, dataset)
  assert [f.name for f in workdir.iterdir()] == ['config.json']
  with pytest.raises(UsageError, match='has no checkpoint yet'):
    find_run(workdir)


def test_free_settings_may_change(run, config, dataset):
  workdir, _ = run
  config.update({'steps': 77, 'log_every': 3, 'data_dir': 'x', 'cache_dir': 'y'})
  open_workdir(workdir, config, dataset)
  assert load_run(workdir, 'latest').config.steps == 77


@pytest.mark.parametrize(
  ('key', 'value', 'change'),
  [
    ('batch_size', 9, 'batch_size 8 -> 9'),
    ('lambda', 0.2, 'lambda 0.1 -> 0.2'),
    ('generator.hidden_units', 9, 'generator.hidden_units 8 -> 9'),
    ('gradient_penalty', 1.0, 'gradient_penalty None -> 1.0'),
    ('critic.channels', (3,), r'critic.channels \[2\] -> \[3\]'),
  ],
)
def test_another_configuration_is_refused(run, config, dataset, key, value, change):
  workdir, _ = run
  before = (workdir / 'config.json').read_bytes()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UsageError, match=f'--workdir={workdir}: holds a run with another configuration .*{change}'):
    open_workdir(workdir, config, dataset)
  assert (workdir / 'config.json').read_bytes() == before


def test_a_run_that_saved_nothing_may_take_another_configuration(tmp_path, config, dataset):
  """As when it failed at its start for want of what the configuration asks for."""
  workdir = open_workdir(tmp_path / 'run', config, dataset)
  config.scorer = 'inception'
  open_workdir(workdir, config, dataset)
  assert json.loads((workdir / 'config.json').read_text())['config']['scorer'] == 'inception'


def test_other_data_under_the_same_name_are_refused(run, config, tmp_path):
  (tmp_path / 'other').mkdir()
  other = data.load(write_images(tmp_path / 'other' / 'images.npz', count=41))
  with pytest.raises(UsageError, match='run on other data'):
    open_workdir(run[0], config, other)


def test_foreign_files_are_refused(tmp_path, config, dataset):
  (tmp_path / 'thesis.tex').write_text('precious')
  with pytest.raises(UsageError, match='is not empty and holds no run'):
    open_workdir(tmp_path, config, dataset)
  assert [f.name for f in tmp_path.iterdir()] == ['thesis.tex']


def test_unwritable_folders_are_refused(tmp_path, config, dataset):
  file = tmp_path / 'file'
  file.touch()
  for workdir in (file, file / 'run'):
    with pytest.raises(UsageError, match=f'--workdir={workdir}: cannot be written'):
      open_workdir(workdir, config, dataset)


def test_what_is_no_run(tmp_path, run):
  with pytest.raises(UsageError, match='no such folder'):
    load_run(tmp_path / 'missing', 'latest')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UsageError, match=r'holds no config\.json'):
    load_run(tmp_path / 'empty', 'latest')
  with pytest.raises(UsageError, match=r"no checkpoint 'best_nll' in this run; it has: latest"):
    load_run(run[0], 'best_nll')


def _without(key):
  def edit(text):
    description = json.loads(text)
    del description['data'][key]
    return json.dumps(description)

  return edit


@pytest.mark.parametrize(
  'edit',
  [
    lambda text: text[: len(text) // 2],
    lambda text: '',
    lambda text: '[1, 2]',
    lambda text: '{"config": 3, "data": {}}',
    lambda text: '{"config": {}, "data": []}',
    lambda text: text.replace('"steps"', '"stops"'),
    lambda text: text.replace('"batch_size": 8', '"batch_size": "eight"'),
    lambda text: text.replace('"batch_size": 8', '"batch_size": null'),
    lambda text: text.replace('"nice"', '"glow"'),
    _without('levels'),
    _without('image_shape'),
  ],
)
def test_damaged_config(run, config, dataset, edit):
  workdir, _ = run
  path = pathlib.Path(workdir) / 'config.json'
  path.write_text(edit(path.read_text()))
  for read in (lambda: load_run(workdir, 'latest'), lambda: open_workdir(workdir, config, dataset)):
    with pytest.raises(UsageError) as caught:
      read()
    assert str(caught.value).startswith(f'{path}: damaged or from another version')
    assert '\n' not in str(caught.value)


def test_config_that_is_no_text(run):
  workdir, _ = run
  (workdir / 'config.json').write_bytes(b'\xff\xfe\x00garbage')
  with pytest.raises(UsageError, match=r'config\.json: damaged'):
    load_run(workdir, 'latest')


def test_two_trainings_in_one_folder_are_refused(tmp_path):
  with exclusive(tmp_path), pytest.raises(UsageError, match='another training'), exclusive(tmp_path):
    raise AssertionError('the second training got in')
  with exclusive(tmp_path / 'new' / 'folder'):
    assert (tmp_path / 'new' / 'folder').is_dir()
