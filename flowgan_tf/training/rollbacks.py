"""How often a training has gone back, which halves its learning rates: `rollbacks.json`."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from flowgan_tf.errors import UsageError
from flowgan_tf.files import read_json, sealed, unsealed, write_json

__all__ = ['read_rollbacks', 'write_rollbacks']

_FILE = 'rollbacks.json'


def read_rollbacks(workdir: pathlib.Path, records: Sequence[dict]) -> int:
  """Returns how often the training of a run has gone back.

  Args:
    workdir: Folder of the run.
    records: Those of its log, where rollbacks are counted if there is no file. They could have been damaged or lost
      without harm to the file.

  Raises:
    UsageError: If the file is damaged: the learning rates would be others.
  """
  path = workdir / _FILE
  if not path.exists():
    return sum(record.get('kind') == 'rollback' for record in records)
  try:
    return unsealed(read_json(path))['rollbacks']
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UsageError(f'{path}: damaged ({error}); remove it to count the rollbacks in metrics.jsonl instead') from error


def write_rollbacks(workdir: pathlib.Path, rollbacks: int) -> None:
  """Writes how often the training of a run has gone back.

  Raises:
    UsageError: If the file cannot be written.
  """
  write_json(workdir / _FILE, sealed({'rollbacks': rollbacks}))
