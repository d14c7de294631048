"""The log of a training: `metrics.jsonl`, one JSON object per line, TensorBoard, and lines on the terminal."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flowgan_tf.base import progress
from flowgan_tf.base.errors import UsageError, check_memory
from flowgan_tf.base.files import as_json, write_atomically
from flowgan_tf.base.lazy import tf
from flowgan_tf.objectives.objective import NUMBERS

_LOG = logging.getLogger(__name__)
_IN_MEMORY = 10  # times as many bytes as in the file are what records take
_LONGEST_LINE = 2**20  # bytes; lists of one number for each class are the longest values

# The line of an evaluation has room only for these.
_LINE = {
  'nll': ',.2f',
  'bits_per_dim': '.3f',
  'class_accuracy': '.1%',
  'label_share': '.1%',
  'psnr': '.1f',
  'consistency': '.1f',
  'round_trip_error': '.1e',
  'mode_score': '.2f',
  'inception_score': '.2f',
  'fid': '.2f',
  'saturated': '.1%',
  'non_finite': '.1%',
}
_ERRORS = {'nll': 'standard_error', 'mode_score': 'mode_score_std', 'inception_score': 'inception_score_std'}
_CONDITIONAL = {'class_accuracy', 'label_share', 'psnr', 'consistency'}
# The line of a conditional generator leaves these out. The files have them.
_DETAILS = {'bits_per_dim', 'round_trip_error', 'inception_score', 'saturated', 'non_finite'}
_LOSSES = {number.name: number.form for number in NUMBERS.values() if number.form}  # in the lines of progress
# What programs read in a record. A number that was not finite is None.
_NUMBERS = (*_LINE, *NUMBERS, *_ERRORS.values())
_KINDS: dict[str, tuple[type, ...]] = {
  **dict.fromkeys(_NUMBERS, (float, int, type(None))),
  **dict.fromkeys(('kind', 'scorer', 'scorer_hash'), (str,)),
  **{'step': (int,), 'score_samples': (int,), 'seconds': (float,)},
}


class RunLog:
  """Writes every record to `metrics.jsonl` and TensorBoard, and prints a line for each evaluation.

  While it is open, it also shows the progress of the training with its newest losses. Opening the log reads its file
  into `records`, and sets `seconds` to the time of the last record. Later, `records` gains all records except losses.
  """

  def __init__(self, workdir: pathlib.Path, start: int, steps: int, batch_size: int = 1):
    """Opens the log at step `start`, and removes records of later steps, which an interrupted run may have left."""
    self._tensorboard = workdir / 'tensorboard'
    with self._writing():
      self._tensorboard.mkdir(exist_ok=True)
      self._writer = tf.summary.create_file_writer(str(self._tensorboard))
    self._path = workdir / 'metrics.jsonl'
    found = read_metrics(workdir)
    if start and not found:
      _LOG.warning('%s: is missing or empty; the records up to step %d are lost.', self._path, start)
    self.records = list(itertools.takewhile(lambda record: record['step'] <= start, found))
    write_atomically(self._path, ''.join(map(_line, self.records)))
    self._file = self._path.open('a')
    self.seconds = self.records[-1]['seconds'] if self.records else 0.0
    self._newest: Mapping[str, tf.Tensor | float] = {}
    self._open = contextlib.ExitStack()
    self._task = self._open.enter_context(
      progress.Task('training', steps, unit='steps', done=start, images=batch_size, note=self._losses)
    )

  def advance(self, metrics: Mapping[str, tf.Tensor | float]) -> None:
    """Counts one finished step with its metrics, which are looked at only if they are shown."""
    self._newest = metrics
    self._task.advance()

  def record(self, kind: str, step: int, metrics: dict[str, float | int | str | list], seconds: float) -> None:
    """Logs metrics; TensorBoard shows single numbers. Unless the kind is 'train', the record is then on the disk.

    `kind` is 'train', 'validation' or 'rollback'. `seconds` counts the training by earlier processes as well.
    """
    record = {'kind': kind, 'step': step, 'seconds': round(float(seconds), 3), **metrics}
    self._file.write(_line(record))
    self._file.flush()
    if kind != 'train':  # There are too many 'train' records; see `sync`.
      self.sync()
      self.records.append(record)
    with self._writing(), self._writer.as_default():
      numbers = {name: value for name, value in metrics.items() if not isinstance(value, (str, list))}
      for name, value in numbers.items():
        tf.summary.scalar(f'{kind}/{name}', value, step=step)
    if kind == 'validation':
      hidden = _DETAILS if numbers.keys() & _CONDITIONAL else ()
      progress.write(f'step {step}: {_listed(numbers, {n: form for n, form in _LINE.items() if n not in hidden})}')

  def sync(self) -> None:
    """Waits until the records would survive a power cut."""
    os.fsync(self._file.fileno())

  def image(self, name: str, step: int, pixels: np.ndarray) -> None:
    """Shows a uint8 picture `[height, width, channels]` in TensorBoard."""
    with self._writing(), self._writer.as_default():
      tf.summary.image(name, pixels[np.newaxis], step=step)

  def close(self) -> None:
    """Closes all outputs."""
    self._open.close()
    self._file.close()
    with self._writing():
      self._writer.close()

  @contextlib.contextmanager
  def _writing(self):
    """Turns TensorFlow's errors into one that names the folder."""
    try:
      yield
    except tf.errors.OpError as error:
      raise OSError(f'{self._tensorboard}: cannot be written ({error.message.splitlines()[0]})') from error

  def _losses(self):
    return _listed(self._newest, _LOSSES)


