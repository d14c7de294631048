"""The user's own images: folders of PNG, JPEG and BMP files."""

import contextlib
import itertools
import logging
import math
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from flowgan_tf.base.errors import LARGEST_IMAGE, UsageError, check_integer, check_memory
from flowgan_tf.base.files import IMAGE_SUFFIXES, raise_unless_damaged
from flowgan_tf.data.arrays import write_array_folder
from flowgan_tf.data.dataset import RESIZE, Dataset, crop_and_resize, make_dataset, three_way
from flowgan_tf.data.split import Split
from flowgan_tf.flows.classes import listed_names

_LOG = logging.getLogger(__name__)
# Files that often lie beside images, such as LICENSE.txt, labels.csv or the Thumbs.db of Windows.
_NOTES = ('.csv', '.db', '.ini', '.json', '.md', '.txt')
_DECODED = 10  # bytes of memory for each pixel while an image is read
_AT_ONCE = 2**20  # pixels that are copied into an array at once
_FORMATS = ('PNG', 'JPEG', 'MPO', 'BMP')  # MPO is a phone's JPEG, with a preview after the picture.


def load_folder(path: str, image_size: int = 0) -> Dataset:
  """Loads a folder of images, or a folder with one sub-folder of images for each class, in the order of their names.

  It rejects whatever would lose information, and any file that may be part of the data but cannot be read.
  """
  paths, labels = _find_images(path)
  with _readable(paths[0]) as image:
    area = math.prod(image.size)
    size = len(paths) * (image_size**2 or area) * _channels(image) + _DECODED * area
  check_memory(f'{path}: its {len(paths):,} images, unless `flowgan_tf.data.write_folder` writes them,', size)
  image_shape = _read_image(paths[0], image_size).shape
  if (names := _class_names(paths, labels)) is not None:
    _LOG.info('%s: the labels from 0 to %d are %s.', path, len(names) - 1, listed_names(names))
  # Each image goes to its split at once, so that memory holds it once. The positions in a split are ascending.
  splits = three_way(Split(np.arange(len(paths)), labels), path)
  images_of = [np.empty((len(split), *image_shape), np.uint8) for split in splits]
  split_of = np.empty(len(paths), int)
  for number, split in enumerate(splits):
    split_of[split.images] = number
  places = [iter(images) for images in images_of]
  for number, pixels in zip(split_of, _read_images(paths, image_size), strict=True):
    next(places[number])[...] = pixels
  train, validation, test = (Split(images, split.labels) for images, split in zip(images_of, splits, strict=True))
  return make_dataset(path, pathlib.Path(path).resolve().name, train, validation, test, names)


def write_folder(path: str, to: str, image_size: int = 0) -> None:
  """Writes the images of a folder into a folder of .npy files, for data larger than memory.

  `load(to)` then gives the data set that `load(path, image_size=image_size)` would give, apart from its name. One image
  is in memory at a time.

  Args:
    path: A folder of images, as for `load`.
    to: The folder to write. It must not exist yet, and must not lie in the other folder.
    image_size: As for `load`.

  Raises:
    UsageError: As for `load`; or if `to` exists, lies in the other folder or cannot be written, or the disk has no room
      for it.
  """
  check_integer('image_size', image_size, 0, LARGEST_IMAGE)
  path, to = os.path.expanduser(path), os.path.expanduser(to)
  if not os.path.isdir(path):
    raise UsageError(f'{path}: expected a folder of images')
  if pathlib.Path(os.path.realpath(to)).is_relative_to(os.path.realpath(path)):
    raise UsageError(f'{to}: must not lie in {path}')
  if os.path.lexists(to):
    raise UsageError(f'{to}: exists already')
  paths, labels = _find_images(path)
  write_array_folder(
    to,
    zip(_read_images(paths, image_size), itertools.repeat(-1) if labels is None else labels, strict=False),
    _read_image(paths[0], image_size).shape,
    three_way(Split(np.arange(len(paths)), None), path),
    _class_names(paths, labels),
  )


def read_images(
  path: str, image_shape: tuple[int, ...], levels: int, image_size: int = 0
) -> tuple[list[str], np.ndarray]:
  """Reads a file, or all files of a folder, as images of a given shape.

  Grey images become colours, and colours that are all grey become grey. With fewer than 256 levels, it rounds to the
  nearest.

  Returns:
    The names of the files, and their grey levels, uint8 `[n, *image_shape]`.

  Raises:
    UsageError: If there is no such file, a file cannot be read without loss, or an image is of another shape.
  """
  where = pathlib.Path(os.path.expanduser(path))
  if not where.exists():
    raise UsageError(f'{path}: no such file or folder')
  paths, folders = _contents(where) if where.is_dir() else ([where], [])
  if not paths:
    got = f'the folder {folders[0].name}' if folders else 'none'
    raise UsageError(f'{path}: expected {", ".join(IMAGE_SUFFIXES)} files, got {got}')
  images = [_with_shape(_read_image(file, image_size), image_shape, file) for file in paths]
  return [file.name for file in paths], np.rint(np.stack(images) * ((levels - 1) / 255)).astype(np.uint8)


def _with_shape(pixels, image_shape, path):
  height, width, channels = image_shape
  if pixels.shape[:2] != (height, width):
    raise UsageError(f'{path}: expected {width} x {height} pixels, got {pixels.shape[1]} x {pixels.shape[0]}')
  if pixels.shape[2] > channels and (pixels != pixels[..., :1]).any():
    raise UsageError(f'{path}: expected grey levels, got colours')
  return np.broadcast_to(pixels[..., :channels], image_shape)


