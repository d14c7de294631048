"""Arrays of .npy and .npz files, whose sizes are checked before memory is asked for."""

import contextlib
import io
import math
import os
import textwrap
import zipfile
from collections.abc import Callable, Collection, Iterator
from typing import IO, Any

import numpy as np

from flowgan_tf.base.errors import check_memory

_LONGEST_HEADER = 2**14  # bytes of an array's header; NumPy rejects longer ones
_LONGEST_NAME = 200  # characters of an array's name
_LONGEST_READ = 2**24  # bytes
_MOST_ROWS = 2**20  # of an array without numbers


class _Pieces(io.FileIO):
  """A file that is read in pieces.

  `zipfile` reads a directory at once, and makes an object of 1 kB from each 46 bytes. It reads arrays in pieces.
  """

  def read(self, size: int | None = -1, /) -> Any:
    if size is not None and size > _LONGEST_READ:
      raise ValueError(f'its directory would take {size:,} bytes')
    return super().read(size)


def read_arrays(
  path: str | os.PathLike, compressed: bool = False, choose: Callable[[Collection[str]], Collection[str]] = list
) -> dict[str, np.ndarray]:
  """Reads arrays of an .npz file, after checking what `open_arrays` checks and that memory can hold them.

  Args:
    path: The file.
    compressed: Whether arrays may be compressed.
    choose: Returns the names of the arrays to read, given all names.

  Raises:
    UsageError: If memory cannot hold the arrays.
    Exception: Almost any other, if the file is damaged.
  """
  with open_arrays(path, compressed) as archive:
    members = {member.filename.removesuffix('.npy'): member for member in archive.infolist()}
    chosen = {name: members[name] for name in choose(members)}
    check_memory(f'{path}: its arrays', sum(member.file_size for member in chosen.values()))
    arrays = {}
    for name, member in chosen.items():
      with archive.open(member) as file:  # Its checksum is compared at its end.
        arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


@contextlib.contextmanager
def open_arrays(path: str | os.PathLike, compressed: bool = False) -> Iterator[zipfile.ZipFile]:
  """Opens an .npz file, after checking that each array takes as many bytes as its header and the directory say.

  Without `compressed` the arrays must be stored as they are, so that they take no more bytes than the file. It raises
  almost any exception if the file is damaged.
  """
  with _Pieces(path) as file, zipfile.ZipFile(file) as archive:
    members = archive.infolist()
    if len({member.filename for member in members}) < len(members):
      raise ValueError('two arrays of one name')
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if compressed else (zipfile.ZIP_STORED,)
    for member in members:
      name = member.filename
      if not name.endswith('.npy') or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise ValueError(f'{textwrap.shorten(repr(name), _LONGEST_NAME)} is not the name of an array')
      # NumPy writes no comments. A flipped bit in the length of one hides the members behind it.
      if member.comment or member.compress_type not in kinds:
        raise ValueError('not what NumPy writes')
    if not compressed and sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
      raise ValueError('smaller than its arrays')
    for member in members:
      with archive.open(member) as entry:
        read_shape(entry, member.file_size)
    yield archive


def read_shape(file: IO[bytes], size: int) -> tuple[int, ...]:
  """Returns the shape of the array in an .npy file of `size` bytes, open at its start.

  It raises a ValueError if the array would take another number of bytes, which NumPy allocates before it reads them, or
  holds Python objects.
  """
  start = io.BytesIO(file.read(_LONGEST_HEADER))
  version = np.lib.format.read_magic(start)
  readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
  if version not in readers:
    raise ValueError(f'version {version} of the .npy format')
  shape, _, dtype = readers[version](start)
  if dtype.hasobject:
    raise ValueError('Python objects')
  if min(shape, default=0) < 0 or not dtype.itemsize or start.tell() + math.prod(shape) * dtype.itemsize != size:
    raise ValueError('of another size than its header says')
  # An array without columns may have any number of rows, and a loop over them would not end.
  if 0 in shape and max(shape) > _MOST_ROWS:
    raise ValueError(f'no numbers in {max(shape):,} rows')
  return shape
