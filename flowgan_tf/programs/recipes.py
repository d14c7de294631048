"""Which shipped configuration fits the data, by their kind, size and number, read without TensorFlow."""

import os
import pathlib
import zipfile

import numpy as np
from PIL import Image

_OWN = ('digits', 'mnist', 'fashion_mnist')  # data sets of TFDS or scikit-learn with a configuration for two CPU cores
_SMALL = 10  # pixels on a side, of images for which the configuration of the digits is good


def choose(dataset: str, image_size: int = 0) -> tuple[str, dict[str, object], str]:
  """Returns a file of `configs/`, settings that the data need besides, and what was seen, such as '300 images'.

  Nothing was seen of digits, which are the default, or of what is no readable file. The latter gets the configuration
  `images.py`: it may be a name of TFDS, or loading it will say what is wrong.
  """
  if dataset in _OWN:
    return f'{dataset}.py', {}, dataset if dataset != 'digits' else ''
  count, shape = _look(pathlib.Path(os.path.expanduser(dataset)))
  if len(shape) == 1:
    return 'table.py', {}, f'{count:,} rows of {shape[0]} numbers'
  height, width, channels = shape
  if image_size:
    height = width = image_size
  seen = f'{count:,} images of {height} x {width} x {channels}' if count else ''
  if max(height, width) <= _SMALL:
    return 'digits.py', {}, seen
  patch = next(size for size in (4, 2, 1) if not (height % size or width % size))
  settings = {'jet.patch_size': patch} if patch < 4 else {}
  return 'images.py' if channels == 3 else 'images.py:grey', settings, seen


def _look(path: pathlib.Path) -> tuple[int, tuple[int, ...]]:
  """Returns the number of training images or rows and the shape of one; 0 and a guess for what cannot be read."""
  try:
    if path.suffix == '.npz':
      shape = _npz_shape(path)
    elif (path / 'train.npy').exists():
      shape = np.load(path / 'train.npy', mmap_mode='r').shape
    else:
      files = [file for file in path.rglob('*') if file.suffix.lower() in ('.png', '.jpg', '.jpeg', '.bmp')]
      with Image.open(min(files)) as image:
        shape = len(files), image.height, image.width, 1 if image.mode in ('1', 'L') else 3
  except (OSError, ValueError, KeyError, zipfile.BadZipFile):
    shape = ()
  if len(shape) == 3:
    shape = (*shape, 1)
  return (shape[0], tuple(shape[1:])) if len(shape) in (2, 4) else (0, (32, 32, 3))


def _npz_shape(path: pathlib.Path) -> tuple[int, ...]:
  """Reads the shape from the header of the array, without its data."""
  with zipfile.ZipFile(path) as archive:
    name = 'images.npy' if 'images.npy' in archive.namelist() else 'x_train.npy'
    with archive.open(name) as file:
      read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
      return read[np.lib.format.read_magic(file)[0]](file)[0]
