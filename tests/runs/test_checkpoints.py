import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.runs import checkpoints as runs_checkpoints
from flowgan_tf.runs.checkpoints import CHECKPOINTS, Checkpoints, available, restore_generator
from flowgan_tf.runs.run import make_generator
from tests.runs.saves import CONFIG, assert_all, cut, fill
from tests.tiny import IMAGE_SHAPE, make_config, make_state


def test_nothing_to_restore(tmp_path, state, flow):
  assert not Checkpoints(tmp_path, state.checkpoint()).restore()
  assert available(tmp_path) == []
  with pytest.raises(UsageError, match=r"no checkpoint 'latest' in this run; it has: none"):
    restore_generator(tmp_path, 'latest', flow)


def test_latest_is_the_newest_and_one_older_is_kept(workdir, state):
  assert sorted(f.name for f in (workdir / 'checkpoints' / 'latest').glob('*.index')) == [
    'ckpt-3.index',
    'ckpt-5.index',
  ]
  assert Checkpoints(workdir, state.checkpoint()).restore()
  assert int(state.step) == 5
  assert_all([*state.generator.variables, *state.ema.variables, *state.critic.variables], 5)


def test_the_averaged_generator_alone(workdir, flow):
  assert available(workdir) == ['latest', 'best_nll']
  for name, step in (('latest', 5), ('best_nll', 3)):
    assert restore_generator(workdir, name, flow) == step
    assert_all(flow.variables, step)
  with pytest.raises(UsageError, match=r"no checkpoint 'best_score' in this run; it has: latest, best_nll"):
    restore_generator(workdir, 'best_score', flow)


def test_the_average_is_restored_and_not_the_flow(tmp_path, flow):
  state = make_state(CONFIG)
  fill(state, 1)
  for variable in state.ema.variables:
    variable.assign(np.full(variable.shape, 7, np.float32))
  for name in CHECKPOINTS:
    Checkpoints(tmp_path, state.checkpoint()).save(name)
    restore_generator(tmp_path, name, flow)
    assert_all(flow.variables, 7)


@pytest.mark.parametrize('content', [b'', b'garbage \xff', b'model_checkpoint_path: "elsewhere"'])
def test_an_index_file_as_tensorflow_keeps_one_does_not_matter(workdir, state, flow, content):
  for name in ('latest', 'best_nll'):
    assert not (workdir / 'checkpoints' / name / 'checkpoint').exists()
    (workdir / 'checkpoints' / name / 'checkpoint').write_bytes(content)
  state.step.assign(0)
  checkpoints = Checkpoints(workdir, state.checkpoint())
  assert checkpoints.restore()
  assert int(state.step) == 5
  assert restore_generator(workdir, 'best_nll', flow) == 3
  fill(state, 6)
  checkpoints.save('latest')
  assert restore_generator(workdir, 'latest', flow) == 6


def test_steps_are_ordered_as_numbers(tmp_path, state, flow):
  checkpoints = Checkpoints(tmp_path, state.checkpoint())
  for step in (8, 9, 10, 11):
    fill(state, step)
    checkpoints.save('latest')
    checkpoints.save('best_nll')
    assert restore_generator(tmp_path, 'latest', flow) == step
  names = {n: sorted(f.name for f in (tmp_path / 'checkpoints' / n).glob('*.index')) for n in ('latest', 'best_nll')}
  assert names == {'latest': ['ckpt-10.index', 'ckpt-11.index'], 'best_nll': ['ckpt-11.index']}


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


DAMAGE = {
  'cut short': cut,
  'empty': lambda path: path.write_bytes(b''),
  'flipped bit': _flip,
  'missing': pathlib.Path.unlink,
  'something else': lambda path: path.write_text('something else'),
}


@pytest.mark.parametrize('ending', ['index', 'data-00000-of-00001'])
@pytest.mark.parametrize('kind', DAMAGE)
def test_damage_is_one_line_that_names_the_checkpoint(workdir, state, flow, kind, ending):
  for name, file in (('latest', 'ckpt-5'), ('best_nll', 'ckpt-3')):
    DAMAGE[kind](workdir / 'checkpoints' / name / f'{file}.{ending}')
  for file, restore in (
    ('latest/ckpt-5', lambda: Checkpoints(workdir, state.checkpoint()).restore()),
    ('latest/ckpt-5', lambda: restore_generator(workdir, 'latest', flow)),
    ('best_nll/ckpt-3', lambda: restore_generator(workdir, 'best_nll', flow)),
  ):
    with pytest.raises(UsageError) as caught:
      restore()
    message = str(caught.value)
    assert message.startswith(f'{workdir}/checkpoints/{file}: the checkpoint is damaged (')
    assert '\n' not in message
    assert '{{' not in message


