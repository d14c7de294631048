"""Checkpoints of a run: the latest state, and the best generators by NLL and by score.

`tf.train.CheckpointManager` keeps them in `checkpoints/NAME`, numbered by the step. Its file `checkpoint` lists the
saves that were finished, so that a kill or a full disk loses only the save in progress. Each checkpoint holds the
settings and the data of its run as the string variable `run`.
"""

import contextlib
import json
import logging
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping

import tensorflow as tf

from flowgan_tf.base.errors import UsageError, check_choice
from flowgan_tf.base.files import raise_unless_damaged, sync
from flowgan_tf.flows import Generator
from flowgan_tf.runs.folder import available, steps_in
from flowgan_tf.runs.settings import CHECKPOINTS

_LOG = logging.getLogger(__name__)

# What TensorFlow raises for a checkpoint that lost a file, is truncated, has flipped bits or belongs to something else.
_DAMAGE = (tf.errors.OpError, IndexError, AssertionError, ValueError)

_ATTEMPTS = 10  # A training may replace a checkpoint while another process reads it.


class Checkpoints:
  """Saves and restores the state of a training below `<workdir>/checkpoints`.

  `latest` holds the whole state; `best_nll` and `best_score` hold only the averaged generator and the step. The paper's
  tables take their NLL from the best checkpoint by NLL and their score from the best one by score.
  """

  def __init__(self, workdir: pathlib.Path, state: tf.train.Checkpoint, identity: Mapping[str, object] | None = None):
    """Does not read or write anything yet.

    `state` has at least `ema`, the averaged generator, and `step`. `identity` says what the run is, from
    `config.run_identity`. Without it, checkpoints fit every run.
    """
    self._folder, self._step, self._identity = workdir / 'checkpoints', state.step, identity or {}
    with tf.device('CPU'):  # The device of all strings.
      run = tf.Variable(json.dumps(self._identity), trainable=False, name='run')
    state.run = run
    generator_alone = tf.train.Checkpoint(ema=state.ema, step=state.step, run=run)
    self._checkpoints = {name: state if name == 'latest' else generator_alone for name in CHECKPOINTS}

  def save(self, name: str) -> None:
    """Saves a checkpoint, numbered by the step, and removes older ones, except for the last but one of `latest`.

    It keeps an existing checkpoint of this step, because replacing its files would risk them. It raises an `OSError` if
    it cannot write the checkpoint.
    """
    folder, step = self._folder / name, int(self._step)
    if step in steps_in(folder):
      return
    folder.mkdir(parents=True, exist_ok=True)  # This error names what is in the way; TensorFlow's does not.
    keep = 2 if name == 'latest' else 1
    # The manager calls this before it removes the older ones: a power cut must leave one of them.
    options = tf.train.CheckpointOptions(experimental_write_callbacks=[lambda: _sync_all(folder, f'ckpt-{step}.*')])
    with _literal(folder) as literal:
      try:
        tf.train.CheckpointManager(self._checkpoints[name], literal, keep).save(step, options=options)
      except (tf.errors.OpError, ValueError) as error:
        _sweep(folder)
        raise OSError(f'{folder}/ckpt-{step}: cannot be written ({str(error).splitlines()[0]})') from error
    _sync_all(folder, 'checkpoint')

  def restore(self) -> bool:
    """Restores the latest state, and removes what a kill or a full disk left of a save. Returns whether there was one.

    A state that cannot be read or belongs to another run raises a `UsageError`: no training may silently start again.
    """
    for name in CHECKPOINTS:
      _sweep(self._folder / name)
    path = _newest(self._folder / 'latest')
    if path is not None:
      _restore(self._checkpoints['latest'], path, self._identity, whole=True)
    return path is not None


def restore_generator(
  workdir: pathlib.Path, checkpoint: str, generator: Generator, identity: Mapping[str, object] | None = None
) -> int:
  """Restores the averaged weights of a run into a generator, which overwrites its own, and returns their step.

  A training may be running in the run's folder.
  """
  return _restore_parts(workdir, checkpoint, {'ema': generator}, identity)


def restore_critic(workdir: pathlib.Path, critic: tf.Module, identity: Mapping[str, object] | None = None) -> None:
  """Restores the critic of the checkpoint `latest` of a run, the only one that has it."""
  _restore_parts(workdir, 'latest', {'critic': critic}, identity)


