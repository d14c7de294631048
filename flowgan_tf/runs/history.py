"""`metrics.jsonl`: what a training has logged."""

from __future__ import annotations

import json
import pathlib

__all__ = ['read_metrics']


def read_metrics(workdir: pathlib.Path) -> list[dict]:
  """The records of a run's `metrics.jsonl`, oldest first, without lines that are none, as a kill may leave them."""
  path = workdir / 'metrics.jsonl'
  records = []
  for line in path.read_bytes().splitlines() if path.is_file() else []:
    try:
      record = json.loads(line)
    except ValueError:  # No JSON, or no UTF-8.
      continue
    if isinstance(record, dict) and isinstance(record.get('step'), int) and isinstance(record.get('seconds'), float):
      records.append(record)
  return records
