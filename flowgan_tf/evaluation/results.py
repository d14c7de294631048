"""The results of evaluations, `evaluation.json` of a run, which are read without TensorFlow."""

import itertools
import pathlib
from typing import Any

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import fits, read_record, write_record
from flowgan_tf.data.names import SPLITS
from flowgan_tf.runs.settings import CHECKPOINTS

_RECORD = 'evaluation.json'
# What is not a number in its records.
_FORMS: dict[str, Any] = dict.fromkeys(('checkpoint', 'split', 'condition', 'scorer', 'scorer_hash'), str)
_FORMS |= {'class_names': ([str], None)} | {name: [(float, None)] for name in ('label_shares', 'class_fids')}


def read_evaluation(workdir: pathlib.Path) -> list[dict]:
  """Reads the records that `evaluate_run` saved in a run; an empty list if there is no file.

  Raises:
    UsageError: If the file was damaged or edited, or is a copy of another file.
  """
  # Measuring again does not help, because an evaluation reads the file first.
  path, remedy = workdir / _RECORD, f'; remove it, and run bin/evaluate {workdir} again'
  record, _ = read_record(path, remedy) or ({'records': []}, {})
  if not fits(record, {'records': [{'checkpoint': str, 'split': str, 'step': int}]}):
    raise UsageError(f'{path}: holds no evaluation{remedy}')
  of = [(found['checkpoint'], found['split']) for found in record['records']]
  if len(of) > len({*of} & {*itertools.product(CHECKPOINTS, SPLITS)}):
    raise UsageError(f'{path}: holds no evaluation, as it has other checkpoints than a run, or one twice{remedy}')
  for found in record['records']:
    for name, value in found.items():
      if not fits(value, _FORMS.get(name.removeprefix('real_'), (float, None))):
        raise UsageError(f'{path}: holds no evaluation, as its {name} has another form{remedy}')
  return record['records']


def write_evaluation(workdir: pathlib.Path, records: list[dict]) -> None:
  """Writes the records of a run."""
  write_record(workdir / _RECORD, {'records': records})


def merge_records(old: list[dict], new: list[dict]) -> list[dict]:
  """Returns the new records, followed by the old ones that they neither replace nor contradict."""
  steps = {record['checkpoint']: record['step'] for record in new}
  kept = {
    (record['checkpoint'], record['split']): record
    for record in old
    if steps.get(record['checkpoint'], record['step']) == record['step']
  }
  merged = []
  for record in new:
    before = kept.pop((record['checkpoint'], record['split']), {})
    if 'scorer' in record:  # The old scores may come from another network.
      before = {name: value for name, value in before.items() if name.endswith('_float64')}
    merged.append(before | record)
  return merged + list(kept.values())
