"""Images and tables in NumPy's files: .npz files, and folders of .npy files, whose images may exceed memory."""

import contextlib
import functools
import logging
import math
import os
import pathlib
import re
import shutil
import tempfile
import textwrap
import zipfile
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from flowgan_tf.base.arrays import read_arrays
from flowgan_tf.base.errors import UsageError, check, check_memory
from flowgan_tf.base.files import error_named, make_writable, raise_unless_damaged, remove_left_behind, sync
from flowgan_tf.data.dataset import (
  Dataset,
  all_labelled,
  as_finite,
  check_conditions,
  check_labels,
  crop_and_resize,
  hold_out,
  make_dataset,
  three_way,
)
from flowgan_tf.data.names import SPLITS
from flowgan_tf.data.split import Split, StoredImages, map_array

_LOG = logging.getLogger(__name__)

_IMAGES = tuple(f'{part}.npy' for part in SPLITS)
_LABELS = tuple(f'{part}_labels.npy' for part in SPLITS)
_CONDITIONS = tuple(f'{part}_conditions.npy' for part in SPLITS)
_CLASS_NAMES = 'class_names'  # an array of texts, beside labels

# Images that take fewer bytes are loaded, because TensorFlow gathers a batch from memory without Python.
IN_MEMORY = 2**30


def is_array_folder(path: str | os.PathLike) -> bool:
  """Whether a folder holds .npy files of splits rather than image files."""
  return any(os.path.lexists(os.path.join(path, name)) for name in _IMAGES)


def load_array_folder(path: str | os.PathLike) -> Dataset:
  """Opens a folder with `train.npy`, `validation.npy` and `test.npy`.

  There may be `train_labels.npy` and so on, `class_names.npy`, and `train_conditions.npy` and so on, which are loaded.
  A file of images of 1 GiB or more becomes `StoredImages`. Other files are rejected, unless their names start with a
  dot.
  """
  folder = pathlib.Path(path)
  names = {child.name for child in folder.iterdir() if not child.name.startswith('.')}
  class_names = folder / f'{_CLASS_NAMES}.npy'
  if not set(_IMAGES) <= names <= {*_IMAGES, *_LABELS, *_CONDITIONS, class_names.name}:
    perhaps = f'perhaps {", ".join(_LABELS)}, perhaps {class_names.name}, perhaps {", ".join(_CONDITIONS)}'
    expected = f'{", ".join(_IMAGES)}, {perhaps}, and nothing else'
    raise UsageError(f'{folder}: expected {expected}; got {", ".join(sorted(names))}')
  splits = {}
  for part in SPLITS:
    images = StoredImages(folder / f'{part}.npy')
    labels = conditions = None
    if (file := folder / f'{part}_labels.npy').name in names:
      labels = check_labels(str(file), load_array(file), len(images))
    if (file := folder / f'{part}_conditions.npy').name in names:
      conditions = check_conditions(str(file), load_array(file), len(images))
    splits[part] = Split(images[:] if math.prod(images.shape) < IN_MEMORY else images, labels, conditions)
  named = load_array(class_names) if class_names.name in names else None
  return make_dataset(str(folder), folder.resolve().name, **splits, class_names=named)


def load_array(path: pathlib.Path) -> np.ndarray:
  """Returns the array of an .npy file, in memory."""
  array = map_array(path)
  check_memory(f'{path}: its array', array.nbytes)
  return np.array(array)


def write_array_folder(
  path: str | os.PathLike,
  images: Iterable[tuple[np.ndarray, int]],
  image_shape: tuple[int, int, int],
  splits: Sequence[Split],
  class_names: Sequence[str] | None = None,
) -> None:
  """Writes a folder for `load_array_folder`, whole or not at all. If another process was faster, its folder stays.

  Args:
    path: The folder.
    images: All images, uint8 `image_shape`, each with its label, or -1 if it has none. If any image has none, it writes
      no labels. One image is in memory at a time.
    image_shape: `(height, width, channels)`.
    splits: Train, validation and test, with positions in `images`, ascending from 0, in place of images.
    class_names: Names of the classes, or None.
  """
  folder = pathlib.Path(path)
  parent = make_writable(folder.parent)
  total = sum(map(len, splits))
  if (size := total * math.prod(image_shape)) > (free := shutil.disk_usage(parent).free):
    raise UsageError(f'{folder}: needs {size / 1e9:,.1f} GB of disk, of which {free / 1e9:,.1f} GB are free')
  _LOG.info('%s: writing %.1f GB of images there, once.', folder, size / 1e9)
  labels, file_of = np.empty(total, np.int64), np.empty(total, object)
  remove_left_behind(parent, re.escape(f'.{folder.name}-') + r'(\d{1,9})-[a-z0-9_]{8}')
  prefix = f'.{folder.name}-{os.getpid()}-'
  with error_named(folder), tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as temporary:
    written = pathlib.Path(temporary, 'written')
    written.mkdir()
    with contextlib.ExitStack() as stack:
      for name, split in zip(_IMAGES, splits, strict=True):
        file_of[split.images] = file = stack.enter_context((written / name).open('wb'))
        header = {'descr': '|u1', 'fortran_order': False, 'shape': (len(split), *image_shape)}
        np.lib.format.write_array_header_1_0(file, header)
      for i, (file, (image, label)) in enumerate(zip(file_of, images, strict=True)):
        file.write(image.tobytes())
        labels[i] = label
    if all_labelled(folder, labels):
      for name, split in zip(_LABELS, splits, strict=True):
        np.save(written / name, labels[split.images])
      if class_names is not None:
        np.save(written / f'{_CLASS_NAMES}.npy', np.array(class_names, str))
    for path in (*written.iterdir(), written):
      sync(path)
    try:
      written.rename(folder)
    except OSError:
      if not folder.is_dir():
        raise


