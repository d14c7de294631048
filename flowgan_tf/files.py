"""Files that are written whole or not at all, and folders that can be written to."""

from __future__ import annotations

import os
import pathlib

import numpy as np

__all__ = ['make_writable', 'save_arrays', 'write_atomically']


def make_writable(folder: pathlib.Path) -> None:
  """Makes a folder if there is none, and checks that files can be created in it.

  Args:
    folder: The folder. Missing parents are made as well.

  Raises:
    OSError: If the folder cannot be made, or no file can be created in it.
  """
  folder.mkdir(parents=True, exist_ok=True)
  probe = folder / '.writable'
  probe.touch()
  probe.unlink()


def save_arrays(path: str | os.PathLike, **arrays: np.ndarray | float | str) -> None:
  """Writes an .npz file so that a kill or a full disk never leaves part of a file under its name.

  Args:
    path: The file. Its folder is made if there is none.
    **arrays: The arrays, numbers and strings to keep, by name.

  Raises:
    OSError: If the file cannot be written. Whatever had been written is removed.
  """
  os.makedirs(os.path.dirname(path), exist_ok=True)
  temporary = f'{path}.{os.getpid()}.tmp'  # Two processes may write the same file.
  try:
    with open(temporary, 'wb') as file:
      np.savez(file, **arrays)
    os.replace(temporary, path)
  except OSError:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise


def write_atomically(path: pathlib.Path, text: str) -> None:
  """Writes a text file so that a kill or a full disk leaves the old file as it was.

  Args:
    path: The file, in a folder that exists.
    text: Its new content, written as UTF-8.

  Raises:
    OSError: If the file cannot be written. Whatever had been written is removed.
  """
  temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)
  except OSError:
    temporary.unlink(missing_ok=True)
    raise
