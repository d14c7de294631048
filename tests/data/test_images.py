"""Folders of PNG, JPEG and BMP files."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from flowgan_tf.data import load, write_folder
from flowgan_tf.errors import UsageError
from tests.data.loading import joined, raises


def grey(value: int, size: tuple[int, int] = (3, 5)) -> np.ndarray:
  return np.full(size, value, np.uint8)


def save(path, pixels: np.ndarray, **options) -> None:
  path.parent.mkdir(exist_ok=True, parents=True)
  Image.fromarray(pixels).save(path, **options)


def test_folder_of_images(tmp_path, caplog):
  for i in range(20):
    save(tmp_path / f'{i}.png', grey(i))
  (tmp_path / '.thumbnail.png').write_bytes(b'not an image')
  (tmp_path / 'notes.txt').write_text('not an image')
  (tmp_path / 'LICENSE').write_text('not an image')
  dataset = load(str(tmp_path))
  assert caplog.messages == [f'{tmp_path}: not read, because they are not images: LICENSE, notes.txt.']
  assert (dataset.name, dataset.levels, dataset.num_classes) == (tmp_path.name, 256, None)
  assert dataset.image_shape == (3, 5, 1)
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [16, 2, 2]
  images, labels = joined(dataset)
  assert labels is None
  np.testing.assert_array_equal(np.sort(images[:, 0, 0, 0]), np.arange(20))
  assert load(str(tmp_path)).fingerprint == dataset.fingerprint


def test_one_folder_for_each_class(tmp_path):
  for label, name in enumerate(['ant', 'bee', 'cat']):
    for i in range(4 + label):
      save(tmp_path / name / f'{i}.png', grey(10 * label + i))
  (tmp_path / '.hidden').mkdir()
  save(tmp_path / '.hidden' / '0.png', grey(255))
  dataset = load(str(tmp_path))
  images, labels = joined(dataset)
  assert dataset.num_classes == 3
  assert labels.dtype == np.int64
  np.testing.assert_array_equal(np.bincount(labels), [4, 5, 6])
  np.testing.assert_array_equal(images[:, 0, 0, 0] // 10, labels)


def test_every_format_gives_its_pixels(tmp_path):
  """PNG and BMP are exact, a JPEG of one colour is within one level of it, and a palette stands for its colours."""
  rgb = np.array([[[250, 10, 60], [0, 0, 255]], [[9, 8, 7], [255, 255, 255]]], np.uint8)
  save(tmp_path / 'a.png', rgb)
  save(tmp_path / 'b.BMP', rgb)
  Image.fromarray(rgb).quantize(4).save(tmp_path / 'c.bmp')
  flat = np.broadcast_to(np.array([200, 100, 50], np.uint8), (2, 2, 3))
  save(tmp_path / 'd.jpg', flat, quality=100)
  save(tmp_path / 'e.jpeg', flat, quality=100)
  images, _ = joined(load(str(tmp_path)))
  exact = np.all(images == rgb, axis=(1, 2, 3))
  close = np.all(np.abs(images.astype(int) - flat) <= 1, axis=(1, 2, 3))
  assert (exact.sum(), close.sum()) == (3, 2)


@pytest.mark.parametrize('odd', [grey(0, (3, 4)), np.zeros((3, 5, 3), np.uint8)], ids=['size', 'channels'])
def test_first_image_that_differs_is_named(tmp_path, odd):
  for i in range(4):
    save(tmp_path / f'{i}.png', grey(i))
  save(tmp_path / '2.png', odd)
  save(tmp_path / '3.png', odd)
  hint = '' if odd.ndim == 3 else '; to crop and resize all of them, set `image_size`, for example to 64'
  shape = r'\[3, 5, 1\], got \[3, [45], [13]\]'
  raises(tmp_path, rf'2\.png: expected an image like 0\.png, \[height, width, channels\] {shape}{hint}$')


def test_images_of_several_sizes(tmp_path, caplog):
  caplog.set_level('INFO', 'flowgan_tf')
  rng = np.random.default_rng(0)
  sizes = [(8, 8), (4, 9), (31, 16), (3, 2), (8, 12)]
  for i, size in enumerate(sizes):
    save(tmp_path / f'{i}.png', rng.integers(0, 256, (*size, 3), np.uint8))
  dataset = load(str(tmp_path), image_size=8)
  assert dataset.image_shape == (8, 8, 3)
  assert caplog.messages == [f'{tmp_path}: images are cropped to their central square and resized to 8 x 8 (Lanczos).']
  images, _ = joined(dataset)
  expected = []
  for i, (height, width) in enumerate(sizes):
    image, side = Image.open(tmp_path / f'{i}.png'), min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    expected.append(np.asarray(square.resize((8, 8), Image.Resampling.LANCZOS)))
  found = {image.tobytes() for image in images}
  assert found == {image.tobytes() for image in expected}
  # An image of that size stays as it is, and one of that height loses its edges alone.
  assert np.asarray(Image.open(tmp_path / '0.png')).tobytes() in found
  assert np.asarray(Image.open(tmp_path / '4.png'))[:, 2:10].tobytes() in found
  assert load(str(tmp_path), image_size=4).fingerprint != dataset.fingerprint


def test_other_channels_are_not_resized_away(tmp_path):
  for i in range(3):
    save(tmp_path / f'{i}.png', grey(i))
  save(tmp_path / '3.png', np.zeros((3, 5, 3), np.uint8))
  with pytest.raises(UsageError, match=r'3\.png: expected an image like 0\.png, .* \[4, 4, 1\], got \[4, 4, 3\]$'):
    load(str(tmp_path), image_size=4)


def test_images_beyond_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
  for i in range(3):
    save(tmp_path / f'{i}.png', grey(i))
  monkeypatch.setattr(os, 'sysconf', lambda name: 6)
  raises(
    tmp_path,
    rf'^{tmp_path}: its 3 images, unless `\S+write_folder` writes them, must fit into the 0\.0 GB of memory',
  )


@pytest.mark.parametrize('classes', [False, True])
def test_a_folder_can_be_written_into_files(tmp_path, classes):
  rng = np.random.default_rng(0)
  for i in range(20):
    save(tmp_path / 'photos' / (f'{i % 3}/' * classes) / f'{i}.png', rng.integers(0, 256, (5 + i, 7, 3), np.uint8))
  write_folder(str(tmp_path / 'photos'), str(tmp_path / 'new' / 'photos'), image_size=4)
  written, read = load(str(tmp_path / 'new' / 'photos')), load(str(tmp_path / 'photos'), image_size=4)
  assert written.fingerprint == read.fingerprint  # Their names are alike, too.
  assert written.num_classes == read.num_classes == (3 if classes else None)
  with pytest.raises(UsageError, match=r'/new/photos: exists already$'):
    write_folder(str(tmp_path / 'photos'), str(tmp_path / 'new' / 'photos'), image_size=4)
  with pytest.raises(UsageError, match=r'`image_size` must be an integer from 0 to 4096\. Got: -1\.'):
    write_folder(str(tmp_path / 'photos'), str(tmp_path / 'newer'), image_size=-1)


def test_what_cannot_be_written_into_files_leaves_nothing(tmp_path):
  for i in range(4):
    save(tmp_path / 'photos' / f'{i}.png', grey(i))
  save(tmp_path / 'photos' / '4.png', grey(4, (3, 4)))
  with pytest.raises(UsageError, match=r'/4\.png: expected an image like 0\.png'):
    write_folder(str(tmp_path / 'photos'), str(tmp_path / 'new'))
  assert [path.name for path in tmp_path.iterdir()] == ['photos']


def refused(path, image: Image.Image, message: str, **options) -> None:
  """Checks that an image is refused with that message."""
  image.save(path, **options)
  raises(path.parent, rf'{path.name}: expected an 8-bit grey or RGB image, PNG, JPEG or BMP, got {message}$')
  path.unlink()


def test_other_pixel_formats_are_refused(tmp_path):
  """Whatever would lose something as 8 bits of grey or RGB."""
  palette = Image.new('P', (5, 3))
  for mode in ('RGBA', 'LA'):
    refused(tmp_path / '0.png', Image.new(mode, (5, 3)), 'transparency')
  for mode in ('L', 'RGB', '1'):
    refused(tmp_path / '0.png', Image.new(mode, (5, 3)), 'transparency', transparency=(0, 0, 0) if mode == 'RGB' else 0)
  refused(tmp_path / '0.png', palette, 'transparency', transparency=b'\0\xff')
  refused(tmp_path / '0.jpg', Image.new('CMYK', (5, 3)), 'mode CMYK')
  refused(tmp_path / '0.png', Image.fromarray(np.zeros((3, 5), np.uint16)), '16 bits per channel')
  frames = {'save_all': True, 'append_images': [Image.new('RGB', (5, 3), 'red')]}
  refused(tmp_path / '0.png', Image.new('RGB', (5, 3)), 'an animation of 2 frames', **frames)
  for name in ('GIF', 'WebP', 'TIFF'):
    refused(tmp_path / '0.png', Image.new('RGB', (5, 3)), f'format {name.upper()}', format=name, **frames)


def png(pixels: np.ndarray) -> bytes:
  """A PNG of 16 bits per channel, which Pillow cannot write, from uint16 `[height, width, 3 or 4]`."""
  height, width, channels = pixels.shape
  rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in pixels)
  header = struct.pack('>2L5B', width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
  chunks = [(b'IHDR', header), (b'IDAT', zlib.compress(rows)), (b'IEND', b'')]
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>L', len(data)) + name + data + struct.pack('>L', zlib.crc32(name + data)) for name, data in chunks
  )


@pytest.mark.parametrize('channels', [3, 4])
def test_colours_of_16_bits_are_refused(tmp_path, channels):
  """Pillow would keep the upper 8 bits, which makes these two levels the same."""
  (tmp_path / '0.png').write_bytes(png(np.arange(6 * channels, dtype=np.uint16).reshape(2, 3, channels)))
  raises(tmp_path, r'0\.png: .*, got 16 bits per channel$')


def test_photographs_are_turned_upright(tmp_path):
  """An orientation of 6 says that the rows of the file are the columns of the picture, from right to left."""
  upright = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
  seen = {
    1: upright,
    2: upright[:, ::-1],
    3: upright[::-1, ::-1],
    4: upright[::-1],
    5: upright.transpose(1, 0, 2),
    6: upright.transpose(1, 0, 2)[::-1],
    7: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: upright.transpose(1, 0, 2)[:, ::-1],
  }
  for orientation, stored in seen.items():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    save(tmp_path / f'{orientation}.png', stored, exif=exif)
  images, _ = joined(load(str(tmp_path)))
  assert len(images) == 8
  for image in images:
    np.testing.assert_array_equal(image, upright)


def test_a_photograph_with_a_preview_is_one_image(tmp_path):
  """Phones put several pictures into one JPEG, of which the first is the photograph."""
  for i in range(3):
    Image.new('L', (5, 3), 200).save(
      tmp_path / f'{i}.jpg', 'MPO', save_all=True, append_images=[Image.new('L', (2, 2))]
    )
  images, _ = joined(load(str(tmp_path)))
  np.testing.assert_array_equal(images, np.full((3, 3, 5, 1), 200))


def test_a_flipped_bit_behind_the_pixels_of_a_png(tmp_path):
  """Pillow itself checks nothing there. An orientation of 7 would become one of 3."""
  for i in range(3):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 7
    save(tmp_path / f'{i}.png', grey(0, (4, 4)), exif=exif)
    whole = (tmp_path / f'{i}.png').read_bytes()
    at = whole.index(b'eXIf') - 4
    chunk = whole[at : at + 12 + struct.unpack('>L', whole[at : at + 4])[0]]
    whole = whole.replace(chunk, b'')
    (tmp_path / f'{i}.png').write_bytes(whole[:-12] + chunk + whole[-12:])
  load(str(tmp_path))
  (tmp_path / '1.png').write_bytes(whole[:-12] + chunk.replace(b'\7', b'\3') + whole[-12:])
  raises(tmp_path, r'1\.png: not a readable image \(SyntaxError\)$')


@pytest.mark.parametrize('extension', ['png', 'jpg', 'bmp'])
@pytest.mark.parametrize('kept', [0, 0.5])
def test_damaged_image_is_named(tmp_path, extension, kept):
  noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
  for i in range(3):
    save(tmp_path / f'{i}.{extension}', noise)
  damaged = tmp_path / f'1.{extension}'
  damaged.write_bytes(damaged.read_bytes()[: int(kept * damaged.stat().st_size)])
  raises(tmp_path, rf'1\.{extension}: not a readable image \(\w+\)$')


def test_folder_without_or_with_too_few_images(tmp_path):
  raises(tmp_path, rf'{tmp_path.name}: expected \.png, .* got none$')
  save(tmp_path / '0.png', grey(0))
  raises(tmp_path, f'{tmp_path.name}: expected at least 3 images, one for each split, got 1$')
  save(tmp_path / 'ant' / '0.png', grey(0))
  raises(tmp_path, r'got both: 0\.png and ant/$')


def test_no_part_of_a_folder_is_dropped(tmp_path):
  """Without what is not read, there would be fewer images or classes, and other labels."""
  a, b = tmp_path / 'a', tmp_path / 'b'
  for i in range(4):
    save(a / f'{i}.png', grey(i))
  b.mkdir()
  raises(tmp_path, r'/b: expected .* files of one class, got none$')
  (b / 'deep').mkdir()
  raises(tmp_path, r'/b: expected .* files of one class, got the folder deep$')
  save(b / 'deep' / '0.png', grey(0))
  raises(tmp_path, r'/b: expected .* files of one class, got the folder deep$')
  os.rename(b / 'deep', b / '0.png')
  raises(tmp_path, r'/b: expected .* got the folder 0\.png$')
  os.rename(b, tmp_path / '.b')
  assert load(str(tmp_path)).num_classes == 1

  for name in ('4.webp', '4.tif', '4.png.part', '4'):
    save(a / name, grey(4), format='TIFF')
    for folder in (tmp_path, a):
      raises(folder, rf'/a/{name}: expected only regular \.png, \.jpg, \.jpeg, \.bmp files or sub-folders of them$')
    os.remove(a / name)
  for make in (lambda path: os.symlink('nowhere', path), lambda path: os.symlink('5.png', path), os.mkfifo):
    make(a / '5.png')
    for folder in (tmp_path, a):
      raises(folder, r'/a/5\.png: expected only regular ')
    os.remove(a / '5.png')
  os.symlink('3.png', a / '5.png')  # A link to an image is one.
  assert len(joined(load(str(a)))[0]) == 5