# The arrays of an .npz file with one set of images.
_KEYS = ('images', 'labels', 'conditions')


def load_npz(path: str, image_size: int = 0) -> Dataset:
  """Loads an .npz file of `images`, or of `x_train` and perhaps `x_test` and `x_validation`, as Keras names them.

  Beside images there may be `labels`, or `y_train` and so on, `class_names` as an array of texts, and `conditions`, or
  `c_train` and so on. The file may hold no other array, because that could be one of these under a wrong name. Floats
  `[n, d]` are a table.
  """
  arrays = _read_arrays(path)
  class_names = arrays.get(_CLASS_NAMES)
  name = pathlib.Path(path).stem
  if 'images' in arrays:
    return make_dataset(path, name, *three_way(_npz_split(path, arrays, _KEYS, image_size), path), class_names)
  splits = {
    part: _npz_split(path, arrays, [f'{letter}_{part}' for letter in 'xyc'], image_size)
    for part in SPLITS
    if f'x_{part}' in arrays
  }
  if len(splits) == 1:
    return make_dataset(path, name, *three_way(splits['train'], path), class_names)
  if 'validation' not in splits:
    splits['train'], splits['validation'] = hold_out(splits['train'], 1 / 10, shuffle=True, source=path)
  return make_dataset(path, name, **splits, class_names=class_names)


def _read_arrays(path: str) -> dict[str, np.ndarray]:
  """Reads the arrays of an .npz file: their names and sizes, then the arrays, whose checksums show damage."""
  if not os.path.isfile(path):
    raise UsageError(f'{path}: no such file')
  try:
    with open(path, 'rb') as file:
      if not zipfile.is_zipfile(file):
        raise UsageError(f'{path}: not a readable .npz file of plain arrays (not a zip archive, or cut short)')
    return read_arrays(path, compressed=True, choose=functools.partial(_check_names, path))
  except Exception as error:  # Reading a zip file with flipped bits can raise anything.
    raise_unless_damaged(path, error)
    reason = textwrap.shorten(f'{type(error).__name__}: {error}', 200)
    raise UsageError(f'{path}: not a readable .npz file of plain arrays ({reason})') from error


def _check_names(path: str, found: Collection[str]) -> Collection[str]:
  """Returns the names of the arrays of an .npz file, after checking that they belong together."""
  names = {*found} - {_CLASS_NAMES}
  keras = {f'{letter}_{part}' for letter in 'xyc' for part in SPLITS}
  needed = {'x_train', 'x_test'} if 'x_validation' in names else {'x_train'}
  complete = needed | {f'x{name[1:]}' for name in names} <= names <= keras
  if not ({'images'} <= names <= set(_KEYS) or complete):
    expected = (
      'arrays "images" and perhaps "labels" and "conditions", or "x_train" and perhaps "x_test", "x_validation", '
      '"y_..." and "c_...", and perhaps "class_names"'
    )
    got = textwrap.shorten(', '.join(sorted(names)), 200) or 'nothing'
    raise UsageError(f'{path}: expected {expected}; got {got}')
  return found


def _npz_split(path: str, arrays: dict[str, np.ndarray], keys: Sequence[str], image_size: int) -> Split:
  """Returns arrays of an .npz file, under the keys of images, labels and conditions, as a `Split`.

  It resizes the images if need be.
  """
  images_key, labels_key, conditions_key = keys
  images, labels, conditions = arrays[images_key], arrays.get(labels_key), arrays.get(conditions_key)
  is_table = images.ndim == 2 and images.shape[1] > 1 and images.size and np.issubdtype(images.dtype, np.floating)
  if is_table:
    check('image_size', image_size, f'0 for {path}, which holds a table', image_size == 0)
    images = as_finite(f'{path}: {images_key}', images)
  is_ambiguous = images.ndim == 3 and images.shape[2] in (1, 3)
  if images.ndim == 3 and not is_ambiguous:
    images = images[..., np.newaxis]
  if not is_table and (
    images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or images.size == 0
  ):
    hint = ', which could be one image; if it is not, add a last axis of 1' if is_ambiguous else ''
    raise UsageError(
      f'{path}: expected "{images_key}" as uint8 [n, height, width] or [n, height, width, 1 or 3], or as a '
      'table, floats [n, 2 or more], '
      f'got {images.dtype} {list(arrays[images_key].shape)}{hint}'
    )
  if image_size:
    images = np.stack([crop_and_resize(pixels, image_size) for pixels in images])
  if labels is not None:
    labels = check_labels(f'{path}: {labels_key}', labels, len(images))
  if conditions is not None:
    conditions = check_conditions(f'{path}: {conditions_key}', conditions, len(images))
    cropped = image_size and conditions.ndim == 4
    expected = f'0 for {path}, whose "{conditions_key}" are images that would not be cropped with them'
    check('image_size', image_size, expected, not cropped)
  return Split(images, labels, conditions)
