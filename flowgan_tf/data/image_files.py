"""The user's own images, from a folder or from an .npz file."""

from __future__ import annotations

import pathlib
import zipfile
import zlib

import numpy as np
from PIL import Image

from flowgan_tf.data.dataset import Dataset, Split, hold_out, three_way
from flowgan_tf.errors import UsageError

__all__ = ['load_folder', 'load_npz']

_EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp')


def load_folder(path: str) -> Dataset:
  """Loads a folder of images, or a folder with one sub-folder of images for each class.

  Only *.png, *.jpg, *.jpeg and *.bmp files are read, unless their names start with a dot. Labels number the sub-folders
  in the order of their names. Images must be 8-bit grey or RGB; those with a palette are converted to RGB.

  Args:
    path: The folder.

  Returns:
    A `Dataset` with 256 levels, split at random into 80 % train, 10 % validation and 10 % test.

  Raises:
    UsageError: If there are too few images, an image is damaged or neither grey nor RGB, or the images differ in shape.
  """
  folder = pathlib.Path(path)
  loose = _image_files(folder)
  classes = {child.name: _image_files(child) for child in _visible(folder) if child.is_dir()}
  classes = {name: paths for name, paths in classes.items() if paths}
  if loose and classes:
    raise UsageError(
      f'{folder}: expected images or sub-folders of images, got both: {loose[0].name} and {next(iter(classes))}/'
    )
  paths = loose or [path for members in classes.values() for path in members]
  if not paths:
    raise UsageError(f'{folder}: holds no images; expected {", ".join(_EXTENSIONS)} files or sub-folders of them')
  images = [_read_image(paths[0])]
  for path in paths[1:]:
    images.append(_read_image(path))
    if images[-1].shape != images[0].shape:
      raise UsageError(
        f'{path}: expected an image like {paths[0].name}, height x width x channels {_by(images[0].shape)}, '
        f'got {_by(images[-1].shape)}'
      )
  labels = np.repeat(np.arange(len(classes)), [len(members) for members in classes.values()]) if classes else None
  everything = Split(np.stack(images), labels)
  return Dataset(folder.resolve().name, 256, *three_way(everything, str(folder)), _num_classes(everything))


def load_npz(path: str) -> Dataset:
  """Loads an .npz file of images.

  It holds either an array `images` and optionally `labels`, or the arrays of Keras' data sets: `x_train`, `x_test` and
  optionally `x_validation`, with labels `y_train`, `y_test` and `y_validation` for all of them or for none.

  Args:
    path: The file. Images are uint8 `[n, height, width]` or `[n, height, width, 1 or 3]`. Labels are integers from 0,
      `[n]` or `[n, 1]`.

  Returns:
    A `Dataset` with 256 levels. `images` are split at random into 80 % train, 10 % validation and 10 % test. Without
    `x_validation`, a random 10 % of `x_train` is held out.

  Raises:
    UsageError: If the file is missing or damaged, or holds something else.
  """
  try:
    with np.load(path, allow_pickle=False) as archive:
      arrays = {key: archive[key] for key in archive.files}
  except FileNotFoundError:
    raise UsageError(f'{path}: no such file') from None
  # AttributeError and TypeError come from an .npy file under this name, which is loaded as an array and not an archive.
  except (OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
    raise UsageError(f'{path}: not a readable .npz file of plain arrays ({type(error).__name__})') from error

  name = pathlib.Path(path).stem
  if 'images' in arrays:
    everything = _split(path, arrays, 'images', 'labels')
    return Dataset(name, 256, *three_way(everything, path), _num_classes(everything))
  if not {'x_train', 'x_test'} <= arrays.keys():
    got = ', '.join(sorted(arrays)) or 'nothing'
    raise UsageError(f'{path}: expected an array "images", or "x_train" and "x_test"; got {got}')
  parts = [part for part in ('train', 'validation', 'test') if f'x_{part}' in arrays]
  splits = {part: _split(path, arrays, f'x_{part}', f'y_{part}') for part in parts}
  if len({split.images.shape[1:] for split in splits.values()}) > 1:
    got = ', '.join(f'x_{part} {_by(split.images.shape[1:])}' for part, split in splits.items())
    raise UsageError(f'{path}: expected images of one shape, got {got}')
  if len({split.labels is None for split in splits.values()}) > 1:
    got = ', '.join(f'y_{part}' for part, split in splits.items() if split.labels is not None)
    raise UsageError(f'{path}: expected labels for {", ".join(parts)} or for none; got only {got}')
  if 'validation' not in splits:
    splits['train'], splits['validation'] = hold_out(splits['train'], 1 / 10, shuffle=True, source=path)
  return Dataset(name, 256, **splits, num_classes=_num_classes(*splits.values()))


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(child for child in folder.iterdir() if not child.name.startswith('.'))


def _image_files(folder: pathlib.Path) -> list[pathlib.Path]:
  return [child for child in _visible(folder) if child.is_file() and child.suffix.lower() in _EXTENSIONS]


def _read_image(path: pathlib.Path) -> np.ndarray:
  """Returns an image as uint8 `[height, width, 1 or 3]`."""
  # Pillow reads it, because TensorFlow's decoder takes the palette indices of a BMP for grey levels.
  try:
    with Image.open(path) as image:
      image.load()
      if image.mode in ('1', 'P'):
        image = image.convert({'1': 'L', 'P': 'RGB'}[image.mode])
      mode, pixels = image.mode, np.array(image)
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    raise UsageError(f'{path}: not a readable image ({type(error).__name__})') from error
  if mode not in ('L', 'RGB'):
    raise UsageError(f'{path}: expected an 8-bit grey or RGB image, got mode {mode}')
  return pixels[..., np.newaxis] if mode == 'L' else pixels


def _split(path: str, arrays: dict[str, np.ndarray], images_key: str, labels_key: str) -> Split:
  """Checks the arrays under two keys of an .npz file and returns them as a `Split`."""
  images, labels = arrays[images_key], arrays.get(labels_key)
  if images.ndim == 3:
    images = images[..., np.newaxis]
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or images.size == 0:
    raise UsageError(
      f'{path}: expected "{images_key}" as uint8 [n, height, width] or [n, height, width, 1 or 3], '
      f'got {images.dtype} {list(arrays[images_key].shape)}'
    )
  if labels is None:
    return Split(images, None)
  n = len(images)
  is_integer = np.issubdtype(labels.dtype, np.integer)
  # A label beyond the number of images is a mistake, and would ask for a network with as many outputs.
  if not is_integer or labels.shape not in ((n,), (n, 1)) or labels.min() < 0 or labels.max() >= max(n, 1000):
    raise UsageError(
      f'{path}: expected "{labels_key}" as {n} integers from 0, one for each image, '
      f'got {labels.dtype} {list(labels.shape)}'
      + (f' from {labels.min()} to {labels.max()}' if is_integer and labels.size else '')
    )
  return Split(images, labels.reshape(n).astype(np.int64))


def _num_classes(*splits: Split) -> int | None:
  if splits[0].labels is None:
    return None
  return 1 + max(int(split.labels.max()) for split in splits)


def _by(shape: tuple[int, ...]) -> str:
  return ' x '.join(map(str, shape))
