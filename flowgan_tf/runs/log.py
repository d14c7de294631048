"""The log of a training: `metrics.jsonl`, one JSON object a line, TensorBoard and the lines on the terminal.

The last value of a line is its `seal`, such as "0f3a5c7b9d1e-8c2b4d6f0a1e": a hash of the record and of the line before
it, and the first half of that line's seal. The first half shows that a line was damaged or edited, the second that
lines are missing, doubled or out of order. Logs that version 0.1.0 began have lines without seals at their start.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tqdm

from flowgan_tf.errors import UsageError
from flowgan_tf.files import as_json, seal, write_atomically

__all__ = ['Line', 'NoLog', 'RunLog', 'read_lines', 'read_metrics', 'sealed_line']

_LOG = logging.getLogger(__name__)

# The terminal has room only for these, in the line of an evaluation and beside the progress bar.
_LINE = {
  'nll': ',.2f',
  'bits_per_dim': '.3f',
  'round_trip_error': '.1e',
  'mode_score': '.2f',
  'inception_score': '.2f',
  'fid': '.2f',
  'saturated': '.1%',
  'non_finite': '.1%',
}
_BAR = {'train': ('nll', 'critic_gap'), 'validation': ('nll', 'mode_score', 'fid')}


class RunLog:
  """Writes every record to `metrics.jsonl` and TensorBoard, and prints a line for each evaluation.

  On a terminal it also shows a progress bar with the newest numbers.

  Attributes:
    records: The records that the log held when it was opened.
    seconds: Time at the last of them; 0 if there was none.
  """

  def __init__(self, workdir: pathlib.Path, start: int, steps: int):
    """Opens the log at step `start`, and removes records of later steps, which an interrupted run may have left.

    Args:
      workdir: Folder of the run.
      start: Step from which the training starts.
      steps: Step at which the training ends.

    Raises:
      OSError: If a file cannot be written.
    """
    self._tensorboard = workdir / 'tensorboard'
    with self._writing():
      self._tensorboard.mkdir(exist_ok=True)
      self._writer = tf.summary.create_file_writer(str(self._tensorboard))
    self._path = workdir / 'metrics.jsonl'
    lines = read_lines(workdir)
    if start and not lines:
      _LOG.warning('%s: is missing or empty; the records up to step %d are lost.', self._path, start)
    lines = list(itertools.takewhile(lambda line: line.record is None or line.record['step'] <= start, lines))
    write_atomically(self._path, b''.join(line.content + b'\n' for line in lines))
    self._file = self._path.open('ab')
    self._last = lines[-1] if lines else None
    self.records = [line.record for line in lines if line.record is not None]
    self.seconds = self.records[-1]['seconds'] if self.records else 0.0
    interactive = sys.stderr.isatty()
    self._bar = tqdm.tqdm(
      total=steps, initial=start, unit='step', dynamic_ncols=True, disable=not interactive, smoothing=0.05
    )
    self._postfix: dict[str, str] = {}

  def warn_of_lost_end(self, step: int, log_every: int, eval_every: int) -> None:
    """Warns if records are missing between the last one and the checkpoint from which a training goes on.

    Args:
      step: Step of the checkpoint, whose own evaluation may have been cut off.
      log_every: How many steps apart 'train' records are now. Before, they may have been further apart.
      eval_every: How many steps apart evaluations are.
    """
    if not self.records:
      return
    expected = max(step - 1, 0) // eval_every * eval_every
    if trained := [record['step'] for record in self.records if record.get('kind') == 'train']:
      before, last = [0, *trained][-2:]
      apart = max(log_every, last - before)
      expected = max(expected, step // apart * apart)
    last = self.records[-1]['step']
    if last < expected:
      _LOG.warning('%s: the records of steps %d to %d are missing at its end.', self._path, last + 1, expected)

  def advance(self) -> None:
    """Counts one finished step."""
    self._bar.update()

  def record(self, kind: str, step: int, metrics: dict[str, float | int | str], seconds: float) -> None:
    """Logs metrics; TensorBoard shows those that are numbers. Records other than 'train' are on the disk then.

    Args:
      kind: 'train', 'validation' or 'rollback'; the prefix of the names in TensorBoard.
      step: The training step.
      metrics: Names and values.
      seconds: Time for which the run has been trained, by earlier processes as well.
    """
    record = {'kind': kind, 'step': step, 'seconds': round(float(seconds), 3), **metrics}
    self._last = sealed_line(record, self._last)
    self._file.write(self._last.content + b'\n')
    self._file.flush()
    if kind != 'train':  # Those are too many; see `sync`.
      self.sync()
    with self._writing(), self._writer.as_default():
      numbers = {name: value for name, value in metrics.items() if not isinstance(value, str)}
      for name, value in numbers.items():
        tf.summary.scalar(f'{kind}/{name}', value, step=step)
    self._show(kind, step, numbers)

  def sync(self) -> None:
    """Waits until the records would survive a power cut."""
    os.fsync(self._file.fileno())

  def image(self, name: str, step: int, pixels: np.ndarray) -> None:
    """Shows a uint8 picture `[height, width, channels]` in TensorBoard."""
    with self._writing(), self._writer.as_default():
      tf.summary.image(name, pixels[np.newaxis], step=step)

  def close(self) -> None:
    """Closes all outputs."""
    self._bar.close()
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

  def _show(self, kind, step, metrics):
    if kind == 'validation':
      numbers = ', '.join(f'{name} {metrics[name]:{form}}' for name, form in _LINE.items() if name in metrics)
      self._bar.write(f'step {step}: {numbers}', file=sys.stderr)
    prefix = '' if kind == 'train' else 'val_'
    self._postfix |= {prefix + name: f'{metrics[name]:.4g}' for name in _BAR.get(kind, ()) if name in metrics}
    self._bar.set_postfix(self._postfix)


class NoLog:
  """The log of a worker that is not the chief: it keeps nothing."""

  records = ()
  seconds = 0.0

  def _ignore(self, *_):
    pass

  warn_of_lost_end = advance = record = sync = image = close = _ignore


_FIRST = '0' * 12  # what the first line has instead of half a seal of the line before it


class Line(NamedTuple):
  """A line of the log.

  Attributes:
    content: Its bytes, without the line's end.
    record: The record without its seal; None if the line is damaged or doubled.
    half: Half a seal, for the line after it.
  """

  content: bytes
  record: dict | None = None
  half: str = _FIRST


def sealed_line(record: dict, before: Line | None) -> Line:
  """Makes the line of a record.

  Args:
    record: Its values by name, with at least `step` and `seconds`.
    before: The line before it, if there is one.
  """
  record, other = as_json(record), before.half if before else _FIRST
  half = _half(record, other)
  return Line(json.dumps(record | {'seal': f'{half}-{other}'}).encode(), record, half)


def read_metrics(workdir: pathlib.Path) -> list[dict]:
  """Reads the records of a run's `metrics.jsonl`, oldest first; an empty list if there is no file.

  Lines that are damaged or missing are named in a warning. The partial line that a kill leaves at the end is not.

  Raises:
    UsageError: If the file cannot be read.
  """
  return [line.record for line in read_lines(workdir) if line.record is not None]


def read_lines(workdir: pathlib.Path) -> list[Line]:
  """Reads the lines of a run's `metrics.jsonl`, the damaged ones included; warnings and errors as in `read_metrics`."""
  path = workdir / 'metrics.jsonl'
  if not path.is_file():
    return []
  try:
    *contents, rest = path.read_bytes().split(b'\n')
  except OSError as error:
    raise UsageError(f'{path}: cannot be read ({error.strerror})') from error
  if b'}' in rest:  # The start of a line has none; the end of a file may be damaged, too.
    contents.append(rest)
  lines, damaged, misplaced, seen = [], [], [], set()
  for number, content in enumerate(contents, 1):
    before = lines[-1] if lines else Line(b'', {})
    record, half, other = _parsed(content, older=not seen)
    if record is None:
      damaged.append(number)
    elif other is not None:
      # After a damaged line nothing can be said about the order.
      if half in seen or (before.record is not None and other != before.half):
        misplaced.append(number)
      if half in seen:
        record = None
      seen.add(half)
    lines.append(Line(content, record, half))
  faults = []
  if damaged:
    faults.append(f'damaged and left out: {_numbered(damaged)}')
  if misplaced:
    faults.append(f'missing, doubled or out of order: what is before {_numbered(misplaced)}')
  if faults:
    _LOG.warning('%s: %s.', path, '; '.join(faults))
  return lines


def _parsed(content: bytes, older: bool) -> tuple[dict | None, str, str | None]:
  """Returns the record and both halves of its seal; no record if the line is damaged, no second half if it has no seal.

  Args:
    content: The line.
    older: Whether the line may be of version 0.1.0, without a seal.
  """
  try:
    record = json.loads(content)
    given = record.pop('seal', None)
    intact = isinstance(record['step'], int) and isinstance(record['seconds'], float)
    if given is not None:
      half, _, other = given.partition('-')
      intact = intact and half == _half(record, other)
    else:
      half, other = _half(record, ''), None
      intact = intact and older
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    intact = False
  return (record, half, other) if intact else (None, _FIRST, None)


def _half(record: dict, other: str) -> str:
  return seal([record, other])[: len(_FIRST)]


def _numbered(numbers: Sequence[int], most: int = 5) -> str:
  more = f' and {len(numbers) - most} more' if len(numbers) > most else ''
  return f'line{"s" * (len(numbers) > 1)} {", ".join(map(str, numbers[:most]))}{more}'
