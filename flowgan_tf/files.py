"""Files that are there whole or not at all, and folders that can be written."""

from __future__ import annotations

import os
import pathlib

import numpy as np

__all__ = ['make_writable', 'save_arrays', 'write_atomically']


def make_writable(folder: pathlib.Path) -> None:
  """Makes a folder, if need be, and makes sure that files can be made in it.

  Raises:
    OSError: If not.
  """
  folder.mkdir(parents=True, exist_ok=True)
  probe = folder / '.writable'
  probe.touch()
  probe.unlink()


def save_arrays(path: str | os.PathLike, **arrays: np.ndarray | float | str) -> None:
  """Writes an .npz file, and its folder if need be, so that a kill or a full disk leaves no part of it.

  Raises:
    OSError: If it cannot be written; what there is of it is removed.
  """
  os.makedirs(os.path.dirname(path), exist_ok=True)
  temporary = f'{path}.{os.getpid()}.tmp'  # Two processes may fill one cache.
  try:
    with open(temporary, 'wb') as file:
      np.savez(file, **arrays)
    os.replace(temporary, path)
  except OSError:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise


def write_atomically(path: pathlib.Path, text: str) -> None:
  """Writes a text file so that a kill or a full disk leaves the old one.

  Raises:
    OSError: If it cannot be written; what there is of it is removed.
  """
  temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)
  except OSError:
    temporary.unlink(missing_ok=True)
    raise
