"""Reads the files of a run that a page shows. What is damaged is said in a line, and the rest is read."""

from __future__ import annotations

import math
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from flowgan_tf.display.figure import png_size
from flowgan_tf.errors import UsageError
from flowgan_tf.evaluation.evaluate import read_evaluation
from flowgan_tf.files import read_json, read_record, unsealed
from flowgan_tf.runs.log import read_metrics

__all__ = ['evaluation', 'metrics', 'named', 'sample_grid', 'start', 'studies']

_TEXTS = {'kind', 'checkpoint', 'split', 'scorer', 'scorer_hash', 'reason'}
_COUNTS = {'step', 'diverged_at', 'n', 'score_samples', 'score_splits', 'reference_images', 'real_score_samples'}
_POSITIVE = ('standard_error', 'standard_error_float64', '_std')
_LARGEST = 1e100  # What float32 computes is below 1e39. Axes need some room.

_Content = TypeVar('_Content')


def named(read: Callable[[], _Content], path: pathlib.Path, remedy: str = '') -> _Content:
  """Reads a file, and raises whatever the reading raises as a `UsageError` that names the file and what helps."""
  try:
    return read()
  except UsageError:
    raise
  except Exception as error:  # JSON that is nested too deeply, for instance.
    raise UsageError(f'{path}: damaged ({type(error).__name__}){remedy}') from error


def metrics(workdir: pathlib.Path, on_damage: Callable[[str], None]) -> list[dict]:
  """Reads `metrics.jsonl`, without the records that cannot be drawn."""
  path = workdir / 'metrics.jsonl'
  return _sound(lambda: read_metrics(workdir), path, {'kind', 'step', 'seconds'}, '; curves lack them', on_damage)


def evaluation(workdir: pathlib.Path, on_damage: Callable[[str], None]) -> list[dict]:
  """Reads `evaluation.json`, without the records that cannot be shown."""
  path, remedy = workdir / 'evaluation.json', f'; remove it, and run bin/evaluate {workdir} again'
  return _sound(lambda: read_evaluation(workdir), path, {'checkpoint', 'split', 'step'}, remedy, on_damage)


def start(workdir: pathlib.Path, on_damage: Callable[[str], None]) -> dict | None:
  """Reads `init.json`: the `run`, `checkpoint` and `step` that the training started from; None for a new generator."""
  path = workdir / 'init.json'
  try:
    return (
      named(lambda: _start(path), path, '; the page does not say where the training started') if path.exists() else None
    )
  except UsageError as error:
    on_damage(str(error))
    return None


def studies(workdir: pathlib.Path, on_damage: Callable[[str], None]) -> dict[str, tuple[dict, dict[str, np.ndarray]]]:
  """Reads the record and the arrays of each analysis in the folder `analysis`."""
  found = {}
  for path in _files(workdir / 'analysis', r'.+\.json', on_damage):
    try:
      record, arrays = named(lambda path=path: _study(path), path, '; measure it again')
      found[record['what']] = record, arrays
    except UsageError as error:
      on_damage(f'{error}, or remove it')
  return found


def sample_grid(workdir: pathlib.Path, on_damage: Callable[[str], None]) -> tuple[int, bytes] | None:
  """Reads the newest grid of samples that is whole, with its step."""
  files = _files(workdir / 'samples', r'step_[0-9]+\.png', on_damage)
  for step, path in sorted(((int(path.stem.removeprefix('step_')), path) for path in files), reverse=True):
    try:
      png = path.read_bytes()
      png_size(png)
      return step, png
    except (OSError, ValueError) as error:
      on_damage(f'{path}: not a readable PNG file ({type(error).__name__}); remove it')
  return None


def _files(folder: pathlib.Path, name: str, on_damage: Callable[[str], None]) -> list[pathlib.Path]:
  try:
    return [path for path in sorted(folder.iterdir()) if re.fullmatch(name, path.name)] if folder.is_dir() else []
  except OSError as error:
    on_damage(f'{folder}: cannot be read ({error.strerror})')
    return []


def _start(path: pathlib.Path) -> dict:
  found = unsealed(read_json(path))
  if not isinstance(found['run'], str) or _odd('checkpoint', found['checkpoint']) or _odd('step', found['step']):
    raise ValueError('not the start of a training')
  return found


def _study(path: pathlib.Path) -> tuple[dict, dict[str, np.ndarray]]:
  found = read_record(path)
  if found is None:
    raise UsageError(f'{path}: is a link to a file that is not there; measure it again')
  record, arrays = found
  if record['what'] != path.stem:
    raise UsageError(f'{path}: holds the analysis {record["what"]}; give it the name that it had')
  if (
    not isinstance(record['checkpoint'], str)
    or not isinstance(record['settings'], dict)
    or _odd('step', record['step'])
  ):
    raise ValueError('not an analysis')
  return record, arrays


def _sound(
  read: Callable[[], list[dict]], path: pathlib.Path, needed: set[str], remedy: str, on_damage: Callable[[str], None]
) -> Sequence[dict]:
  """Reads records, and leaves out those that lack a number or hold something else in its place."""
  try:
    records = named(read, path, remedy)
  except UsageError as error:
    on_damage(str(error))
    return []
  problems = [_problem(record, needed) for record in records]
  if bad := [problem for problem in problems if problem]:
    on_damage(f'{path}: {len(bad)} of {len(records)} records are damaged ({bad[0]}){remedy}')
  return [record for record, problem in zip(records, problems, strict=True) if not problem]


def _problem(record: dict, needed: set[str]) -> str:
  """Says what is wrong with a record; '' if nothing is."""
  if not isinstance(record, dict):
    return f'{type(record).__name__} in place of a record'
  # Scores can be compared only if it is known what they are.
  needed = needed | ({'scorer_hash', 'score_samples'} if 'scorer' in record else set())
  if missing := sorted(needed - record.keys()):
    return f'no {missing[0]}'
  odd = [name for name, value in record.items() if _odd(name, value)]
  return f'{odd[0]} is {_short(record[odd[0]])}' if odd else ''


def _odd(name: str, value: object) -> bool:
  if name in _TEXTS:
    return not isinstance(value, str)
  if name in _COUNTS:
    return type(value) is not int or not 0 <= value < 2**53
  if value is None or (type(value) is float and not math.isfinite(value)):
    return False
  if type(value) not in (int, float) or abs(value) > _LARGEST:
    return True
  return value < 0 and name.endswith(_POSITIVE)


def _short(value: object) -> str:
  text = type(value).__name__ if isinstance(value, (list, dict)) else repr(value)
  return text if len(text) <= 20 else f'{text[:17]}...'
