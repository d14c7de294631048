"""The user's own images, from a folder or from an .npz file."""

from __future__ import annotations

import itertools
import logging
import math
import os
import pathlib
import struct
import zipfile
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image

from flowgan_tf.data.array_folders import PARTS, write_array_folder
from flowgan_tf.data.dataset import Dataset, Split, check_labels, count_classes, hold_out, three_way
from flowgan_tf.data.resizing import RESIZE, crop_and_resize, log_resizing
from flowgan_tf.errors import LARGEST_IMAGE, UsageError, check_integer, check_memory

__all__ = ['load_folder', 'load_npz', 'write_folder']

_LOG = logging.getLogger(__name__)
_EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp')
# What often lies beside images and is none, such as LICENSE.txt, labels.csv or the Thumbs.db of Windows.
_NOTES = ('.csv', '.db', '.ini', '.json', '.md', '.txt')
_FORMATS = ('PNG', 'JPEG', 'MPO', 'BMP')  # MPO is a JPEG of a phone, with a preview behind the picture.

# What turns the pixels of a camera upright, by the orientation in its EXIF data.
_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}

# The arrays that an .npz file may hold: our own, or those of Keras' data sets.
_OURS = ('images', 'labels')
_KERAS = ('x_train', 'y_train', 'x_validation', 'y_validation', 'x_test', 'y_test')


def load_folder(path: str, image_size: int = 0) -> Dataset:
  """Loads a folder of images, or a folder with one sub-folder of images for each class.

  *.png, *.jpg, *.jpeg and *.bmp files are read. Names that start with a dot are passed over; so are texts, such as
  *.txt and *.csv, with a warning. Anything else is refused, because it may be a part of the data. Labels number the
  sub-folders in the order of their names. Images must be 8-bit grey or RGB without transparency; those with a palette
  are converted to RGB. They are turned upright as their EXIF data say. Colour profiles are ignored.

  Args:
    path: The folder.
    image_size: Height and width to which images are cropped and resized, as `crop_and_resize` does it; 0 leaves them as
      they are, and they must be of one size.

  Returns:
    A `Dataset` with 256 levels, split at random into 80 % train, 10 % validation and 10 % test.

  Raises:
    UsageError: If there are too few images, the images differ in shape or do not fit into memory, or an image is
      damaged, animated, transparent, of more than 8 bits, or neither grey nor RGB; if a sub-folder is empty or holds
      folders; or if there is a file that is no image.
  """
  folder = _ImageFolder(path, image_size)
  n = len(folder.paths)
  check_memory(f'{path}: its {n:,} images, unless they are written by `flowgan_tf.data.write_folder`,', folder.size)
  images = np.empty((n, *folder.image_shape), np.uint8)
  for i, image in enumerate(folder.images()):
    images[i] = image
  everything = Split(images, folder.labels)
  return Dataset(folder.path.resolve().name, 256, *three_way(everything, path), count_classes(everything))


def write_folder(path: str, to: str, image_size: int = 0) -> None:
  """Writes the images of a folder into a folder of .npy files, for data larger than memory.

  `load(to)` then gives the data set that `load(path, image_size=image_size)` would give, apart from its name. One image
  is in memory at a time.

  Args:
    path: The folder, as for `load_folder`.
    to: The folder to write, which must not exist.
    image_size: As for `load_folder`.

  Raises:
    UsageError: As for `load_folder`; or if there is such a folder already, it lies in the other one or cannot be
      written, or the disk has no room for it.
    ValueError: If `image_size` is not an integer from 0 to 4096.
  """
  if os.path.lexists(to):
    raise UsageError(f'{to}: exists already')
  if not os.path.isdir(path):
    raise UsageError(f'{path}: no such folder')
  if pathlib.Path(path).resolve() in pathlib.Path(to).resolve().parents:
    raise UsageError(f'{to}: lies in {path}, which would then hold other files than images')
  check_integer('image_size', image_size, 0, LARGEST_IMAGE)
  folder = _ImageFolder(path, image_size)
  numbered = three_way(Split(np.arange(len(folder.paths)), None), path)
  labels = itertools.repeat(None) if folder.labels is None else folder.labels[:, np.newaxis]
  write_array_folder(
    to,
    ((image[np.newaxis], label) for image, label in zip(folder.images(), labels, strict=False)),
    folder.image_shape,
    {part: split.images for part, split in zip(PARTS, numbered, strict=True)},
  )


