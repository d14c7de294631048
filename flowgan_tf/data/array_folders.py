"""Folders with an .npy file for each split, whose images may be larger than memory."""

from __future__ import annotations

import os
import pathlib

import numpy as np

from flowgan_tf.data.dataset import Dataset, Split, check_labels, count_classes
from flowgan_tf.data.stored_images import open_images
from flowgan_tf.errors import UsageError

__all__ = ['PARTS', 'is_array_folder', 'load_array_folder']

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


def _labels(path: pathlib.Path, n: int) -> np.ndarray:
  try:
    with path.open('rb') as file:
      labels = np.lib.format.read_array(file, allow_pickle=False)
      if file.read(1):
        raise ValueError('more than one array')
  except Exception as error:  # A damaged file can raise anything.
    raise UsageError(f'{path}: not a readable .npy file ({type(error).__name__})') from error
  return check_labels(str(path), 'labels', labels, n)