def test_without_the_damaged_one_the_older_is_used(workdir, state):
  for file in (workdir / 'checkpoints' / 'latest').glob('ckpt-5.*'):
    file.unlink()
  assert Checkpoints(workdir, state.checkpoint()).restore()
  assert int(state.step) == 3


def test_another_architecture_does_not_pass_for_this_one(workdir):
  with pytest.raises(UsageError, match='damaged'):
    restore_generator(workdir, 'latest', make_generator(make_config({'nice.hidden_units': 9}), IMAGE_SHAPE))
  with pytest.raises(UsageError, match='damaged'):
    Checkpoints(workdir, make_state(make_config({'nice.hidden_layers': 2}, objective='hybrid')).checkpoint()).restore()


# Names of folders that TensorFlow's readers would take for patterns, and other odd ones.
ODD_NAMES = ('[a]', 'a[b', 'a*', '?', 'a\\b', 'a b', '%s', '{}', '"\'"', 'é', '-$x#', 'a\nb', "*[!a]?\\[b] %'é")


@pytest.mark.parametrize('name', ODD_NAMES)
def test_a_path_is_never_a_pattern(saved, tmp_path, state, flow, name):
  workdir = pathlib.Path(shutil.copytree(saved, tmp_path / name / 'run'))
  checkpoints = Checkpoints(workdir, state.checkpoint())
  assert checkpoints.restore()
  assert int(state.step) == 5
  fill(state, 7)
  checkpoints.save('latest')
  for checkpoint, step in (('latest', 7), ('best_nll', 3)):
    assert restore_generator(workdir, checkpoint, flow) == step
    assert_all(flow.variables, step)
  _flip(workdir / 'checkpoints' / 'latest' / 'ckpt-7.index')
  with pytest.raises(UsageError) as caught:
    restore_generator(workdir, 'latest', flow)
  assert str(caught.value).startswith(f'{workdir}/checkpoints/latest/ckpt-7: the checkpoint is damaged (')


def test_a_relative_path_is_no_pattern_either(saved, tmp_path, flow, monkeypatch):
  shutil.copytree(saved, tmp_path / '[a]')
  monkeypatch.chdir(tmp_path)
  assert restore_generator(pathlib.Path('[a]'), 'best_nll', flow) == 3


def test_a_folder_whose_name_is_not_utf_8_is_read(saved, tmp_path, flow):
  workdir = tmp_path / os.fsdecode(b'\xff')
  try:
    shutil.copytree(saved, workdir)
  except OSError:
    pytest.skip('this file system has names in UTF-8 only')
  assert restore_generator(workdir, 'best_nll', flow) == 3


@pytest.mark.parametrize('name', ['best', '../checkpoints/latest', 'latest/', ''])
def test_another_name_than_those_of_checkpoints_is_refused(workdir, flow, name):
  with pytest.raises(UsageError) as caught:
    restore_generator(workdir, name, flow)
  assert str(caught.value) == f'`checkpoint` must be one of latest, best_nll, best_score. Got: {name!r}.'


@pytest.mark.parametrize('target', ['sync', 'os.replace'])
def test_a_save_that_fails_leaves_the_older_ones(workdir, state, flow, monkeypatch, target):
  before = sorted(file.name for file in (workdir / 'checkpoints' / 'latest').iterdir())

  def full(*_):
    raise OSError(28, 'No space left on device')

  with monkeypatch.context() as context:
    context.setattr(f'flowgan_tf.runs.checkpoints.{target}', full)
    fill(state, 8)
    with pytest.raises(OSError, match='No space left'):
      Checkpoints(workdir, state.checkpoint()).save('latest')
  assert sorted(file.name for file in (workdir / 'checkpoints' / 'latest').iterdir()) == before
  assert restore_generator(workdir, 'latest', flow) == 5


