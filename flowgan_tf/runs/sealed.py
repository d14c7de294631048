"""Numbers in a JSON file and arrays in an .npz file, with a seal over both that detects a change to either."""

from __future__ import annotations

import os
import pathlib
import re

import numpy as np

from flowgan_tf.errors import UsageError
from flowgan_tf.files import as_json, make_writable, read_json, save_arrays, seal, write_json

__all__ = ['read_sealed', 'write_sealed']


def write_sealed(path: str | os.PathLike, record: dict, arrays: dict[str, np.ndarray]) -> None:
  """Writes a record and its arrays, for `read_sealed`.

  A kill or a full disk leaves the old pair or the new one: the arrays get a file of their own, whose name holds the
  first digits of their seal, and the JSON file, which names it, is then replaced in one step.

  Args:
    path: Path of the JSON file, whose folder is made if there is none. Arrays go into an .npz file beside it.
    record: Values that JSON can hold; see `files.as_json`.
    arrays: Arrays by name, possibly none.

  Raises:
    UsageError: If a file cannot be written.
  """
  path = pathlib.Path(path)
  make_writable(path.parent)
  name = f'{path.stem}-{seal({}, arrays)[:8]}.npz' if arrays else None
  if arrays:
    save_arrays(path.with_name(name), arrays)
  record = as_json(record | {'arrays': name})
  write_json(path, record | {'sha256': seal(record, arrays)})
  old = re.compile(rf'{re.escape(path.stem)}(-[0-9a-f]{{8}})?\.npz')
  for file in list(path.parent.iterdir()):
    if old.fullmatch(file.name) and file.name != name:
      file.unlink(missing_ok=True)


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
  text = path.read_bytes() if path.is_file() else b''
  try:
    record, arrays = read_json(path), {}
    content = {name: value for name, value in record.items() if name != 'sha256'}
    # Version 0.1.0 had one name for the arrays of all times, and the JSON file did not say whether there are any.
    older = path.with_suffix('.npz').name if path.with_suffix('.npz').exists() else None
    if name := content.get('arrays', older):
      # NumPy leaves a file open that is damaged, if it has opened it.
      with path.with_name(name).open('rb') as file, np.load(file) as saved:
        arrays = {name: saved[name] for name in saved.files}
    if record['sha256'] != seal(content, arrays):
      raise ValueError('not what was written')
  except Exception as error:  # Reading a zip file with flipped bits can raise anything.
    if path.is_file() and path.read_bytes() != text:  # Another process has measured it again in the meantime.
      return read_sealed(path)
    raise UsageError(f'{path}: damaged ({type(error).__name__}); measure it again') from error
  content.pop('arrays', None)
  return content, arrays
