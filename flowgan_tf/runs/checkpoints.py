"""Checkpoints of a run: the latest state, and the best generators by NLL and by score."""

from __future__ import annotations

import os
import pathlib
import re
import shutil

import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.generators import Generator

__all__ = ['CHECKPOINTS', 'Checkpoints', 'available', 'restore_generator']

CHECKPOINTS = ('latest', 'best_nll', 'best_score')

# What TensorFlow raises for a checkpoint that lost a file, is truncated, has flipped bits or belongs to something else.
_DAMAGE = (tf.errors.OpError, IndexError, AssertionError, ValueError)


class Checkpoints:
  """Saves and restores the state of a training below `<workdir>/checkpoints`.

  `latest` holds the whole state; `best_nll` and `best_score` hold only the averaged generator and the step. The paper's
  tables take their NLL from the best checkpoint by NLL and their score from the best one by score.
  """

  def __init__(self, workdir: pathlib.Path, state: tf.train.Checkpoint):
    """Prepares saving; nothing is read or written yet.

    Args:
      workdir: Folder of the run.
      state: The whole state, with at least `ema`, the averaged generator, and `step`.
    """
    self._folder = workdir / 'checkpoints'
    self._step = state.step
    generator_alone = tf.train.Checkpoint(ema=state.ema, step=state.step)
    self._checkpoints = {name: state if name == 'latest' else generator_alone for name in CHECKPOINTS}

  def save(self, name: str) -> None:
    """Saves a checkpoint, numbered by the step, and removes older ones, except for the last but one of `latest`.

    Args:
      name: One of `CHECKPOINTS`.
    """
    folder = self._folder / name
    self._checkpoints[name].write(os.fspath(folder / f'ckpt-{int(self._step)}'))
    for old in _finished(folder)[: -2 if name == 'latest' else -1]:
      _remove(folder, old)

  def restore(self) -> bool:
    """Restores the latest state, if there is one.

    Returns:
      Whether there was a state to restore.

    Raises:
      UsageError: If the latest checkpoint cannot be read: training must not silently start again.
    """
    for temporary in self._folder.glob('*/ckpt-*_temp'):  # Left behind by a save that was killed.
      if (unfinished := temporary.name.removesuffix('_temp')) not in _finished(temporary.parent):
        _remove(temporary.parent, unfinished)
      shutil.rmtree(temporary)
    path = _newest(self._folder / 'latest')
    if path is None:
      return False
    try:
      self._checkpoints['latest'].read(path).assert_consumed()
    except _DAMAGE as error:
      raise UsageError(_damaged(path, error)) from error
    return True


def available(workdir: pathlib.Path) -> list[str]:
  """Returns the names of the checkpoints that a run has, in the order of `CHECKPOINTS`."""
  return [name for name in CHECKPOINTS if _newest(workdir / 'checkpoints' / name)]


def restore_generator(workdir: pathlib.Path, name: str, generator: Generator) -> int:
  """Restores the averaged weights of a run into a generator.

  Args:
    workdir: Folder of the run.
    name: One of `CHECKPOINTS`.
    generator: A generator built with the run's configuration. Its weights are overwritten.

  Returns:
    The training step of the checkpoint.

  Raises:
    UsageError: If the run has no such checkpoint, or it cannot be read.
  """
  path = _newest(workdir / 'checkpoints' / name)
  if path is None:
    have = ', '.join(available(workdir)) or 'none'
    raise UsageError(f'{workdir}: no checkpoint {name!r} in this run; it has: {have}')
  step = tf.Variable(0, dtype=tf.int64)
  try:
    status = tf.train.Checkpoint(ema=generator, step=step).read(path)
    status.assert_existing_objects_matched().expect_partial()
  except _DAMAGE as error:
    raise UsageError(_damaged(path, error)) from error
  return int(step)


def _newest(folder: pathlib.Path) -> str | None:
  return os.fspath(folder / names[-1]) if (names := _finished(folder)) else None


def _finished(folder: pathlib.Path) -> list[str]:
  """Names of the checkpoints in a folder, oldest first. They are found by their files: an index could be lost.

  A checkpoint that has lost one of its files counts, or a training would silently start again. One that was never
  finished does not count: TensorFlow writes into `ckpt-N_temp`, moves the data out, writes `ckpt-N.index` and removes
  the folder.
  """
  names = {m.group(1) for f in folder.glob('ckpt-*') if (m := re.fullmatch(r'(ckpt-\d+)\.(index|data-.*)', f.name))}
  finished = [n for n in names if (folder / f'{n}.index').exists() or not (folder / f'{n}_temp').exists()]
  return sorted(finished, key=lambda name: int(name.removeprefix('ckpt-')))


def _remove(folder: pathlib.Path, name: str) -> None:
  for file in folder.glob(f'{name}.*'):
    file.unlink()


def _damaged(path: str, error: Exception) -> str:
  # TensorFlow's message may begin with the name of an operation in double braces and end with a traceback.
  lines = re.sub(r'^{{.*?}} *', '', str(error).strip()).splitlines() or [type(error).__name__]
  return f'{path}: the checkpoint is damaged ({lines[0][:120]}); remove {os.path.basename(path)}.* to skip it'
