"""Which shipped configuration fits the data, by their kind, size and number, read without TensorFlow."""

import functools
import os
import pathlib
import re
from typing import Any

from PIL import ExifTags

from flowgan_tf import data
from flowgan_tf.base.arrays import open_arrays, read_arrays, read_shape
from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import IMAGE_SUFFIXES
from flowgan_tf.data.arrays import load_array
from flowgan_tf.data.dataset import RESIZE
from flowgan_tf.data.images import open_image
from flowgan_tf.data.names import is_outside
from flowgan_tf.data.split import map_array
from flowgan_tf.runs.config import default_config

_TFDS = {'cifar10': {}, 'svhn_cropped': {'flip': False}}  # others of TFDS that `data.load` knows by name
_OWN = ('digits', 'mnist', 'fashion_mnist')  # data sets of TFDS or scikit-learn with a configuration for two CPU cores
_SMALL = 10  # pixels on a side, of images for which the configuration of the digits is good
_MOST = 1000  # images of a folder whose size is looked at
_LARGE = 128  # pixels on a side, of images for which no configuration is good


def choose(dataset: str, image_size: int = 0) -> tuple[str, dict[str, Any], str]:
  """Returns a file of `configs/`, settings that the data need besides, and what was seen, such as '300 images'.

  A plug-in's data are loaded. Nothing was seen of digits, which are the default, or of what is no readable file. The
  latter may be a name of TFDS, or loading it will say what is wrong. Its images are not mirrored, because they may be
  letters.

  Raises:
    UsageError: If one of the first images of a folder has another size, and `image_size` is 0.
  """
  if dataset in _OWN:
    return f'{dataset}.py', {}, dataset if dataset != 'digits' else ''
  if dataset in _TFDS:
    return 'images.py', _TFDS[dataset], dataset
  path = pathlib.Path(os.path.expanduser(dataset))
  other: tuple[int, ...] = ()
  if is_outside(dataset):
    count, shape, _ = _of_plugin(dataset)
  else:
    count, shape, other = _look(path)
  if other and not image_size:
    shapes = f'{list(shape)} and {list(other)}'
    raise UsageError(f'{dataset}: expected images of one shape, got {shapes}{RESIZE}', 'image_size')
  if not shape:
    return 'images.py', {'flip': False}, ''
  if len(shape) == 1:
    couplings = 2 * (shape[0] - 1).bit_length()  # so many that each two columns are apart in some of them
    usual = default_config().vectors.couplings
    needed = {'vectors.couplings': couplings} if couplings > usual else {}
    return 'table.py', needed, f'{count:,} rows of {shape[0]} numbers'
  height, width, channels = shape
  if image_size:
    height = width = image_size
  seen = f'{count:,} images of {height} x {width} x {channels}'
  if max(height, width) > _LARGE:
    seen += ', which train faster if --config.image_size=64 reduces them'
  if max(height, width) <= _SMALL:
    return 'digits.py', {}, seen
  settings = {} if channels == 3 else {'flip': False}  # Grey images may be letters.
  patch = next(size for size in (4, 2, 1) if not (height % size or width % size))
  return 'images.py', settings | ({'jet.patch_size': patch} if patch < 4 else {}), seen


def count_classes(dataset: str) -> int:
  """Returns the number of classes of the user's own data; 0 if they are not labelled, or cannot be read."""
  path = pathlib.Path(os.path.expanduser(dataset))
  if is_outside(dataset):
    return _of_plugin(dataset)[2]
  try:
    if path.suffix == '.npz' and path.is_file():  # Opening a pipe would wait for its other end.
      named = re.compile('labels|y_.*')
      found = read_arrays(path, compressed=True, choose=lambda names: [name for name in names if named.fullmatch(name)])
      labels = list(found.values())
    else:
      labels = [load_array(file) for file in path.glob('*_labels.npy') if file.is_file()]
      if not labels:
        return sum(child.is_dir() and not child.name.startswith('.') for child in path.iterdir())
    return 1 + max(int(part.max()) for part in labels)
  except Exception:  # A damaged file can raise anything. Nothing is hidden: loading it says what is wrong.
    return 0


@functools.cache
def _of_plugin(dataset: str) -> tuple[int, tuple[int, ...], int]:
  """Loads a plug-in's data; returns the number of training images, the shape of one, and the number of classes."""
  loaded = data.load(dataset)
  return len(loaded.train), loaded.image_shape, loaded.num_classes or 0


def _look(path: pathlib.Path) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
  """Returns the number of images or training rows and the shape of one, which is () for what cannot be read.

  If an image of a folder has another height or width, its shape comes last.
  """
  arrays, files = path / 'train.npy', []
  other: tuple[int, ...] = ()
  if path.is_dir() and not arrays.exists():
    found = (file for file in path.rglob('*') if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    files = [file for file in found if not any(part.startswith('.') for part in file.relative_to(path).parts)]
  shape: tuple[int, ...]
  try:
    if files:
      shape = (len(files), *_image_shape(min(files)))
      shapes = map(_image_shape, files[:_MOST])
      other = next((found for found in shapes if found[:2] != shape[1:3]), ())
    else:
      file = path if path.suffix == '.npz' else arrays
      if not file.is_file():  # Opening a pipe would wait for its other end.
        return 0, (), ()
      shape = _npz_shape(file) if file == path else map_array(file).shape
  except Exception:  # A damaged or missing file can raise anything. Nothing is hidden: loading it says what is wrong.
    return 0, (), ()
  if len(shape) == 3:
    shape = (*shape, 1)
  return (shape[0], tuple(shape[1:]), other) if len(shape) in (2, 4) else (0, (), ())


def _image_shape(path: pathlib.Path) -> tuple[int, int, int]:
  with open_image(path) as image:
    # Loading turns an image by this tag; without the key, Pillow would read the whole file in search of it.
    is_turned = 'exif' in image.info and image.getexif().get(ExifTags.Base.Orientation, 1) > 4
    height, width = image.size if is_turned else image.size[::-1]
    return height, width, 1 if image.mode in ('1', 'L') else 3


def _npz_shape(path: pathlib.Path) -> tuple[int, ...]:
  """Reads the shape from the header of the array, without its data."""
  with open_arrays(path, compressed=True) as archive:
    member = archive.getinfo('images.npy' if 'images.npy' in archive.namelist() else 'x_train.npy')
    with archive.open(member) as file:
      return read_shape(file, member.file_size)
