"""Files that keep what takes long to compute: decoded images, classifiers, features."""

import logging
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from flowgan_tf.base.arrays import read_arrays
from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import digest, raise_unless_damaged, remove_left_behind, save_arrays

_LOG = logging.getLogger(__name__)
_SEAL = 'sha256'
_LONGEST = 200  # characters of a file's name; most systems take 255


def cache_folder(folder: str) -> pathlib.Path:
  """Returns the folder of the setting `cache_dir`, which may be empty."""
  return pathlib.Path(folder or '~/.cache/flowgan_tf').expanduser()


def cached(folder: str | os.PathLike, name: str, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
  """Reads arrays, numbers and strings from their file in a cache, or makes them and keeps them there.

  A file that was damaged or edited is made again, with a warning. If the folder cannot be written to, a warning says
  so. Unusual characters in the name are replaced, so that the file stays in the folder, and a long name is cut.
  """
  plain = re.sub(r'[^A-Za-z0-9_-]+', '-', name)
  if len(plain) > _LONGEST:
    plain = f'{plain[: _LONGEST - 17]}-{digest(name)[:16]}'
  path = pathlib.Path(folder, f'{plain}.npz')
  try:
    arrays = read_arrays(path)
    if str(arrays.pop(_SEAL)) != digest(None, arrays):
      raise ValueError('not what was written')
    return arrays
  except (FileNotFoundError, NotADirectoryError, PermissionError):
    pass
  except Exception as error:  # A damaged zip file raises almost anything, from EOFError to NotImplementedError.
    raise_unless_damaged(path, error)
    _LOG.warning('%s: damaged (%s: %s); making it again.', path, type(error).__name__, error)
  made = make()
  try:
    # A flipped bit in a zip file's directory can drop the members after the first.
    save_arrays(path, {_SEAL: digest(None, made), **made})
    remove_left_behind(path.parent, r'.+\.npz\.(\d{1,9})\.tmp')
  except UsageError as error:
    _LOG.warning('%s; it will be computed every time.', error)
  return made
