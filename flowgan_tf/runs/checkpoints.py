"""Checkpoints of a run: the latest state, and the best generators by NLL and by score."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.files import sync
from flowgan_tf.flows import Generator
from flowgan_tf.runs.config import CHECKPOINTS
from flowgan_tf.runs.origin import check_origin, write_origin

__all__ = ['CHECKPOINTS', 'Checkpoints', 'available', 'latest_step', 'restore_generator']

_LOG = logging.getLogger(__name__)

# What TensorFlow raises for a checkpoint that lost a file, is truncated, has flipped bits or belongs to something else.
_DAMAGE = (tf.errors.OpError, IndexError, AssertionError, ValueError)

_ATTEMPTS = 10  # A training may replace a checkpoint while another process reads it.


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
    self._workdir, self._folder = workdir, workdir / 'checkpoints'
    self._step = state.step
    generator_alone = tf.train.Checkpoint(ema=state.ema, step=state.step)
    self._checkpoints = {name: state if name == 'latest' else generator_alone for name in CHECKPOINTS}

  def save(self, name: str) -> None:
    """Saves a checkpoint, numbered by the step, and removes older ones, except for the last but one of `latest`.

    It is written in a folder of its own and moved when it is whole and on the disk, so that a kill, a full disk or a
    power cut leaves the older ones as they were.

    Args:
      name: One of `CHECKPOINTS`.

    Raises:
      OSError: If it cannot be written; a `UsageError` for its `ckpt-N.run.json`.
    """
    folder = self._folder / name
    saving = folder / f'ckpt-{int(self._step)}.saving'
    saving.mkdir(parents=True, exist_ok=True)  # What is in the way is named by this error, and not by TensorFlow's.
    try:
      try:
        self._checkpoints[name].write(os.fspath(saving / saving.stem))
      except tf.errors.OpError as error:
        raise OSError(f'{saving}: cannot be written ({error.message.splitlines()[0]})') from error
      write_origin(saving / saving.stem, self._workdir)
      for file in saving.iterdir():
        sync(file)
      for ending in ('run.json', 'data-*'):  # The data at last, as they count as a checkpoint.
        for file in saving.glob(f'*.{ending}'):
          os.replace(file, folder / file.name)
      sync(folder)  # The data before the index, after a power cut as well.
    finally:
      _finish(saving)
    for changed in (folder, self._folder, self._folder.parent):  # Before the older ones go; folders may be new, too.
      sync(changed)
    for old in _finished(folder)[: -2 if name == 'latest' else -1]:
      _remove(folder, old)

  def restore(self) -> bool:
    """Restores the latest state, if there is one, and removes saves that a kill or a full disk has cut off.

    Returns:
      Whether there was a state to restore.

    Raises:
      UsageError: If the latest checkpoint cannot be read, as training must not silently start again, or belongs to
        another run.
    """
    for folder in (self._folder / name for name in CHECKPOINTS):
      _sweep(folder)
    path = _newest(self._folder / 'latest')
    if path is not None:
      check_origin(pathlib.Path(path), self._workdir)
      _read(self._checkpoints['latest'], path, lambda status: status.assert_consumed())
    return path is not None


def available(workdir: pathlib.Path) -> list[str]:
  """Returns the names of the checkpoints that a run has, in the order of `CHECKPOINTS`."""
  return [name for name in CHECKPOINTS if _newest(workdir / 'checkpoints' / name)]


def latest_step(workdir: pathlib.Path) -> int:
  """Returns the step at which the training of a run resumes, by the checkpoint's name; 0 if it has no `latest`."""
  path = _newest(workdir / 'checkpoints' / 'latest')
  return int(path.rpartition('-')[2]) if path else 0


def restore_generator(workdir: pathlib.Path, checkpoint: str, generator: Generator) -> int:
  """Restores the averaged weights of a run into a generator. A training may be running in the run's folder.

  Args:
    workdir: Folder of the run.
    checkpoint: One of `CHECKPOINTS`.
    generator: A generator built with the run's configuration. Its weights are overwritten.

  Returns:
    The training step of the checkpoint.

  Raises:
    UsageError: If the run has no such checkpoint, or it cannot be read or belongs to another run.
  """
  if checkpoint not in CHECKPOINTS:
    raise UsageError(f'`checkpoint` must be one of {", ".join(CHECKPOINTS)}. Got: {checkpoint!r}.')
  folder = workdir / 'checkpoints' / checkpoint
  step = tf.Variable(0, dtype=tf.int64)
  reader = tf.train.Checkpoint(ema=generator, step=step)
  for attempt in range(_ATTEMPTS):
    path = _newest(folder)
    if path is None:
      have = ', '.join(available(workdir)) or 'none'
      raise UsageError(f'{workdir}: no checkpoint {checkpoint!r} in this run; it has: {have}')
    try:
      check_origin(pathlib.Path(path), workdir)
      _read(reader, path, lambda status: status.assert_existing_objects_matched().expect_partial())
      break
    except UsageError:
      if attempt == _ATTEMPTS - 1 or _newest(folder) == path:
        raise
  for leftover, name in _leftovers(folder):
    # A save that is going on is none that was cut off; those of older versions left another folder.
    if leftover.name.endswith('_temp') and not _is_whole(folder, name):
      _LOG.warning('%s: was not saved to its end; the checkpoint before it, %s, is used.', folder / name, path)
  return int(step.numpy())  # Of a strategy's copies there is no `int`.


