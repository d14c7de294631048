import itertools
import os
import shutil

import pytest

from flowgan_tf.runs.checkpoints import Checkpoints, restore_generator
from tests.runs.saves import assert_all, cut, fill


def cut_off_save(folder, stage):
  """What a kill leaves of the save of step 8, whose files are those of step 5, at one of its stages."""
  saving = folder / 'ckpt-8.saving'
  saving.mkdir()
  index, data = 'ckpt-8.index', 'ckpt-8.data-00000-of-00001'
  if stage == 'TensorFlow is writing':
    (saving / 'ckpt-8_temp').mkdir()
    (saving / 'ckpt-8_temp' / 'part-00000-of-00001.index').write_bytes(b'part')
    return
  shutil.copy(folder / 'ckpt-5.index', saving / index)
  shutil.copy(folder / 'ckpt-5.data-00000-of-00001', saving / data)
  if stage == 'the index is cut off':
    cut(saving / index)
  if stage in ('the data are out', 'both are out'):
    (saving / data).rename(folder / data)
  if stage == 'both are out':
    (saving / index).rename(folder / index)


@pytest.mark.parametrize(
  'stage',
  ['TensorFlow is writing', 'the index is cut off', 'neither is out', 'the data are out', 'both are out'],
)
def test_a_save_that_was_cut_off_is_completed_or_removed(workdir, state, flow, caplog, stage):
  folder = workdir / 'checkpoints' / 'latest'
  cut_off_save(folder, stage)
  # A process that does not train changes nothing. Such a folder also means that a training is saving just now.
  found = restore_generator(workdir, 'latest', flow)
  assert_all(flow.variables, 5)
  assert caplog.messages == []
  fill(state, 0)
  assert Checkpoints(workdir, state.checkpoint()).restore()
  assert_all(state.ema.variables, 5)
  names = sorted(file.name.partition('.')[0] for file in folder.iterdir())
  assert found == 5  # as the files of step 8 are those of step 5
  if stage in ('the data are out', 'both are out'):
    assert names == ['ckpt-3', 'ckpt-3', 'ckpt-5', 'ckpt-5', 'ckpt-8', 'ckpt-8']
    assert caplog.messages == []
  else:
    assert names == ['ckpt-3', 'ckpt-3', 'ckpt-5', 'ckpt-5']
    assert caplog.messages == [
      f'{folder}/ckpt-8: was not saved to its end and is removed; the checkpoint before it, {folder}/ckpt-5, is used.'
    ]
  fill(state, 8)
  Checkpoints(workdir, state.checkpoint()).save('latest')
  assert restore_generator(workdir, 'latest', flow) == 8


def cut_off_save_in_place(folder):
  """What a kill leaves of the save of step 8 by version 0.1.0: the data are out, and the index is not whole."""
  (folder / 'ckpt-8_temp').mkdir()
  (folder / 'ckpt-8_temp' / 'part-00000-of-00001.index').write_bytes(b'part')
  shutil.copy(folder / 'ckpt-5.data-00000-of-00001', folder / 'ckpt-8.data-00000-of-00001')
  shutil.copy(folder / 'ckpt-5.index', folder / 'ckpt-8.index')
  cut(folder / 'ckpt-8.index')


class Killed(BaseException):
  """What nothing catches, as a signal."""


def kill_at(patch, call):
  """Kills this process at the call of this number, from 0, that would move or remove a file or a folder."""
  calls = itertools.count()

  def killing(function):
    def killed(*args, **kwargs):
      if next(calls) == call:
        raise Killed
      return function(*args, **kwargs)

    return killed

  def rmtree(folder, ignore_errors=False):
    """Goes through the files by name, so that the data come before the index."""
    for path in sorted(folder.iterdir()):
      rmtree(path) if path.is_dir() else path.unlink()
    folder.rmdir()

  patch.setattr(shutil, 'rmtree', rmtree)
  for name in ('unlink', 'rmdir', 'replace'):
    patch.setattr(os, name, killing(getattr(os, name)))


