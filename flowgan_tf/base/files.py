"""How files are kept: they are written whole or not at all, and carry a hash that shows damage.

`write_record` and `read_record` keep records in JSON, with arrays beside them. The hash detects any changed bit. It is
not a signature: whoever edits a file on purpose can compute it again.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import tempfile
import textwrap
import time
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from flowgan_tf.base.arrays import read_arrays
from flowgan_tf.base.errors import UsageError

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp')
LARGEST_FILE = 2**26  # bytes of a record without its arrays, or of a picture of samples

_KEY = 'sha256'  # of the hash in a JSON object
_DAY = 24 * 60 * 60  # in seconds
_LONGEST_REASON = 200  # characters of the reason why a file is damaged


def make_writable(folder: str | os.PathLike) -> pathlib.Path:
  """Makes a folder and its parents if necessary, and returns its path.

  It raises a `UsageError` if no file can be created in the folder, or if its name is not UTF-8, which TensorFlow needs.
  """
  folder = pathlib.Path(folder)
  try:
    os.fspath(folder).encode()
  except UnicodeEncodeError:
    readable = os.fsencode(folder).decode(errors='backslashreplace')
    raise UsageError(f'{readable}: cannot be written (its name must be UTF-8)') from None
  with error_named(folder):
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):  # Most systems give it no name, so that a kill leaves nothing.
      pass
  return folder


def check_inside(folder: str | os.PathLike[str]) -> None:
  """Rejects a folder that holds a link out of it, a device, a pipe or a socket, at any depth.

  Whoever reads or writes files of the folder afterwards stays inside of it, even if it came from a stranger.

  Raises:
    UsageError: If there is such a thing, or a folder that cannot be listed.
  """
  top = os.path.realpath(folder)
  left = [os.fspath(folder)]
  while left:  # Recursion would fail in folders as deep as a stranger likes.
    place = left.pop()
    try:
      with os.scandir(place) as entries:
        found = list(entries)
    except FileNotFoundError:  # A training replaces files.
      continue
    except OSError as error:  # Whoever cannot list a folder can still open a link in it.
      raise UsageError(f'{place}: cannot be listed ({error.strerror})') from error
    for entry in found:
      if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if os.path.commonpath([top, target]) != top:
          raise UsageError(f'{entry.path}: is a link that leads out of {folder}, to {target}; remove it')
      elif entry.is_dir():
        left.append(entry.path)
      elif not entry.is_file() and os.path.lexists(entry.path):
        raise UsageError(f'{entry.path}: is a device, a pipe or a socket; remove it')


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
  """Writes an .npz file so that a kill, a full disk or a power cut never leaves part of a file under its name.

  It makes the folder if necessary, and raises a `UsageError` if the file cannot be written.
  """
  path = pathlib.Path(path)
  with _replacing(path) as temporary:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(temporary, 'w') as archive:  # `np.savez` has arguments, whose names no array could have.
      for name, array in arrays.items():
        with archive.open(f'{name}.npy', 'w', force_zip64=True) as entry:
          np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def read_whole(path: pathlib.Path) -> bytes:
  """Reads a file of at most `LARGEST_FILE` bytes, and raises a `UsageError` if it is larger."""
  if (size := path.stat().st_size) > LARGEST_FILE:
    raise UsageError(f'{path}: must have at most {LARGEST_FILE:,} bytes. Got: {size:,}.')
  return path.read_bytes()


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file so that a kill, a full disk or a power cut leaves the old file as it was, or the new one.

  The folder must exist. Text is written as UTF-8. It raises a `UsageError` if the file cannot be written.
  """
  with _replacing(path) as temporary:
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_record(
  path: str | os.PathLike, record: dict, arrays: Mapping[str, np.ndarray | float | str] | None = None
) -> None:
  """Writes a record, and arrays that belong to it, for `read_record`.

  A kill or a full disk leaves the old record or the new one: the arrays get a file of their own, whose name holds the
  first digits of their hash, and the JSON file, which names it as `arrays`, is then replaced in one step.

  It makes the folder of `path` if necessary. The record may hold what `as_json` takes.
  """
  path = pathlib.Path(path)
  with error_named(path.parent):
    path.parent.mkdir(parents=True, exist_ok=True)
  record, name = as_json(record), None
  if arrays:
    name = f'{path.stem}-{digest({}, arrays)[:8]}.npz'
    save_arrays(path.with_name(name), arrays)
    record |= {'arrays': name}
  write_atomically(path, json.dumps(record | {_KEY: digest(record, arrays)}, indent=2) + '\n')
  for old in list(path.parent.glob(f'{path.stem}-{"[0-9a-f]" * 8}.npz')):
    if old.name != name:
      old.unlink(missing_ok=True)