class NoLog:
  """The log of a worker that is not the chief: it keeps nothing."""

  records = ()
  seconds = 0.0

  def _ignore(self, *_):
    pass

  advance = record = sync = image = close = _ignore


def read_metrics(workdir: pathlib.Path, warn: Callable[[str], object] = _LOG.warning) -> list[dict]:
  """Reads the records of a run's `metrics.jsonl`, oldest first; an empty list if there is no file.

  Lines that cannot be read are left out, and `warn` gets a sentence that names them, except for a last line that a kill
  cut off or a training is writing.
  """
  path = workdir / 'metrics.jsonl'
  records, count, first = [], 0, []
  try:
    with path.open('rb') as file:
      check_memory(f'{path}: its records', _IN_MEMORY * os.fstat(file.fileno()).st_size)
      for number, line in enumerate(file, 1):
        if (record := _parsed(line)) is not None:
          records.append(record)
        elif line.endswith(b'\n'):
          count += 1
          first += [str(number)] if count <= 5 else []
  except FileNotFoundError:
    return []
  except OSError as error:
    raise UsageError(f'{path}: cannot be read ({error.strerror})') from error
  if count:
    some = ', '.join(first) + (f' and {count - 5} more' if count > 5 else '')
    warn(f'{path}: damaged lines are left out: {some}.')
  return records


def _parsed(line: bytes) -> dict | None:
  """Returns the record of a line, or None if it is damaged."""
  if len(line) > _LONGEST_LINE:
    return None
  try:
    record = json.loads(line)
  except (ValueError, RecursionError):
    return None
  named = isinstance(record, dict) and {'kind', 'step', 'seconds'} <= record.keys()
  return record if named and all(map(_suits, record, record.values())) else None


def _suits(name: str, value: Any) -> bool:
  """Whether a value of a record is of its kind: a text, a number that NumPy can hold and JSON knows, or a list."""
  if isinstance(value, list) and name not in _KINDS:
    return all(not isinstance(part, list) and _suits('', part) for part in value)
  if isinstance(value, float):
    holds = math.isfinite(value)
  else:
    holds = not (isinstance(value, dict) or (isinstance(value, int) and abs(value) >= 2**63))
  return holds and (name not in _KINDS or type(value) in _KINDS[name])


def _listed(numbers: Mapping[str, tf.Tensor | float], forms: Mapping[str, str]) -> str:
  def text(name, form):
    error = numbers.get(_ERRORS.get(name, ''))
    return f'{name} {float(numbers[name]):{form}}' + ('' if error is None else f' +- {float(error):{form}}')

  return ', '.join(text(name, form) for name, form in forms.items() if name in numbers)


def _line(record: dict) -> str:
  return json.dumps(as_json(record)) + '\n'