@pytest.mark.parametrize('stage', ['TensorFlow is writing', 'neither is out', 'the data are out', 'by version 0.1.0'])
def test_a_kill_while_a_save_that_was_cut_off_is_completed_or_removed(workdir, state, monkeypatch, stage):
  folder = workdir / 'checkpoints' / 'latest'
  before, kills = shutil.copytree(folder, workdir / 'before'), 0
  while True:
    cut_off_save_in_place(folder) if stage == 'by version 0.1.0' else cut_off_save(folder, stage)
    try:
      with monkeypatch.context() as patch:
        kill_at(patch, kills)
        Checkpoints(workdir, state.checkpoint()).restore()
      break
    except Killed:
      kills += 1
    fill(state, 0)
    assert Checkpoints(workdir, state.checkpoint()).restore()
    assert_all(state.ema.variables, 5)
    names = {file.name.partition('.')[0] for file in folder.iterdir()}
    assert names == {'ckpt-3', 'ckpt-5', *(['ckpt-8'] if stage == 'the data are out' else [])}
    shutil.rmtree(folder)
    shutil.copytree(before, folder)
  assert kills >= 2


def test_the_first_save_was_cut_off(workdir, state, caplog):
  for file in (workdir / 'checkpoints' / 'latest').iterdir():
    file.unlink()
  (workdir / 'checkpoints' / 'latest' / 'ckpt-0.saving').mkdir()
  assert not Checkpoints(workdir, state.checkpoint()).restore()
  assert caplog.messages == [
    f'{workdir}/checkpoints/latest/ckpt-0: was not saved to its end and is removed; none is before it.'
  ]


# Saves of version 0.1.0 and of TensorFlow's own: it writes into a temporary folder, moves the data out of it, then
# writes the index.


@pytest.mark.parametrize('moved', ['nothing', 'the data', 'an empty index', 'part of the index'])
def test_a_save_in_place_that_was_killed_is_passed_over(workdir, state, flow, caplog, moved):
  folder = workdir / 'checkpoints' / 'latest'
  (folder / 'ckpt-8_temp').mkdir()
  (folder / 'ckpt-8_temp' / 'part-00000-of-00001.index').write_bytes(b'part')
  if moved != 'nothing':
    shutil.copy(folder / 'ckpt-5.data-00000-of-00001', folder / 'ckpt-8.data-00000-of-00001')
    (folder / 'ckpt-8.index.tempstate123').touch()
  if moved.endswith('index'):
    shutil.copy(folder / 'ckpt-5.index', folder / 'ckpt-8.index')
    {'an empty index': lambda path: path.write_bytes(b''), 'part of the index': cut}[moved](folder / 'ckpt-8.index')
  assert restore_generator(workdir, 'latest', flow) == 5
  cut_off = f'{folder}/ckpt-8: was not saved to its end'
  assert caplog.messages == [f'{cut_off}; the checkpoint before it, {folder}/ckpt-5, is used.']
  caplog.clear()
  checkpoints = Checkpoints(workdir, state.checkpoint())
  assert checkpoints.restore()
  assert int(state.step) == 5
  assert not list(folder.glob('ckpt-8*'))
  assert caplog.messages == [f'{cut_off} and is removed; the checkpoint before it, {folder}/ckpt-5, is used.']
  fill(state, 8)
  checkpoints.save('latest')
  assert restore_generator(workdir, 'latest', flow) == 8


def test_a_finished_save_whose_folder_was_left_counts(workdir, state, caplog):
  folder = workdir / 'checkpoints' / 'latest' / 'ckpt-5_temp'
  folder.mkdir()
  assert Checkpoints(workdir, state.checkpoint()).restore()
  assert int(state.step) == 5
  assert not folder.exists()
  assert caplog.messages == []