def read_record(path: str | os.PathLike, remedy: str = '') -> tuple[dict, dict[str, np.ndarray]] | None:
  """Reads the record and the arrays that `write_record` wrote; None if there is no such file.

  What it returns needs no further check: a file that was damaged or edited raises a `UsageError`, whose message ends
  with `remedy`.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return None
  content = None
  try:
    content, arrays = read_whole(path), {}
    record = json.loads(content, parse_int=_integer, parse_float=_float, parse_constant=_float)
    expected, name = record.pop(_KEY), record.get('arrays')
    if name:
      arrays = read_arrays(path.with_name(name))
    if expected != digest(record, arrays):
      raise ValueError('not what was written')
  except Exception as error:  # A zip file with flipped bits can raise anything.
    raise_unless_damaged(path, error)
    if content is not None and path.exists() and read_whole(path) != content:  # Another process has just replaced it.
      return read_record(path, remedy)
    reason = textwrap.shorten(str(error), _LONGEST_REASON) or type(error).__name__
    raise UsageError(f'{path}: damaged ({reason}){remedy}') from error
  record.pop('arrays', None)
  return record, arrays


def fits(value: Any, form: Any) -> bool:
  """Whether a value of JSON has a form, so that code may use it without further questions.

  A form is a type, where `float` stands for numbers that a float can hold, or None; a tuple of forms, of which one must
  fit; `[form]`, a list of such values; `{str: form}`, a dict of such values; or another dict, whose names the value
  has. A form that fits None makes a name optional.
  """
  if isinstance(form, tuple):
    return any(fits(value, one) for one in form)
  if isinstance(form, list):
    return isinstance(value, list) and all(fits(item, form[0]) for item in value)
  if isinstance(form, dict):
    return isinstance(value, dict) and all(
      fits(value.get(name), part) for name, part in (dict.fromkeys(value, form[str]) if str in form else form).items()
    )
  if form is None:
    return value is None
  if form in (int, float):  # NumPy's integers have 64 bits.
    is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return is_number or (form is float and isinstance(value, float))
  return isinstance(value, form)


def _integer(digits: str) -> int:
  _float(digits)
  return int(digits)


def _float(number: str) -> float:
  """Returns a number of a record, which `as_json` has made finite."""
  if not math.isfinite(value := float(number)):
    raise ValueError('a number that is not finite')
  return value


def raise_unless_damaged(path: str | os.PathLike, error: Exception) -> None:
  """Raises, while a file is read, what says nothing of its content: a `UsageError`, also for a lack of permission."""
  if isinstance(error, UsageError):
    raise error
  if isinstance(error, PermissionError) or os.strerror(errno.EACCES) in str(error):  # TensorFlow's has its own class.
    raise UsageError(f'{path}: cannot be read ({os.strerror(errno.EACCES)})') from error


def remove_left_behind(folder: pathlib.Path, pattern: str) -> None:
  """Removes the folders and .tmp files that killed processes left, as far as it may.

  Their whole names match, and group 1 is the process's id. It leaves those that are younger than a day, because they
  may be of a process on another machine.
  """
  with contextlib.suppress(OSError):  # Another process may remove them, too, or another user own them.
    for path in folder.iterdir():
      found = re.fullmatch(pattern, path.name)
      if found and not _is_alive(int(found[1])) and time.time() - path.lstat().st_mtime > _DAY:
        if path.is_dir():
          shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == '.tmp':
          path.unlink()


def _is_alive(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:  # It is another user's.
    pass
  return True


def digest(value: Any, arrays: Mapping[str, np.ndarray | float | str] | None = None) -> str:
  """Returns the SHA-256 of a value as it comes back from JSON, with its keys sorted, and of arrays."""
  found = hashlib.sha256(json.dumps(value, sort_keys=True).encode())
  for name, array in sorted((arrays or {}).items()):
    array = np.asarray(array)
    found.update(f'{name} {array.dtype} {array.shape}'.encode())
    found.update(np.ascontiguousarray(array).data)
  return found.hexdigest()


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
  """Waits until no other process is in this block with the same folder. The end of a process is an end of its block."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)


def sync(path: str | os.PathLike) -> None:
  """Waits until a file, or the names in a folder, are on the disk and would survive a power cut.

  It skips folders that do not support this: unreadable folders, and folders on some network file systems.
  """
  try:
    descriptor = os.open(path, os.O_RDONLY)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)
  except OSError as error:
    if not (error.errno in (errno.EACCES, errno.EINVAL, errno.ENOTSUP) and os.path.isdir(path)):
      raise


def as_json(value: Any) -> Any:
  """Replaces tensors, NumPy's numbers and arrays, and bytes by what JSON has, and NaN and infinity by None."""
  if isinstance(value, dict):
    return {str(name): as_json(v) for name, v in value.items()}  # JSON's names are texts.
  if hasattr(value, 'numpy'):
    value = value.numpy()
  if isinstance(value, np.ndarray | np.generic):
    value = value.tolist()
  if isinstance(value, (list, tuple)):
    return [as_json(v) for v in value]
  if isinstance(value, bytes):  # TensorFlow's texts
    return value.decode(errors='replace')
  return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def _replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields the path of a temporary file, which replaces the file at `path` when the block ends without an error."""
  with error_named(path):
    if path.exists() and not (path.is_file() or path.is_dir()):
      raise UsageError(f'{path}: cannot be written (it is a device or a pipe)')  # Root would replace it by a file.
    target = pathlib.Path(os.path.realpath(path))  # A link stays a link.
    temporary = target.parent / f'{target.name}.{os.getpid()}.tmp'  # Two processes may write the same file.
    try:
      yield temporary
      sync(temporary)  # Otherwise a power cut may leave an empty file under the new name.
      os.replace(temporary, target)
      sync(target.parent)
    finally:
      temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def error_named(path: pathlib.Path) -> Iterator[None]:
  """Turns an OSError in its block into a UsageError that names the path."""
  try:
    yield
  except OSError as error:
    raise UsageError(f'{path}: cannot be written ({error.strerror or error})') from error