def test_a_power_cut_finds_each_move_on_the_disk_before_the_next_and_before_the_older_one_goes(
  workdir, state, monkeypatch
):
  done, sync, replace, unlink = [], runs_checkpoints.sync, os.replace, os.unlink
  monkeypatch.setattr(runs_checkpoints, 'sync', lambda path: (done.append(('sync', path.name)), sync(path)))
  monkeypatch.setattr(os, 'replace', lambda a, b: (done.append(('move', b.name)), replace(a, b)))
  monkeypatch.setattr(os, 'unlink', lambda path, **_: (done.append(('remove', os.path.basename(path))), unlink(path)))
  fill(state, 8)
  Checkpoints(workdir, state.checkpoint()).save('best_nll')
  index, data = 'index', 'data-00000-of-00001'
  assert set(done[:2]) == {('sync', f'ckpt-8.{data}'), ('sync', f'ckpt-8.{index}')}
  assert done[2:-2] == [
    ('move', f'ckpt-8.{data}'),
    ('sync', 'best_nll'),
    ('move', f'ckpt-8.{index}'),
    ('sync', 'best_nll'),
    ('sync', 'checkpoints'),
    ('sync', 'run'),
  ]
  assert set(done[-2:]) == {('remove', f'ckpt-3.{data}'), ('remove', f'ckpt-3.{index}')}


def test_a_checkpoint_of_the_same_step_is_replaced(workdir, state, flow):
  fill(state, 9)
  state.step.assign(5)
  Checkpoints(workdir, state.checkpoint()).save('latest')
  assert restore_generator(workdir, 'latest', flow) == 5
  assert_all(flow.variables, 9)
  # A kill when the data are out and the older index is still there.
  folder = workdir / 'checkpoints' / 'latest'
  (folder / 'ckpt-5.saving').mkdir()
  shutil.move(folder / 'ckpt-5.index', folder / 'ckpt-5.saving')
  shutil.copy(folder / 'ckpt-3.index', folder / 'ckpt-5.index')
  assert Checkpoints(workdir, state.checkpoint()).restore()
  assert_all(state.ema.variables, 9)


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
  steps = iter(range(20, 1000))
  with pytest.raises(UsageError, match='best_nll/ckpt-'):
    restore_generator(workdir, 'best_nll', flow)
  assert next(steps) < 40


# What can be in the place of a folder.
IN_THE_WAY = {'file': pathlib.Path.touch, 'dangling link': lambda path: path.symlink_to('nowhere')}


@pytest.mark.parametrize('kind', IN_THE_WAY)
def test_what_is_in_the_place_of_a_folder_is_named_in_one_line(workdir, state, kind):
  shutil.rmtree(workdir / 'checkpoints' / 'best_nll')
  IN_THE_WAY[kind](workdir / 'checkpoints' / 'best_nll')
  fill(state, 8)
  checkpoints = Checkpoints(workdir, state.checkpoint())
  with pytest.raises(OSError) as caught:
    checkpoints.save('best_nll')
  assert str(caught.value.filename).startswith(f'{workdir}/checkpoints/best_nll')
  checkpoints.save('latest')
  assert checkpoints.restore() and int(state.step) == 8


@pytest.mark.parametrize('ending', ['saving', 'temp'])
@pytest.mark.parametrize('kind', IN_THE_WAY)
def test_what_is_in_the_place_of_a_save_is_removed(workdir, state, kind, ending):
  path = workdir / 'checkpoints' / 'latest' / ('ckpt-8.saving' if ending == 'saving' else 'ckpt-8_temp')
  IN_THE_WAY[kind](path)
  checkpoints = Checkpoints(workdir, state.checkpoint())
  assert checkpoints.restore() and int(state.step) == 5
  assert not os.path.lexists(path)
  fill(state, 8)
  checkpoints.save('latest')
  assert checkpoints.restore() and int(state.step) == 8


def test_an_error_of_tensorflow_is_an_os_error_that_names_the_file(workdir, state, monkeypatch):
  def full(*_):
    raise tf.errors.ResourceExhaustedError(None, None, 'No space left on device\nmore')

  monkeypatch.setattr(tf.train.Checkpoint, 'write', full)
  fill(state, 8)
  with pytest.raises(OSError) as caught:
    Checkpoints(workdir, state.checkpoint()).save('latest')
  path = workdir / 'checkpoints' / 'latest' / 'ckpt-8.saving'
  assert str(caught.value) == f'{path}: cannot be written (No space left on device)'
  assert not path.exists()
