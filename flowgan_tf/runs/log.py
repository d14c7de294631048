"""The log of a training: `metrics.jsonl`, one JSON object per line, TensorBoard, and lines on the terminal."""

import contextlib
import itertools
import json
import logging
import os
import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from flowgan_tf import progress
from flowgan_tf.errors import UsageError
from flowgan_tf.files import as_json, write_atomically

_LOG = logging.getLogger(__name__)

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
_CONDITIONAL = {'class_accuracy', 'label_share', 'psnr', 'consistency'}
# The line of a conditional generator leaves these out. The files have them.
_DETAILS = {'round_trip_error', 'inception_score', 'saturated', 'non_finite'}
_LOSSES = {'nll': ',.1f', 'critic_gap': '.3g'}  # in the lines of progress
# What programs read in a record. A number that was not finite is None.
_NUMBERS = (*_LINE, *_LOSSES, 'mode_score_std', 'inception_score_std')
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


def read_metrics(workdir: pathlib.Path) -> list[dict]:
  """Reads the records of a run's `metrics.jsonl`, oldest first; an empty list if there is no file.

  Lines that cannot be read are left out, and a warning names them, except for a last line that a kill cut off.
  """
  path = workdir / 'metrics.jsonl'
  try:
    content = path.read_bytes()
  except FileNotFoundError:
    return []
  except OSError as error:
    raise UsageError(f'{path}: cannot be read ({error.strerror})') from error
  records, damaged = [], []
  lines = content.removesuffix(b'\n').split(b'\n') if content else []
  for number, line in enumerate(lines, 1):
    try:
      record = json.loads(line)
      if not ({'kind', 'step', 'seconds'} <= record.keys() and all(map(_suits, record, record.values()))):
        raise ValueError
      records.append(record)
    except (ValueError, AttributeError, RecursionError):  # What is no object has no keys.
      if number < len(lines) or content.endswith(b'\n'):
        damaged.append(str(number))
  if damaged:
    some = ', '.join(damaged[:5]) + (f' and {len(damaged) - 5} more' if len(damaged) > 5 else '')
    _LOG.warning('%s: damaged lines are left out: %s.', path, some)
  return records


def _suits(name: str, value: object) -> bool:
  """Whether a value of a record is of its kind, and NumPy can hold it if it is an integer."""
  return name not in _KINDS or (type(value) in _KINDS[name] and not (isinstance(value, int) and abs(value) >= 2**63))


def _listed(numbers: Mapping[str, tf.Tensor | float], forms: Mapping[str, str]) -> str:
  return ', '.join(f'{name} {float(numbers[name]):{form}}' for name, form in forms.items() if name in numbers)


def _line(record: dict) -> str:
  return json.dumps(as_json(record)) + '\n'