def _restore_parts(workdir, checkpoint, parts, identity):
  check_choice('checkpoint', checkpoint, CHECKPOINTS)
  folder = workdir / 'checkpoints' / checkpoint
  step = tf.Variable(0, dtype=tf.int64)
  for attempt in range(_ATTEMPTS):
    path = _newest(folder)
    if path is None:
      have = ', '.join(available(workdir)) or 'none'
      raise UsageError(f'{workdir}: no checkpoint {checkpoint!r} in this run; it has: {have}')
    try:
      # A new object each time: one that failed would restore from the lost checkpoint again.
      _restore(tf.train.Checkpoint(step=step, **parts), path, identity or {}, whole=False)
      break
    except UsageError:
      if attempt == _ATTEMPTS - 1 or _newest(folder) == path:
        raise
  return int(step.numpy())  # A strategy's copies have no `int`.


def _newest(folder: pathlib.Path) -> pathlib.Path | None:
  return folder / f'ckpt-{steps[-1]}' if (steps := steps_in(folder)) else None


def _sweep(folder: pathlib.Path) -> None:
  """Removes what is left of saves that were cut off. TensorFlow writes in `ckpt-N_temp` until the files are whole."""
  steps = steps_in(folder)
  for leftover in folder.glob('ckpt-*_temp'):
    name = leftover.name.removesuffix('_temp')
    if not re.fullmatch('ckpt-[0-9]{1,18}', name):  # It is none of ours.
      continue
    if int(name.removeprefix('ckpt-')) not in steps:
      for file in folder.glob(f'{name}.*'):
        file.unlink()
      before = f'ckpt-{steps[-1]}, the checkpoint before it, is used' if steps else 'no checkpoint precedes it'
      _LOG.warning('%s: was not saved completely and is removed; %s.', folder / name, before)
    shutil.rmtree(leftover)
  for file in folder.glob('checkpoint.tmp*'):
    file.unlink()


def _sync_all(folder: pathlib.Path, pattern: str) -> None:
  """Waits until files, and the names of their folders, which may be new, would survive a power cut."""
  for path in (*folder.glob(pattern), folder, folder.parent, folder.parent.parent):
    sync(path)


def _restore(
  checkpoint: tf.train.Checkpoint, path: pathlib.Path, identity: Mapping[str, object], *, whole: bool
) -> None:
  """Restores a checkpoint of the run with this identity: all of it, or only what `checkpoint` has."""
  with _literal(path.parent) as literal:
    prefix = os.path.join(literal, path.name)
    try:
      found = json.loads(tf.train.load_checkpoint(prefix).get_tensor('run/.ATTRIBUTES/VARIABLE_VALUE'))
      # Settings that only one of two versions has are ignored.
      changes = [
        f'{name} {found[name]} and not {value}' for name, value in identity.items() if found.get(name, value) != value
      ]
      if not changes:
        if whole:
          checkpoint.restore(prefix).assert_consumed()
        else:
          checkpoint.read(prefix).assert_existing_objects_matched().expect_partial()
    except tf.errors.ResourceExhaustedError:  # Memory has run out.
      raise
    except _DAMAGE as error:
      raise_unless_damaged(path, error)
      # TensorFlow's message may begin with the name of an operation in double braces and end with a traceback.
      text = re.sub(r'^{{.*?}} *', '', str(error).strip()).replace(prefix, str(path))
      reason = (text.splitlines() or [type(error).__name__])[0][:120]
      if isinstance(error, AssertionError) or 'incompatible tensor' in reason:  # It was read, and has other variables.
        said = f'{path}: does not fit the generator that this version builds, or is damaged ({reason})'
        raise UsageError(said) from error
      raise UsageError(f'{path}: the checkpoint is damaged ({reason}); remove {path.name}.* to skip it') from error
  if changes:
    raise UsageError(
      f"{path}: is a checkpoint of another run ({', '.join(changes[:4])}); put this run's own in its place"
    )


@contextlib.contextmanager
def _literal(folder: pathlib.Path) -> Iterator[str]:
  """Yields a path to a folder that TensorFlow takes literally: it reads others as patterns, and all of them as UTF-8.

  Otherwise a run in the folder `a*` would remove checkpoints of its neighbour `ab`.
  """
  path = os.path.abspath(folder)
  if not set(path) & set('*?[]\\') and os.fsencode(path).decode(errors='replace') == path:
    yield path
    return
  with tempfile.TemporaryDirectory() as temporary:
    link = pathlib.Path(temporary, 'link')
    link.symlink_to(path)
    yield os.fspath(link)
