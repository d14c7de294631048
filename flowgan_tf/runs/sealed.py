"""Numbers in a JSON file and arrays in an .npz file, with a hash over both that detects a change to either."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
from typing import Any

import numpy as np

from flowgan_tf.errors import UsageError
from flowgan_tf.files import save_arrays, write_atomically

__all__ = ['as_json', 'read_sealed', 'write_sealed']


def write_sealed(path: str | os.PathLike, record: dict, arrays: dict[str, np.ndarray]) -> None:
  """Writes a record and its arrays, for `read_sealed`.

  Args:
    path: Path of the JSON file, whose folder is made if there is none. Arrays go into the .npz file beside it.
    record: Values that JSON can hold; see `as_json`.
    arrays: Arrays by name, possibly none.

  Raises:
    UsageError: If a file cannot be written.
  """
  path = pathlib.Path(path)
  try:
    path.parent.mkdir(exist_ok=True)
    if arrays:
      save_arrays(path.with_suffix('.npz'), **arrays)
    write_atomically(path, json.dumps(record | {'sha256': _seal(record, arrays)}, indent=2) + '\n')
  except OSError as error:
    raise UsageError(f'{path}: cannot be written ({error.strerror})') from error


def read_sealed(path: str | os.PathLike) -> tuple[dict, dict[str, np.ndarray]] | None:
  """Reads a record and its arrays.

  Args:
    path: Path of the JSON file.

  Returns:
    The record, and the arrays by name; None if there is no such file.

  Raises:
    UsageError: If a file was damaged or edited, or the two do not belong together.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return None
  try:
    record, arrays = json.loads(path.read_text(encoding='utf-8')), {}
    if path.with_suffix('.npz').exists():
      with np.load(path.with_suffix('.npz')) as file:
        arrays = {name: file[name] for name in file.files}
    if record.pop('sha256', None) != _seal(record, arrays):
      raise ValueError('not what was written')
  except Exception as error:  # Reading a zip file with flipped bits can raise anything.
    raise UsageError(f'{path}: damaged ({type(error).__name__}); measure it again') from error
  return record, arrays


def as_json(value: Any) -> Any:
  """Replaces NumPy's numbers by Python's, and numbers that are not finite, which JSON lacks, by None."""
  if isinstance(value, dict):
    return {name: as_json(v) for name, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [as_json(v) for v in value]
  if isinstance(value, (np.generic, float)):
    value = np.asarray(value).item()
    return value if not isinstance(value, float) or math.isfinite(value) else None
  return value


def _seal(record: dict, arrays: dict[str, np.ndarray]) -> str:
  seal = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
  for name, array in sorted(arrays.items()):
    seal.update(f'{name} {array.dtype} {array.shape}'.encode())
    seal.update(np.ascontiguousarray(array).tobytes())
  return seal.hexdigest()
