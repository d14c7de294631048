"""Checkpoints of a run: the latest state, and the best flows by NLL and by score."""

from __future__ import annotations

import os
import pathlib
import re
import shutil

import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.flows import Flow
from flowgan_tf.training.state import TrainState

__all__ = ['CHECKPOINTS', 'Checkpoints', 'available', 'restore_flow']

CHECKPOINTS = ('latest', 'best_nll', 'best_score')

# What TensorFlow raises for a checkpoint that lost a file, was cut short, has flipped bits or holds something else.
_DAMAGE = (tf.errors.OpError, IndexError, AssertionError, ValueError)


class Checkpoints:
  """Saves and restores the state of a training below `<workdir>/checkpoints`.

  `latest` holds the whole state, `best_nll` and `best_score` the averaged flow and the step alone. Each is a folder of
  its own, as the paper's tables take their NLL column from one and their score column from the other.
  """

  def __init__(self, workdir: pathlib.Path, state: TrainState):
    """Prepares the folders; nothing is read or written yet."""
    self._folder = workdir / 'checkpoints'
    self._state = state
    flow_alone = tf.train.Checkpoint(ema=state.ema, step=state.step)
    self._managers = {
      name: tf.train.CheckpointManager(
        state.checkpoint() if name == 'latest' else flow_alone,
        str(self._folder / name),
        max_to_keep=2 if name == 'latest' else 1,
      )
      for name in CHECKPOINTS
    }

  def save(self, name: str) -> None:
    """Saves under one of `CHECKPOINTS`, numbered by the step."""
    self._managers[name].save(checkpoint_number=self._state.step)

  def restore(self) -> bool:
    """Restores the latest state, if there is one.

    Returns:
      Whether something was restored.

    Raises:
      UsageError: If the folder holds checkpoints that cannot be read: training must not silently start again.
    """
    for leftover in self._folder.glob('*/ckpt-*_temp'):
      _remove_unfinished(leftover)
    path = _newest(self._folder / 'latest')
    if path is None:
      return False
    try:
      self._managers['latest'].checkpoint.restore(path).assert_consumed()
    except _DAMAGE as error:
      raise UsageError(_damaged(path, error)) from error
    return True


def available(workdir: pathlib.Path) -> list[str]:
  """The names of `CHECKPOINTS` that a run holds."""
  return [name for name in CHECKPOINTS if _newest(workdir / 'checkpoints' / name)]


def restore_flow(workdir: pathlib.Path, name: str, flow: Flow) -> int:
  """Restores the averaged flow of a run into `flow`, built with the run's configuration.

  Args:
    workdir: Folder of the run.
    name: One of `CHECKPOINTS`.
    flow: The flow to restore into.

  Returns:
    The training step of the checkpoint.

  Raises:
    UsageError: If the run has no such checkpoint or it cannot be read.
  """
  path = _newest(workdir / 'checkpoints' / name)
  if path is None:
    have = ', '.join(available(workdir)) or 'none'
    raise UsageError(f'{workdir}: no checkpoint {name!r} in this run; it has: {have}')
  step = tf.Variable(0, dtype=tf.int64)
  try:
    status = tf.train.Checkpoint(ema=flow, step=step).restore(path)
    status.assert_existing_objects_matched().expect_partial()
  except _DAMAGE as error:
    raise UsageError(_damaged(path, error)) from error
  return int(step)


def _newest(folder: pathlib.Path) -> str | None:
  """The newest checkpoint in a folder, by the files and not by TensorFlow's `checkpoint` index file.

  Without that file, or with garbage in it, TensorFlow reports no checkpoint at all, and a training would start again
  from scratch. For the same reason a checkpoint that lost one of its files counts, but one that was never finished does
  not: TensorFlow writes into `ckpt-N_temp`, moves the data out, then writes `ckpt-N.index`, then removes the folder.
  """
  names = {f.name.partition('.')[0] for f in folder.glob('ckpt-*.*')}
  finished = [n for n in names if (folder / f'{n}.index').exists() or not (folder / f'{n}_temp').exists()]
  newest = max(finished, key=lambda name: int(name.removeprefix('ckpt-')), default=None)
  return newest and os.fspath(folder / newest)


def _remove_unfinished(temporary: pathlib.Path) -> None:
  """Removes what a save left behind that was killed: its temporary folder, and data that never got an index."""
  checkpoint = temporary.name.removesuffix('_temp')
  if not (temporary.parent / f'{checkpoint}.index').exists():
    for file in temporary.parent.glob(f'{checkpoint}.*'):
      file.unlink()
  shutil.rmtree(temporary, ignore_errors=True)


def _damaged(path: str, error: Exception) -> str:
  # TensorFlow may put the name of an operation in double braces first, and a traceback after.
  lines = re.sub(r'^{{.*?}} *', '', str(error).strip()).splitlines() or [type(error).__name__]
  return f'{path}: the checkpoint is damaged ({lines[0][:120]}); remove {os.path.basename(path)}.* to go on without it'
