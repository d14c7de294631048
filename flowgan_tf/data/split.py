"""One part of a data set, in memory or in a file."""

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from flowgan_tf.base.arrays import read_shape
from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import raise_unless_damaged


class StoredImages:
  """The images of an .npy file, which are read when they are indexed.

  It replaces the array `[n, height, width, channels]` wherever code only indexes the first axis. Each read maps the
  file anew: a map that stays open would keep every page ever read in the memory of the process. The header is read
  once, since Python 3.11 may fail when several threads parse headers (python/cpython#106905).

  Attributes:
    path: The file.
    shape: `(n, height, width, channels)`.
    dtype: Always uint8.
  """

  dtype = np.dtype(np.uint8)

  def __init__(self, path: str | os.PathLike):
    """Opens a file, and reads only its header.

    Raises:
      UsageError: If the file cannot be read, or does not hold uint8 images `[n, height, width, 1 or 3]`.
    """
    self.path = os.path.abspath(path)
    images = map_array(pathlib.Path(path))
    self.shape = images.shape
    self._offset = images.offset
    self._order: Literal['C', 'F'] = 'C' if images.flags.c_contiguous else 'F'
    if images.dtype != self.dtype or len(self.shape) != 4 or self.shape[3] not in (1, 3) or images.size == 0:
      raise UsageError(f'{path}: expected uint8 [n, height, width, 1 or 3], got {images.dtype} {list(self.shape)}')

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
    """Reads images."""
    try:
      images = np.memmap(self.path, self.dtype, 'r', self._offset, self.shape, self._order)
    except (OSError, ValueError) as error:  # It was removed or cut since it was opened.
      raise OSError(errno.EIO, os.strerror(errno.EIO), self.path) from error
    return np.array(images[index])

  def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
    """Reads all images."""
    return self[:].astype(dtype or self.dtype, copy=False)


# Without `eq=False`, dataclasses would compare arrays element by element, and raise.
@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """One part of a data set."""

  #: Grey levels from 0 to levels - 1, uint8 `[n, height, width, channels]`. A `StoredImages` leaves them in a file.
  #: The rows of a table are float32 `[n, d]`.
  images: np.ndarray | StoredImages
  labels: np.ndarray | None  #: Classes of the images, int64 `[n]`, or None without labels.
  conditions: np.ndarray | None = None  #: What comes with the images, float32 `[n, d]` or `[n, h, w, c]`, or None.

  def __len__(self) -> int:
    return len(self.images)

  def take(self, rows: np.ndarray | slice) -> Split:
    """Returns some images with what belongs to them, by their positions."""
    return Split(self.images[rows], take(self.labels, rows), take(self.conditions, rows))


def take(array: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray | None:
  """Returns some entries of an array; None if there is no array."""
  return None if array is None else array[rows]


def map_array(path: pathlib.Path) -> np.memmap:
  """Returns the array of an .npy file, which stays in the file."""
  if not path.is_file():  # Opening a pipe would wait for its other end.
    raise UsageError(f'{path}: not a regular file')
  try:
    with path.open('rb') as file:
      read_shape(file, path.stat().st_size)
    return np.load(path, mmap_mode='r')
  except Exception as error:  # A damaged file can raise anything.
    raise_unless_damaged(path, error)
    raise UsageError(f'{path}: not a readable .npy file ({type(error).__name__})') from error