class _ImageFolder:
  """The images of a folder, which are listed but not read.

  Attributes:
    path: The folder.
    paths: The files.
    labels: Classes of the images, int64 `[n]`, or None.
    image_shape: `(height, width, channels)` of the first image, which all must have.
    size: Bytes of all images.
  """

  def __init__(self, path: str, image_size: int):
    self.path = folder = pathlib.Path(path)
    self._image_size = image_size
    loose, subfolders = _contents(folder)
    if loose and subfolders:
      raise UsageError(
        f'{folder}: expected images or sub-folders of images, got both: {loose[0].name} and {subfolders[0].name}/'
      )
    if not loose and not subfolders:
      raise UsageError(f'{folder}: holds no images; expected {", ".join(_EXTENSIONS)} files or sub-folders of them')
    classes = [_class_images(subfolder) for subfolder in subfolders]
    self.paths = loose or [path for members in classes for path in members]
    self.labels = np.repeat(np.arange(len(classes)), [len(members) for members in classes]) if classes else None
    if image_size:
      log_resizing(str(folder), image_size)
    self.image_shape = _read_image(self.paths[0], image_size).shape
    self.size = len(self.paths) * math.prod(self.image_shape)

  def images(self) -> Iterator[np.ndarray]:
    """Reads one image after the other."""
    for path in self.paths:
      image = _read_image(path, self._image_size)
      if image.shape != self.image_shape:
        can_be_resized = image.shape[2] == self.image_shape[2]
        raise UsageError(
          f'{path}: expected an image like {self.paths[0].name}, height x width x channels {_by(self.image_shape)}, '
          f'got {_by(image.shape)}' + (RESIZE if can_be_resized else '')
        )
      yield image


def load_npz(path: str, image_size: int = 0) -> Dataset:
  """Loads an .npz file of images.

  It holds either an array `images` and optionally `labels`, or the arrays of Keras' data sets: `x_train`, `x_test` and
  optionally `x_validation`, with labels `y_train`, `y_test` and `y_validation` for all of them or for none. No other
  array may be there, because it could be one of these under a wrong name.

  Args:
    path: The file. Images are uint8 `[n, height, width]` or `[n, height, width, 1 or 3]`. Three dimensions of which the
      last is 1 or 3 are refused, because they could be one image. Labels are integers from 0, `[n]` or `[n, 1]`.
    image_size: As for `load_folder`.

  Returns:
    A `Dataset` with 256 levels. `images` are split at random into 80 % train, 10 % validation and 10 % test. Without
    `x_validation`, a random 10 % of `x_train` is held out.

  Raises:
    UsageError: If the file is missing or damaged, or holds something else.
  """
  arrays = _read_arrays(path)
  if image_size:
    log_resizing(path, image_size)
  name = pathlib.Path(path).stem
  if 'images' in arrays:
    everything = _split(path, arrays, 'images', 'labels', image_size)
    return Dataset(name, 256, *three_way(everything, path), count_classes(everything))
  parts = [part for part in ('train', 'validation', 'test') if f'x_{part}' in arrays]
  splits = {part: _split(path, arrays, f'x_{part}', f'y_{part}', image_size) for part in parts}
  if len({split.images.shape[1:] for split in splits.values()}) > 1:
    got = ', '.join(f'x_{part} {_by(split.images.shape[1:])}' for part, split in splits.items())
    raise UsageError(f'{path}: expected images of one shape, got {got}')
  if len({split.labels is None for split in splits.values()}) > 1:
    got = ', '.join(f'y_{part}' for part, split in splits.items() if split.labels is not None)
    raise UsageError(f'{path}: expected labels for {", ".join(parts)} or for none; got only {got}')
  if 'validation' not in splits:
    splits['train'], splits['validation'] = hold_out(splits['train'], 1 / 10, shuffle=True, source=path)
  return Dataset(name, 256, **splits, num_classes=count_classes(*splits.values()))


