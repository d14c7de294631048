"""Results that take minutes, kept in .npz files of a folder."""

from __future__ import annotations

import logging
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from flowgan_tf.errors import UsageError
from flowgan_tf.files import save_arrays, seal

__all__ = ['cached']

_LOG = logging.getLogger(__name__)
_Result = TypeVar('_Result')
_SEAL = 'sha256'


def cached(
  folder: str | os.PathLike,
  name: str,
  make: Callable[[], Mapping[str, np.ndarray | float | str]],
  read: Callable[[Mapping[str, np.ndarray]], _Result],
) -> _Result:
  """Reads a result from its file, or makes it and keeps it there.

  Args:
    folder: Folder of the cache, made if there is none. If it cannot be written to, a warning says so and the result is
      not kept.
    name: Name of the file, without suffix. Unusual characters are replaced, so that the file stays in the folder.
    make: Makes the arrays, numbers and strings to keep, by name.
    read: Turns them into the result. If it raises an error for those of a file, or the file's seal does not fit them,
      the file is made again, with a warning.

  Returns:
    What `read` returns.
  """
  path = pathlib.Path(folder, re.sub(r'[^A-Za-z0-9_-]+', '-', name) + '.npz')
  try:
    # NumPy leaves a file open that is damaged, if it has opened it.
    with path.open('rb') as file, np.load(file, allow_pickle=False) as saved:
      arrays = {name: saved[name] for name in saved.files}
    # Files of 0.1.0 have no seal. The zip format's own checksums detect damaged numbers in them.
    if _SEAL in arrays and str(arrays.pop(_SEAL)) != seal(None, arrays):
      raise ValueError('not what was written')
    return read(arrays)
  except (FileNotFoundError, NotADirectoryError):
    pass
  except Exception as error:  # A damaged zip file raises almost anything, from EOFError to NotImplementedError.
    _LOG.warning('%s: damaged (%s: %s), and is made again.', path, type(error).__name__, error)
  made = make()
  try:
    # A flipped bit in a zip file's directory can drop the members after the first.
    save_arrays(path, {_SEAL: seal(None, made), **made})
  except UsageError as error:
    _LOG.warning('%s, and will be computed every time.', error)
  return read(made)