def _newest(folder: pathlib.Path) -> str | None:
  return os.fspath(folder / names[-1]) if (names := _finished(folder)) else None


def _finished(folder: pathlib.Path) -> list[str]:
  """Names of the checkpoints in a folder, oldest first. They are found by their files: an index could be lost.

  A checkpoint that has lost one of its files counts, or a training would silently start again. One that was never
  finished does not count.
  """
  names = {m[1] for f in folder.glob('ckpt-*') if (m := re.fullmatch(r'(ckpt-\d+)\.(index|data-.*)', f.name))}
  return sorted((n for n in names if _is_whole(folder, n)), key=lambda name: int(name.removeprefix('ckpt-')))


def _is_whole(folder: pathlib.Path, name: str) -> bool:
  """Whether a checkpoint, of which there are files, was saved to its end.

  A save moves the data out of `ckpt-N.saving`, then the index, and removes the folder. Older versions saved as
  TensorFlow does: it moves the data out of `ckpt-N_temp`, writes the index bit by bit, and removes the folder.
  """
  index = folder / f'{name}.index'
  if (folder / f'{name}.saving').exists():  # Asked first: if it disappears meanwhile, the index is there.
    return index.exists()
  return not (folder / f'{name}_temp').exists() or (index.exists() and _has_index(os.fspath(folder / name)))


def _has_index(path: str) -> bool:
  try:
    with _literal(path) as literal:
      tf.train.load_checkpoint(literal)
  except _DAMAGE:
    return False
  return True


def _leftovers(folder: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
  """The folders of saves that have not ended, with the names of the checkpoints."""
  return [(f, m[1]) for f in folder.glob('ckpt-*') if (m := re.fullmatch(r'(ckpt-\d+)(\.saving|_temp)', f.name))]


def _sweep(folder: pathlib.Path) -> None:
  """Completes saves of which only the last move is missing, and removes others that have not ended."""
  for leftover, name in _leftovers(folder):
    if leftover.suffix == '.saving':
      whole = _finish(leftover)
    else:
      whole = _is_whole(folder, name)
      if not whole:
        _remove(folder, name)
      _discard(leftover)  # At last: it is the only mark of a save that has not ended.
    if not whole:
      before = f'the checkpoint before it, {newest}, is used' if (newest := _newest(folder)) else 'none is before it'
      _LOG.warning('%s: was not saved to its end and is removed; %s.', folder / name, before)


def _finish(saving: pathlib.Path) -> bool:
  """Moves the index out of the folder of a save if the data have been, and removes the folder.

  An index that is alone in the folder means that the data are out. So of a save that is not whole the index is removed
  first: this may be killed, too.

  Returns:
    Whether the checkpoint is whole.
  """
  index = saving / f'{saving.stem}.index'
  data_are_out = {file.name for file in saving.glob('*')} <= {index.name}
  if not data_are_out:
    index.unlink(missing_ok=True)
  elif index.exists():
    os.replace(index, saving.parent / index.name)
  _discard(saving)
  return data_are_out and (saving.parent / index.name).exists()


def _discard(path: pathlib.Path) -> None:
  """Removes a folder; or a file or a link that is in its place."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    path.unlink(missing_ok=True)


def _remove(folder: pathlib.Path, name: str) -> None:
  for file in folder.glob(f'{name}.*'):
    if not file.is_dir():
      file.unlink(missing_ok=True)


def _read(checkpoint: tf.train.Checkpoint, path: str, check: Callable[[Any], None]) -> None:
  with _literal(path) as literal:
    try:
      status = checkpoint.read(literal)
      names = tf.train.load_checkpoint(literal).get_variable_to_shape_map()
      if any('/_means/' in name for name in names) and not any('/_prototypes/' in name for name in names):
        status.expect_partial()  # Priors had no prototypes at first. Without them no label is read.
      else:
        check(status)
    except _DAMAGE as error:
      # TensorFlow's message may begin with the name of an operation in double braces and end with a traceback.
      text = re.sub(r'^{{.*?}} *', '', str(error).strip()).replace(literal, path)
      reason = (text.splitlines() or [type(error).__name__])[0][:120]
      name = os.path.basename(path)
      raise UsageError(f'{path}: the checkpoint is damaged ({reason}); remove {name}.* to skip it') from error


@contextlib.contextmanager
def _literal(path: str) -> Iterator[str]:
  """Yields a path to the same checkpoint that means the same to TensorFlow, which reads paths as patterns, in UTF-8."""
  if not set(path) & set('*?[]\\') and os.fsencode(path).decode(errors='replace') == path:
    yield path
    return
  with tempfile.TemporaryDirectory() as temporary:
    link = pathlib.Path(temporary, 'link')
    link.symlink_to(os.path.abspath(os.path.dirname(path)))
    yield os.fspath(link / os.path.basename(path))
