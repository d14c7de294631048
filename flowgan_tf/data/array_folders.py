"""Folders with an .npy file for each split, whose images may be larger than memory."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping

import numpy as np

from flowgan_tf.data.dataset import Dataset, Split, check_labels, count_classes
from flowgan_tf.data.stored_images import check_regular, open_images
from flowgan_tf.errors import UsageError
from flowgan_tf.files import make_writable, refusal_named, sync

__all__ = ['PARTS', 'is_array_folder', 'load_array_folder', 'write_array_folder']

PARTS = ('train', 'validation', 'test')
_IMAGES = tuple(f'{part}.npy' for part in PARTS)
_LABELS = tuple(f'{part}_labels.npy' for part in PARTS)


def is_array_folder(path: str | os.PathLike) -> bool:
  """Whether a folder holds .npy files of splits rather than image files."""
  return any(os.path.lexists(os.path.join(path, name)) for name in _IMAGES)


def load_array_folder(path: str | os.PathLike) -> Dataset:
  """Opens a folder with `train.npy`, `validation.npy` and `test.npy`, and perhaps labels.

  Images are uint8 `[n, height, width, 1 or 3]`. Those of a file of 1 GiB or more stay in the file, and are read when
  they are needed. Labels, integers from 0 in `train_labels.npy` and so on, are for all three splits or for none.

  Args:
    path: The folder. Names that start with a dot are passed over, and no other files may be there.

  Returns:
    A `Dataset` with 256 levels, named after the folder.

  Raises:
    UsageError: If a file is missing, damaged or too many, or holds something else.
  """
  folder = pathlib.Path(path)
  names = {child.name for child in folder.iterdir() if not child.name.startswith('.')}
  if missing := [name for name in _IMAGES if name not in names]:
    raise UsageError(f'{folder}: expected {", ".join(_IMAGES)}; {missing[0]} is missing')
  if unknown := sorted(names - {*_IMAGES, *_LABELS}):
    raise UsageError(f'{folder / unknown[0]}: expected no other files than {", ".join((*_IMAGES, *_LABELS))}')
  labelled = [name for name in _LABELS if name in names]
  if 0 < len(labelled) < len(PARTS):
    raise UsageError(f'{folder}: expected labels for all three splits or for none; got only {", ".join(labelled)}')
  images = {part: open_images(folder / f'{part}.npy') for part in PARTS}
  if len({array.shape[1:] for array in images.values()}) > 1:
    got = ', '.join(f'{part}.npy {list(array.shape[1:])}' for part, array in images.items())
    raise UsageError(f'{folder}: expected images of one shape, got {got}')
  labels = {part: _labels(folder / f'{part}_labels.npy', len(images[part])) if labelled else None for part in PARTS}
  splits = [Split(images[part], labels[part]) for part in PARTS]
  return Dataset(folder.resolve().name, 256, *splits, num_classes=count_classes(*splits))


def write_array_folder(
  path: str | os.PathLike,
  batches: Iterable[tuple[np.ndarray, np.ndarray | None]],
  image_shape: tuple[int, int, int],
  parts: Mapping[str, np.ndarray],
) -> None:
  """Writes a folder for `load_array_folder`, whole or not at all. One batch of images is in memory at a time.

  Args:
    path: The folder. If there is one when all is written, it is kept.
    batches: All images, uint8 `[batch, *image_shape]`, with labels or without. Labels are not written if some are below
      0, which means that an image has none.
    image_shape: `(height, width, channels)`.
    parts: For each split the numbers of its images in `batches`, from 0, in ascending order. Each number is in one.

  Raises:
    UsageError: If the folder cannot be written, or the disk has no room for it.
    ValueError: If `batches` are not as many images as `parts` name.
  """
  folder = pathlib.Path(path)
  parent = make_writable(folder.parent)
  total = sum(map(len, parts.values()))
  if (size := total * math.prod(image_shape)) > (free := shutil.disk_usage(parent).free):
    raise UsageError(f'{folder}: needs {size / 1e9:,.1f} GB of disk, of which {free / 1e9:,.1f} GB are free')
  part_of = np.empty(total, np.uint8)
  for number, part in enumerate(PARTS):
    part_of[parts[part]] = number
  with refusal_named(folder), tempfile.TemporaryDirectory(dir=parent, prefix=f'.{folder.name}-') as temporary:
    written = pathlib.Path(temporary, 'written')
    written.mkdir()
    labels = _write_images(written, batches, image_shape, part_of)
    if labels is not None and labels.min() >= 0:
      for number, name in enumerate(_LABELS):
        np.save(written / name, labels[part_of == number])
    for file in (*written.iterdir(), written):
      sync(file)
    try:
      os.rename(written, folder)
    except OSError:
      if not folder.is_dir():  # Another process may have written it meanwhile.
        raise


def _write_images(folder, batches, image_shape, part_of):
  """Writes the images of each split, and returns all labels, or None."""
  labels, done = [], 0
  with contextlib.ExitStack() as stack:
    files = [stack.enter_context((folder / name).open('wb')) for name in _IMAGES]
    for number, file in enumerate(files):
      shape = (int(np.count_nonzero(part_of == number)), *image_shape)
      np.lib.format.write_array_header_1_0(file, {'descr': '|u1', 'fortran_order': False, 'shape': shape})
    for images, own_labels in batches:
      owners = part_of[done : done + len(images)]
      done += len(images)
      if len(owners) < len(images):
        break
      for number in np.unique(owners):
        files[number].write(np.ascontiguousarray(images[owners == number]))
      labels.append(own_labels)
  if done != len(part_of):
    raise ValueError(f'`batches` must hold {len(part_of)} images. Got: {done}.')
  return None if labels[0] is None else np.concatenate(labels)


def _labels(path: pathlib.Path, n: int) -> np.ndarray:
  check_regular(path)
  try:
    with path.open('rb') as file:
      labels = np.lib.format.read_array(file, allow_pickle=False)
      if file.read(1):
        raise ValueError('more than one array')
  except Exception as error:  # A damaged file can raise anything.
    raise UsageError(f'{path}: not a readable .npy file ({type(error).__name__})') from error
  return check_labels(str(path), 'labels', labels, n)
