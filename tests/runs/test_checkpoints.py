"""Checkpoints are saved whole or not at all, and what is damaged, cut off or of another run is one line."""

import itertools
import os
import pathlib
import re
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.runs import checkpoints as runs_checkpoints
from flowgan_tf.runs.checkpoints import Checkpoints, restore_generator
from flowgan_tf.runs.folder import available, latest_step
from flowgan_tf.runs.run import make_generator
from tests.tiny import IMAGE_SHAPE, make_config, make_state

CONFIG = make_config(objective='hybrid')


def fill(state, value):
  for variable in (*state.generator.variables, *state.ema.variables, *state.critic.variables):
    variable.assign(np.full(variable.shape, value, np.float32))
  state.step.assign(int(value))


def assert_all(variables, value):
  for variable in variables:
    np.testing.assert_array_equal(variable.numpy(), np.full(variable.shape, value))


def cut(path):
  path.write_bytes(path.read_bytes()[:-100])


def files(folder):
  return sorted(file.name for file in folder.iterdir())


def files_of(*steps):
  return sorted(['checkpoint', *(f'ckpt-{step}.{end}' for step in steps for end in ('data-00000-of-00001', 'index'))])


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A run with `latest` at the steps 3 and 5 and `best_nll` at step 3; weights are the number of the step."""
  folder = tmp_path_factory.mktemp('saved')
  state = make_state(CONFIG)
  checkpoints = Checkpoints(folder, state.checkpoint())
  for step, names in ((2, ['latest']), (3, ['latest', 'best_nll']), (5, ['latest'])):
    fill(state, step)
    for name in names:
      checkpoints.save(name)
  return folder


@pytest.fixture
def workdir(saved, tmp_path):
  return pathlib.Path(shutil.copytree(saved, tmp_path / 'run'))


@pytest.fixture
def latest(workdir):
  return workdir / 'checkpoints' / 'latest'


@pytest.fixture(scope='module')
def state():
  return make_state(CONFIG)


@pytest.fixture(scope='module')
def flow():
  return make_generator(CONFIG, IMAGE_SHAPE)


def test_nothing_to_restore(tmp_path, state, flow):
  assert not Checkpoints(tmp_path, state.checkpoint()).restore()
  assert (available(tmp_path), latest_step(tmp_path)) == ([], 0)
  with pytest.raises(UsageError, match=r"no checkpoint 'latest' in this run; it has: none"):
    restore_generator(tmp_path, 'latest', flow)


def test_latest_is_the_whole_state_and_one_older_is_kept(workdir, latest, state, flow):
  assert files(latest) == files_of(3, 5)
  assert (available(workdir), latest_step(workdir)) == (['latest', 'best_nll'], 5)
  checkpoints = Checkpoints(workdir, state.checkpoint())
  assert checkpoints.restore() and int(state.step) == 5
  assert_all([*state.generator.variables, *state.ema.variables, *state.critic.variables], 5)
  # Steps are ordered as numbers.
  for step in (9, 10, 11):
    fill(state, step)
    checkpoints.save('latest')
    checkpoints.save('best_nll')
    assert restore_generator(workdir, 'latest', flow) == step
  assert files(latest) == files_of(10, 11) and files(workdir / 'checkpoints' / 'best_nll') == files_of(11)


def test_the_averaged_generator_alone(workdir, state, flow):
  assert restore_generator(workdir, 'best_nll', flow) == 3
  assert_all(flow.variables, 3)
  fill(state, 8)
  for variable in state.ema.variables:
    variable.assign(np.full(variable.shape, 7, np.float32))
  for name in ('latest', 'best_nll', 'best_score'):
    Checkpoints(workdir, state.checkpoint()).save(name)
    assert restore_generator(workdir, name, flow) == 8
    assert_all(flow.variables, 7)


def test_a_checkpoint_that_is_there_is_not_written_again(workdir, state, flow):
  fill(state, 9)
  state.step.assign(5)
  Checkpoints(workdir, state.checkpoint()).save('latest')
  assert restore_generator(workdir, 'latest', flow) == 5
  assert_all(flow.variables, 5)


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


DAMAGE = {
  'cut short': ('index', cut),
  'flipped bit': ('data-00000-of-00001', flip),
  'missing': ('data-00000-of-00001', pathlib.Path.unlink),
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_damage_is_one_line_that_names_the_checkpoint(workdir, latest, state, flow, kind):
  ending, damage = DAMAGE[kind]
  damage(latest / f'ckpt-5.{ending}')
  for restore in (Checkpoints(workdir, state.checkpoint()).restore, lambda: restore_generator(workdir, 'latest', flow)):
    said = rf'^{latest}/ckpt-5: the checkpoint is damaged \([^{{].*\); remove ckpt-5\.\* to skip it$'
    with pytest.raises(UsageError, match=said):
      restore()
  # Without it, the one before is used.
  for file in latest.glob('ckpt-5.*'):
    file.unlink()
  assert Checkpoints(workdir, state.checkpoint()).restore() and int(state.step) == 3


def test_what_cannot_be_read_is_not_damaged(workdir, latest, flow, monkeypatch):
  for code, kind, said in (
    (tf.errors.PermissionDeniedError, UsageError, rf'^{latest}/ckpt-5: cannot be read \(Permission denied\)$'),
    (tf.errors.ResourceExhaustedError, tf.errors.ResourceExhaustedError, '^Permission'),
  ):
    monkeypatch.setattr(tf.train, 'load_checkpoint', mock.Mock(side_effect=code(None, None, 'Permission denied')))
    with pytest.raises(kind, match=said):
      restore_generator(workdir, 'latest', flow)


@pytest.mark.parametrize('content', [b'', b'\xff', b'model_checkpoint_path: "elsewhere"'])
def test_a_damaged_list_of_checkpoints_does_not_start_a_training_again(workdir, latest, state, flow, content):
  (latest / 'checkpoint').write_bytes(content)
  checkpoints = Checkpoints(workdir, state.checkpoint())
  for read in (checkpoints.restore, lambda: checkpoints.save('latest'), lambda: available(workdir)):
    with pytest.raises(UsageError, match=rf'^{latest}/checkpoint: damaged; make it the line model_checkpoint_path: "'):
      read()
  (latest / 'checkpoint').write_text('model_checkpoint_path: "ckpt-5"')
  assert restore_generator(workdir, 'latest', flow) == 5
  fill(state, 6)
  checkpoints.save('latest')
  assert restore_generator(workdir, 'latest', flow) == 6


def test_another_architecture_does_not_pass_for_this_one(workdir):
  for name, value in (('nice.hidden_units', 9), ('nice.hidden_layers', 2)):
    config = make_config({name: value}, objective='hybrid')
    with pytest.raises(UsageError, match=r'does not fit the generator that this version builds, or is damaged \('):
      restore_generator(workdir, 'latest', make_generator(config, IMAGE_SHAPE))
    with pytest.raises(UsageError, match=r'does not fit the generator that this version builds, or is damaged \('):
      Checkpoints(workdir, make_state(config).checkpoint()).restore()


def test_a_checkpoint_of_another_run_is_rejected(tmp_path, state, flow):
  here = {'seed': 0, 'nice.couplings': 2, 'data': 'abc'}
  fill(state, 4)
  for name in ('latest', 'best_nll'):
    Checkpoints(tmp_path, state.checkpoint(), here | {'older': True}).save(name)
  # Settings of one version alone say nothing.
  assert restore_generator(tmp_path, 'latest', flow, here | {'newer': True}) == 4
  assert Checkpoints(tmp_path, state.checkpoint(), here).restore()
  other = {'seed': 1, 'nice.couplings': 2, 'data': 'def'}
  for name, restore in (
    ('latest', Checkpoints(tmp_path, state.checkpoint(), other).restore),
    ('best_nll', lambda: restore_generator(tmp_path, 'best_nll', flow, other)),
  ):
    said = rf'/{name}/ckpt-4: is a checkpoint of another run \(seed 0 and not 1, data abc and not def\); put this run'
    with pytest.raises(UsageError, match=f'^{tmp_path}/checkpoints{said}'):
      restore()


# The second has several of the characters that TensorFlow would take for patterns, and other odd ones.
@pytest.mark.parametrize('name', ['*', "*[!a]?\\[b] %'é\n", os.fsdecode(b'\xff')])
def test_a_path_is_never_a_pattern(saved, tmp_path, state, flow, monkeypatch, name):
  workdir = pathlib.Path(shutil.copytree(saved, tmp_path / name / 'run'))
  neighbor = pathlib.Path(shutil.copytree(saved, tmp_path / 'a' / 'run'))  # What '*' would match.
  checkpoints = Checkpoints(workdir, state.checkpoint())
  assert checkpoints.restore() and int(state.step) == 5
  fill(state, 7)
  checkpoints.save('latest')
  assert files(workdir / 'checkpoints' / 'latest') == files_of(5, 7)
  assert files(neighbor / 'checkpoints' / 'latest') == files_of(3, 5)
  monkeypatch.chdir(tmp_path)
  assert restore_generator(pathlib.Path(name) / 'run', 'latest', flow) == 7
  flip(workdir / 'checkpoints' / 'latest' / 'ckpt-7.index')
  with pytest.raises(UsageError, match=re.escape(f'{workdir}/checkpoints/latest/ckpt-7: the checkpoint is damaged')):
    restore_generator(workdir, 'latest', flow)


@pytest.mark.parametrize('moved', ['nothing', 'part of the index', 'everything'])
def test_a_save_that_was_cut_off_is_removed(workdir, latest, state, flow, caplog, moved):
  """TensorFlow writes in `ckpt-8_temp`, moves the data out of it, writes the index, and removes the folder."""
  (latest / 'ckpt-8_temp').mkdir()
  (latest / 'ckpt-8_temp' / 'part-00000-of-00001.index').write_bytes(b'part')
  (latest / 'checkpoint.tmp0123').touch()
  if moved != 'nothing':
    shutil.copy(latest / 'ckpt-5.data-00000-of-00001', latest / 'ckpt-8.data-00000-of-00001')
    shutil.copy(latest / 'ckpt-5.index', latest / 'ckpt-8.index')
  if moved == 'part of the index':
    cut(latest / 'ckpt-8.index')
  # A program that reads changes nothing: a training may be saving just now.
  assert restore_generator(workdir, 'latest', flow) == 5
  assert (latest / 'ckpt-8_temp').exists() and caplog.messages == []
  checkpoints = Checkpoints(workdir, state.checkpoint())
  assert checkpoints.restore() and int(state.step) == 5
  assert files(latest) == files_of(3, 5)
  [said] = caplog.messages
  assert said == f'{latest}/ckpt-8: was not saved completely and is removed; ckpt-5, the checkpoint before it, is used.'
  fill(state, 8)
  checkpoints.save('latest')
  assert files(latest) == files_of(5, 8)


def test_what_is_left_of_the_first_save_or_behind_a_finished_one_is_removed(tmp_path, workdir, latest, state, caplog):
  (latest / 'ckpt-5_temp').mkdir()
  assert Checkpoints(workdir, state.checkpoint()).restore()
  assert int(state.step) == 5 and files(latest) == files_of(3, 5) and caplog.messages == []
  folder = tmp_path / 'checkpoints' / 'latest'
  (folder / 'ckpt-0_temp').mkdir(parents=True)
  assert not Checkpoints(tmp_path, state.checkpoint()).restore() and files(folder) == []
  assert caplog.messages == [f'{folder}/ckpt-0: was not saved completely and is removed; no checkpoint precedes it.']


def test_a_full_disk_leaves_the_older_ones(workdir, latest, state, flow):
  checkpoints = Checkpoints(workdir, state.checkpoint())
  fill(state, 8)
  full = OSError(28, 'No space left on device')
  with mock.patch.object(runs_checkpoints, 'sync', side_effect=full), pytest.raises(OSError, match='No space left'):
    checkpoints.save('latest')
  assert restore_generator(workdir, 'latest', flow) == 5
  full = tf.errors.ResourceExhaustedError(None, None, 'No space left on device\nmore')
  said = rf'^{latest}/ckpt-8: cannot be written \(No space left on device\)$'
  with mock.patch.object(tf.train.CheckpointManager, 'save', side_effect=full), pytest.raises(OSError, match=said):
    checkpoints.save('latest')
  checkpoints.save('latest')
  assert restore_generator(workdir, 'latest', flow) == 8 and files(latest) == files_of(5, 8)


def test_a_power_cut_finds_the_new_one_on_the_disk_before_the_older_one_goes(workdir, state, monkeypatch):
  done, sync = [], runs_checkpoints.sync
  best = workdir / 'checkpoints' / 'best_nll'
  monkeypatch.setattr(runs_checkpoints, 'sync', lambda path: (done.append((path.name, files(best))), sync(path)))
  fill(state, 8)
  Checkpoints(workdir, state.checkpoint()).save('best_nll')
  folders = ['best_nll', 'checkpoints', 'run']
  *data, (after, last) = [entry for entry in done if entry[0] not in folders]
  assert {name for name, _ in data} == {'ckpt-8.index', 'ckpt-8.data-00000-of-00001'}
  assert all(found == files_of(3, 8) for _, found in data) and (after, last) == ('checkpoint', files_of(8))
  assert [name for name, _ in done if name in folders] == 2 * folders


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_looked_up_again(workdir, state, flow, monkeypatch):
  checkpoints, read = Checkpoints(workdir, state.checkpoint()), tf.train.Checkpoint.read
  steps = iter(range(10, 10 + 3))

  def replaced(self, path, options=None):
    if (step := next(steps, None)) is not None:
      fill(state, step)
      checkpoints.save('best_nll')
    return read(self, path, options)

  monkeypatch.setattr(tf.train.Checkpoint, 'read', replaced)
  assert restore_generator(workdir, 'best_nll', flow) == 12
  assert_all(flow.variables, 12)
  # One that is replaced every time is an error in the end.
  steps = itertools.count(20)
  with pytest.raises(UsageError, match='best_nll/ckpt-'):
    restore_generator(workdir, 'best_nll', flow)
  assert next(steps) < 40


def test_checkpoints_that_are_all_replaced_since_their_list_was_read_are_looked_up_again(workdir, state, monkeypatch):
  checkpoints, read_text, saved = Checkpoints(workdir, state.checkpoint()), pathlib.Path.read_text, []

  def replaced(path):
    text = read_text(path)
    if not saved:
      saved.append(path)
      fill(state, 10)
      checkpoints.save('best_nll')
    return text

  monkeypatch.setattr(pathlib.Path, 'read_text', replaced)
  assert runs_checkpoints._newest(workdir / 'checkpoints' / 'best_nll').name == 'ckpt-10'
