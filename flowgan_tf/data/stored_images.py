"""Images in .npy files, which may be larger than memory."""

from __future__ import annotations

import errno
import math
import os
import pathlib
import weakref
from typing import BinaryIO

import numpy as np

from flowgan_tf.errors import UsageError, check_memory

__all__ = ['IN_MEMORY', 'StoredImages', 'check_regular', 'open_images']

# Images of fewer bytes are loaded: gathering a batch from memory needs no Python.
IN_MEMORY = 2**30


class StoredImages:
  """The images of an .npy file, which are read when they are indexed.

  It stands for the array `[n, height, width, channels]` wherever that is only indexed along its first axis, by a
  number, a slice or an array of numbers. Nothing of the file stays in the memory of the process, as it does with a
  memory map: the pages are those of the system's cache, and an image is read without its neighbours.

  Attributes:
    path: The file.
    shape: `(n, height, width, channels)`.
    dtype: Always uint8.
  """

  dtype = np.dtype(np.uint8)

  def __init__(self, path: str | os.PathLike):
    """Opens a file; of its content only the header is read.

    Raises:
      UsageError: If the file cannot be read, or does not hold uint8 images `[n, height, width, 1 or 3]`.
    """
    self.path = os.fspath(path)
    check_regular(path)
    try:
      with open(path, 'rb') as file:
        shape, fortran_order, dtype = _read_header(file)
        start, size = file.tell(), os.fstat(file.fileno()).st_size
        if dtype != self.dtype or len(shape) != 4 or shape[3] not in (1, 3) or min(shape) < 1:
          raise UsageError(f'{path}: expected uint8 [n, height, width, 1 or 3], got {dtype} {list(shape)}')
        if fortran_order:
          raise UsageError(f'{path}: expected images one after the other, got an array in Fortran order')
        if size != start + math.prod(shape):
          raise UsageError(f'{path}: damaged; {list(shape)} need {start + math.prod(shape)} bytes, got {size}')
        self._descriptor = os.dup(file.fileno())
    except OSError as error:
      raise UsageError(f'{path}: cannot be read ({error.strerror or error})') from error
    weakref.finalize(self, os.close, self._descriptor)
    self.shape, self._start = shape, start

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
    """Reads images.

    Raises:
      IndexError: If there is no such image.
      OSError: If the file cannot be read any more.
    """
    rows = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
    if rows.size and not (rows.dtype.kind in 'iu' and -len(self) <= rows.min() <= rows.max() < len(self)):
      raise IndexError(f'no such images among {len(self)}: {index!r}')
    images = np.empty((rows.size, math.prod(self.shape[1:])), np.uint8)
    size = images.shape[1]
    for image, row in zip(images, (rows % len(self)).ravel().tolist(), strict=True):
      # Two threads may read at once, as this has no position of its own.
      content = os.pread(self._descriptor, size, self._start + row * size)
      if len(content) < size:
        raise OSError(errno.EIO, os.strerror(errno.EIO), self.path)
      image[:] = np.frombuffer(content, np.uint8)
    return images.reshape(*rows.shape, *self.shape[1:])

  def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
    """Reads all images, if memory can hold them."""
    check_memory(f'{self.path}: its images', math.prod(self.shape))
    return self[:].astype(dtype or self.dtype, copy=False)


def check_regular(path: str | os.PathLike) -> None:
  """Checks that a path is not a pipe or a device, for which opening would wait.

  Raises:
    UsageError: If it is one.
  """
  path = pathlib.Path(path)
  if path.is_fifo() or path.is_socket() or path.is_char_device() or path.is_block_device():
    raise UsageError(f'{path}: not a regular file')


def open_images(path: str | os.PathLike) -> np.ndarray | StoredImages:
  """Opens an .npy file of images, and loads it if it is smaller than 1 GiB.

  Raises:
    UsageError: As for `StoredImages`.
  """
  images = StoredImages(path)
  return images[:] if math.prod(images.shape) < IN_MEMORY else images


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
  try:
    return {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)](file)
  except Exception as error:  # A damaged header can raise anything.
    raise UsageError(f'{file.name}: not a readable .npy file ({type(error).__name__})') from error
