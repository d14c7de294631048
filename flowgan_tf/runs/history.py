"""`metrics.jsonl`: the log of a training."""

from __future__ import annotations

import json
import pathlib

__all__ = ['read_metrics']


def read_metrics(workdir: pathlib.Path) -> list[dict]:
  """Reads the records of a run's `metrics.jsonl`, oldest first, and skips the partial line that a kill may leave."""
  path = workdir / 'metrics.jsonl'
  records = []
  for line in path.read_bytes().splitlines() if path.is_file() else []:
    try:
      record = json.loads(line)
    except ValueError:  # Neither JSON nor UTF-8.
      continue
    if isinstance(record, dict) and isinstance(record.get('step'), int) and isinstance(record.get('seconds'), float):
      records.append(record)
  return records