def _contents(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
  """Returns the images and the folders in a folder, by name. What is neither is announced or refused."""
  images, folders, notes = [], [], []
  for child in sorted(child for child in folder.iterdir() if not child.name.startswith('.')):
    suffix = child.suffix.lower()
    if child.is_dir():
      folders.append(child)
    elif not child.is_file():
      raise UsageError(f'{child}: expected a regular file; it is a link to nothing, a pipe or a device')
    elif suffix in _EXTENSIONS:
      images.append(child)
    elif suffix in _NOTES or child.name in ('LICENSE', 'README'):
      notes.append(child.name)
    else:
      raise UsageError(f'{child}: expected only {", ".join(_EXTENSIONS)} files or sub-folders of them')
  if notes:
    _LOG.warning('%s: not read, as not an image: %s.', folder, ', '.join(notes))
  return images, folders


def _class_images(folder: pathlib.Path) -> list[pathlib.Path]:
  images, folders = _contents(folder)
  if folders:
    raise UsageError(f'{folders[0]}: expected no folder inside the sub-folder of a class')
  if not images:
    raise UsageError(f'{folder}: holds no images; expected {", ".join(_EXTENSIONS)} files of one class')
  return images


def _read_image(path: pathlib.Path, image_size: int) -> np.ndarray:
  """Returns an image as uint8 `[height, width, 1 or 3]`, resized if `image_size` is not 0."""
  # Pillow reads it, because TensorFlow's decoder takes the palette indices of a BMP for grey levels.
  try:
    with Image.open(path) as image:
      image.verify()  # Without it, Pillow ignores the checksums of a PNG from its pixels on.
    with Image.open(path) as image:
      found = _difference(image)
      if found is None:
        image.load()
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
        image = image.transpose(turn) if turn is not None else image
        pixels = np.array(image.convert({'1': 'L', 'P': 'RGB'}.get(image.mode, image.mode)))
        pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
        return crop_and_resize(pixels, image_size) if image_size else pixels
  except Exception as error:  # A damaged file can raise anything.
    raise UsageError(f'{path}: not a readable image ({type(error).__name__})') from error
  raise UsageError(f'{path}: expected an 8-bit grey or RGB image, PNG, JPEG or BMP, got {found}')


def _difference(image: Image.Image) -> str | None:
  """Says what an image has that its 8-bit grey levels or colours would not show; None if there is nothing."""
  if image.format not in _FORMATS:
    return f'format {image.format}'
  if image.format != 'MPO' and getattr(image, 'n_frames', 1) > 1:
    return f'an animation of {image.n_frames} frames'
  # Pillow keeps the upper 8 of 16 bits of colour without a word, but decodes them in this way.
  if '16' in image.mode or any('16' in str(tile[3]) for tile in image.tile if image.format == 'PNG'):
    return '16 bits per channel'
  if image.mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa') or 'transparency' in image.info:
    return 'transparency'
  return None if image.mode in ('1', 'L', 'P', 'RGB') else f'mode {image.mode}'


def _read_arrays(path: str) -> dict[str, np.ndarray]:
  """Reads the arrays of an .npz file, after checking that they are what their names and sizes say."""
  if not os.path.isfile(path):
    raise UsageError(f'{path}: no such file')
  try:
    with open(path, 'rb') as file:
      if file.read(6) == np.lib.format.MAGIC_PREFIX:
        raise UsageError(f'{path}: expected an .npz file, as np.savez writes it, got a single array (.npy)')
      with zipfile.ZipFile(file) as archive:
        _check_members(path, archive)
        return {member.filename.removesuffix('.npy'): _read_array(archive, member) for member in archive.infolist()}
  except UsageError:
    raise
  except Exception as error:  # Reading a zip file with flipped bits can raise anything.
    reason = ' '.join(f'{type(error).__name__}: {error}'.split())
    raise UsageError(f'{path}: not a readable .npz file of plain arrays ({reason})') from error


def _check_members(path: str, archive: zipfile.ZipFile) -> None:
  """Checks that an archive holds exactly the arrays that are expected, and that they fit in memory."""
  names = [member.filename.removesuffix('.npy') for member in archive.infolist()]
  if 'images' not in names and not {'x_train', 'x_test'} <= set(names):
    got = ', '.join(map(repr, sorted(names))) or 'nothing'
    raise UsageError(f'{path}: expected an array "images", or "x_train" and "x_test"; got {got}')
  expected = _OURS if 'images' in names else _KERAS
  unknown = [m.filename for m in archive.infolist() if m.filename not in [f'{name}.npy' for name in expected]]
  if unknown:
    raise UsageError(f'{path}: expected no other arrays than {", ".join(expected)}; got {unknown[0]!r} too')
  # A flipped bit in the length of a member's comment hides the members behind it.
  archive.fp.seek(-22 - len(archive.comment), os.SEEK_END)
  signature, count = struct.unpack('<4s6xH10x', archive.fp.read(22))
  if signature != b'PK\5\6' or count not in (len(names), 0xFFFF) or len(set(names)) < len(names):
    raise zipfile.BadZipFile('the table of its contents is damaged')
  check_memory(f'{path}: its arrays', sum(member.file_size for member in archive.infolist()))


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
  with archive.open(member) as file:
    # NumPy would ask for the memory of whatever shape the header claims.
    read_header = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, _, dtype = read_header(file)
    if dtype.hasobject or file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
      raise ValueError(f'{member.filename} has {member.file_size} bytes and claims to be {dtype} {list(shape)}')
  with archive.open(member) as file:
    return np.lib.format.read_array(file, allow_pickle=False)


def _split(path: str, arrays: dict[str, np.ndarray], images_key: str, labels_key: str, image_size: int) -> Split:
  """Checks the arrays under two keys of an .npz file and returns them as a `Split`, with images resized if need be."""
  images, labels = arrays[images_key], arrays.get(labels_key)
  is_ambiguous = images.ndim == 3 and images.shape[2] in (1, 3)
  if images.ndim == 3 and not is_ambiguous:
    images = images[..., np.newaxis]
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or images.size == 0:
    hint = ', which could be one image; if it is not, add a last axis of 1' if is_ambiguous else ''
    raise UsageError(
      f'{path}: expected "{images_key}" as uint8 [n, height, width] or [n, height, width, 1 or 3], '
      f'got {images.dtype} {list(arrays[images_key].shape)}{hint}'
    )
  if image_size:
    images = np.stack([crop_and_resize(pixels, image_size) for pixels in images])
  if labels is None:
    return Split(images, None)
  return Split(images, check_labels(path, f'"{labels_key}"', labels, len(images)))


def _by(shape: tuple[int, ...]) -> str:
  return ' x '.join(map(str, shape))
