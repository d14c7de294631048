"""`evaluation.json`: the evaluations of a run's checkpoints."""

from __future__ import annotations

import pathlib

from flowgan_tf.errors import UsageError
from flowgan_tf.files import read_json, sealed, unsealed, write_json

__all__ = ['merge_records', 'read_evaluation', 'write_evaluation']

_NAME = 'evaluation.json'


def read_evaluation(workdir: pathlib.Path) -> list[dict]:
  """Reads the records that `evaluate_run` saved in a run; an empty list if there is no file.

  Raises:
    UsageError: If the file was damaged or edited.
  """
  path = workdir / _NAME
  if not path.exists():
    return []
  try:
    found = read_json(path)
    records = found if isinstance(found, list) else unsealed(found)['records']  # A list, without a seal, is of 0.1.0.
    for record in records:
      texts = {'checkpoint', 'split', *({'scorer', 'scorer_hash'} if 'scorer' in record else ())}
      if not all(isinstance(record[name], str) for name in texts) or not isinstance(record['step'], int):
        raise ValueError('not an evaluation')
      if not all(v is None or isinstance(v, (int, float)) for name, v in record.items() if name not in texts):
        raise ValueError('not numbers')
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UsageError(
      f'{path}: damaged ({type(error).__name__}); remove it, and run bin/evaluate {workdir} again'
    ) from error
  return records


def write_evaluation(workdir: pathlib.Path, records: list[dict]) -> None:
  """Writes the records of a run for `read_evaluation`, with None for numbers that are not finite.

  Raises:
    UsageError: If the file cannot be written.
  """
  write_json(workdir / _NAME, sealed({'records': records}))


def merge_records(old: list[dict], new: list[dict]) -> list[dict]:
  """Returns the new records, followed by the old ones that they neither replace nor contradict."""
  steps = {record['checkpoint']: record['step'] for record in new}
  old = {
    (record['checkpoint'], record['split']): record
    for record in old
    if steps.get(record['checkpoint'], record['step']) == record['step']
  }
  merged = []
  for record in new:
    before = old.pop((record['checkpoint'], record['split']), {})
    if 'scorer' in record:  # The old scores may be of another network.
      before = {name: value for name, value in before.items() if name.endswith('_float64')}
    merged.append(before | record)
  return merged + list(old.values())
