"""Numbers in a JSON file and arrays in an .npz file, with a hash over both that detects a change to either."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib

import numpy as np

from flowgan_tf.errors import UsageError
from flowgan_tf.files import make_writable, save_arrays, write_json

__all__ = ['read_sealed', 'write_sealed']


def write_sealed(path: str | os.PathLike, record: dict, arrays: dict[str, np.ndarray]) -> None:
  """Writes a record and its arrays, for `read_sealed`.

  Args:
    path: Path of the JSON file, whose folder is made if there is none. Arrays go into the .npz file beside it.
    record: Values that JSON can hold; see `files.as_json`.
    arrays: Arrays by name, possibly none.

  Raises:
    UsageError: If a file cannot be written.
  """
  path = pathlib.Path(path)
  make_writable(path.parent)
  if arrays:
    save_arrays(path.with_suffix('.npz'), arrays)
  write_json(path, record | {'sha256': _seal(record, arrays)})


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


def _seal(record: dict, arrays: dict[str, np.ndarray]) -> str:
  seal = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
  for name, array in sorted(arrays.items()):
    seal.update(f'{name} {array.dtype} {array.shape}'.encode())
    seal.update(np.ascontiguousarray(array).tobytes())
  return seal.hexdigest()