def _find_images(path: str) -> tuple[list[pathlib.Path], np.ndarray | None]:
  """Returns the image files of a folder, and their labels if they lie in sub-folders."""
  folder = pathlib.Path(path)
  loose, subfolders = _contents(folder)
  if bool(loose) == bool(subfolders):
    got = f'both: {loose[0].name} and {subfolders[0].name}/' if loose else 'none'
    raise UsageError(f'{folder}: expected {", ".join(IMAGE_SUFFIXES)} files, or sub-folders of them, got {got}')
  if loose:
    return loose, None
  paths, labels = [], []
  for label, subfolder in enumerate(subfolders):
    images, folders = _contents(subfolder)
    if folders or not images:
      got = f'the folder {folders[0].name}' if folders else 'none'
      raise UsageError(f'{subfolder}: expected {", ".join(IMAGE_SUFFIXES)} files of one class, got {got}')
    paths += images
    labels += [label] * len(images)
  return paths, np.array(labels)


def _class_names(paths: list[pathlib.Path], labels: np.ndarray | None) -> list[str] | None:
  """Returns the names of the sub-folders, with bytes that are not UTF-8 as \\xff; None without labels."""
  if labels is None:
    return None
  return [os.fsencode(name).decode(errors='backslashreplace') for name in dict.fromkeys(p.parent.name for p in paths)]


def _contents(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
  """Returns the images and the folders in a folder, sorted by name, and warns of `_NOTES`."""
  images, folders, notes = [], [], []
  for child in sorted(child for child in folder.iterdir() if not child.name.startswith('.')):
    suffix = child.suffix.lower()
    if child.is_dir():
      folders.append(child)
    elif suffix in IMAGE_SUFFIXES and child.is_file():
      images.append(child)
    elif suffix in _NOTES or child.name in ('LICENSE', 'README'):
      notes.append(child.name)
    else:  # It may also be a link to nothing, or a pipe.
      raise UsageError(f'{child}: expected only regular {", ".join(IMAGE_SUFFIXES)} files or sub-folders of them')
  if notes:
    _LOG.warning('%s: not read, because they are not images: %s.', folder, ', '.join(notes))
  return images, folders


def _read_images(paths: list[pathlib.Path], image_size: int) -> Iterator[np.ndarray]:
  """Reads images one by one; they must have one shape."""
  image_shape = None
  for path in paths:
    image = _read_image(path, image_size)
    image_shape = image_shape or image.shape
    if image.shape != image_shape:
      same_channels = image.shape[2] == image_shape[2]
      raise UsageError(
        f'{path}: expected an image like {paths[0].name}, [height, width, channels] {list(image_shape)}, '
        f'got {list(image.shape)}' + RESIZE * same_channels,
        'image_size' if same_channels else None,
      )
    yield image


def _read_image(path: pathlib.Path, image_size: int) -> np.ndarray:
  """Returns an image as uint8 `[height, width, 1 or 3]`, resized if `image_size` is not 0."""
  # TensorFlow's decoder would take the palette indices of a BMP for grey levels.
  with _readable(path) as image:
    image.verify()  # Otherwise Pillow ignores a PNG's checksums from the pixels on.
  with _readable(path) as image:
    check_memory(f'{path}: its pixels', _DECODED * math.prod(image.size))
    if (found := _difference(image)) is not None:
      raise UsageError(f'{path}: expected an 8-bit grey or RGB image, PNG, JPEG or BMP, got {found}')
    ImageOps.exif_transpose(image, in_place=True)
    width, height = image.size
    channels = _channels(image)
    pixels = np.empty((height, width, channels), np.uint8)
    # Pillow would copy the whole image three times.
    rows = max(1, _AT_ONCE // width)
    for top in range(0, height, rows):
      strip = image.crop((0, top, width, min(top + rows, height))).convert('L' if channels == 1 else 'RGB')
      pixels[top : top + rows] = np.asarray(strip).reshape(-1, width, channels)
  return crop_and_resize(pixels, image_size) if image_size else pixels


@contextlib.contextmanager
def open_image(file: Any, **options: Any) -> Iterator[Any]:
  """Opens an image as Pillow does, which rejects more than 178 megapixels and otherwise warns from 89 on."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', Image.DecompressionBombWarning)
    # At the end of Pillow's own block the pixels would stay in memory.
    with contextlib.closing(Image.open(file, **options)) as image:
      yield image


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[Any]:
  """Opens an image. A file that turns out to be damaged in the block raises a `UsageError`."""
  try:
    with open_image(path) as image:
      yield image
  except Exception as error:  # A damaged file can raise anything.
    raise_unless_damaged(path, error)
    raise UsageError(f'{path}: not a readable image ({type(error).__name__})') from error


def _channels(image: Any) -> int:
  return 1 if image.mode in ('1', 'L', 'LA') else 3


def _difference(image: Any) -> str | None:
  """Says what an image would lose as 8-bit grey levels or colours; None if nothing."""
  if image.format not in _FORMATS:
    return f'format {image.format}'
  if image.format != 'MPO' and getattr(image, 'n_frames', 1) > 1:
    return f'an animation of {image.n_frames} frames'
  # Pillow silently keeps the upper 8 of 16 bits of colour. Only its decoder's arguments show that.
  if '16' in image.mode or any('16' in str(tile[3]) for tile in image.tile if image.format == 'PNG'):
    return '16 bits per channel'
  if image.mode in ('LA', 'RGBA'):  # Matplotlib and others write an alpha channel that is opaque everywhere.
    return None if image.getextrema()[-1] == (255, 255) else 'transparency'
  if image.mode in ('La', 'PA', 'RGBa') or 'transparency' in image.info:
    return 'transparency'
  return None if image.mode in ('1', 'L', 'P', 'RGB') else f'mode {image.mode}'
