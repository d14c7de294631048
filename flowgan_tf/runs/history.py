"""`metrics.jsonl`: the log of a training, one JSON object a line.

The last value of a line is its `seal`, such as "0f3a5c7b9d1e-8c2b4d6f0a1e": a hash of the record and of the line before
it, and the first half of that line's seal. The first half shows that a line was damaged or edited, the second that
lines are missing, doubled or out of order. Logs that version 0.1.0 began have lines without seals at their start.
"""

from __future__ import annotations

import json
import logging
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from flowgan_tf.errors import UsageError
from flowgan_tf.files import as_json, seal

__all__ = ['Line', 'read_lines', 'read_metrics', 'sealed_line']

_LOG = logging.getLogger(__name__)
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
