"""Folders of PNG, JPEG and BMP files."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import load, write_folder
from flowgan_tf.data.images import read_images
from tests.data.loading import joined, raises


def grey(value: int, size: tuple[int, int] = (3, 5)) -> np.ndarray:
  return np.full(size, value, np.uint8)


def save(path, pixels: np.ndarray, **options) -> None:
  path.parent.mkdir(exist_ok=True, parents=True)
  Image.fromarray(pixels).save(path, **options)


def test_folder_of_images(tmp_path, caplog):
  for i in range(20):
    save(tmp_path / f'{i}.png', grey(i))
  for note in ('.thumbnail.png', 'notes.txt', 'LICENSE'):
    (tmp_path / note).write_text('not an image')
  dataset = load(str(tmp_path))
  assert caplog.messages == [f'{tmp_path}: not read, because they are not images: LICENSE, notes.txt.']
  assert (dataset.name, dataset.levels, dataset.num_classes) == (tmp_path.name, 256, None)
  np.testing.assert_array_equal(np.sort(joined(dataset)[0][:, 0, 0, 0]), np.arange(20))


def test_one_folder_for_each_class(tmp_path, caplog):
  for label, name in enumerate(['ant', 'bee', 'cat']):
    for i in range(4 + label):
      save(tmp_path / name / f'{i}.png', grey(10 * label + i))
  save(tmp_path / '.hidden' / '0.png', grey(255))
  caplog.set_level('INFO', 'flowgan_tf')
  dataset = load(str(tmp_path))
  assert caplog.messages == [f'{tmp_path}: the labels from 0 to 2 are ant, bee, cat.']
  images, labels = joined(dataset)
  assert dataset.num_classes == 3 and labels.dtype == np.int64 and dataset.class_names == ('ant', 'bee', 'cat')
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
  # Phones put several pictures into one JPEG, of which the first is the photograph.
  phone = {'format': 'MPO', 'save_all': True, 'append_images': [Image.new('RGB', (2, 2))]}
  save(tmp_path / 'e.jpeg', flat, quality=100, **phone)
  images, _ = joined(load(str(tmp_path)))
  exact = np.all(images == rgb, axis=(1, 2, 3))
  close = np.all(np.abs(images.astype(int) - flat) <= 1, axis=(1, 2, 3))
  assert (exact.sum(), close.sum()) == (3, 2)


def test_first_image_that_differs_is_named(tmp_path):
  for i in range(4):
    save(tmp_path / f'{i}.png', grey(i, (3, 4) if i > 1 else (3, 5)))
  expected = r'2\.png: expected an image like 0\.png, \[height, width, channels\]'
  hint = '; to crop and resize all of them, set `image_size`, for example to 64$'
  raises(tmp_path, rf'{expected} \[3, 5, 1\], got \[3, 4, 1\]{hint}')
  save(tmp_path / '2.png', np.zeros((3, 5, 3), np.uint8))
  raises(tmp_path, rf'{expected} \[3, 5, 1\], got \[3, 5, 3\]$')


def test_images_of_several_sizes(tmp_path):
  rng = np.random.default_rng(0)
  sizes = [(8, 8), (4, 9), (31, 16), (3, 2), (8, 12)]
  for i, size in enumerate(sizes):
    save(tmp_path / f'{i}.png', rng.integers(0, 256, (*size, 3), np.uint8))
  dataset = load(str(tmp_path), image_size=8)
  expected = set()
  for i, (height, width) in enumerate(sizes):
    image, side = Image.open(tmp_path / f'{i}.png'), min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    expected.add(square.resize((8, 8), Image.Resampling.LANCZOS).tobytes())
  assert {image.tobytes() for image in joined(dataset)[0]} == expected


@pytest.mark.parametrize('classes', [False, True])
def test_a_folder_can_be_written_into_files(tmp_path, monkeypatch, classes):
  rng = np.random.default_rng(0)
  for i in range(20):
    save(
      tmp_path / 'photos' / (f'class {i % 3}/' * classes) / f'{i}.png', rng.integers(0, 256, (5 + i, 7, 3), np.uint8)
    )
  photos, new = str(tmp_path / 'photos'), str(tmp_path / 'new' / 'photos')
  write_folder(photos, new, image_size=4)
  written, read = load(new), load(photos, image_size=4)
  too_many = r': its 20 images, unless `\S+write_folder` writes them, must fit into the 0\.0 '
  with monkeypatch.context() as context, pytest.raises(UsageError, match=too_many):
    context.setattr(os, 'sysconf', lambda name: 1)
    load(photos, image_size=4)
  assert written.fingerprint == read.fingerprint  # Their names are alike, too.
  assert written.num_classes == read.num_classes == (3 if classes else None)
  assert written.class_names == read.class_names == (('class 0', 'class 1', 'class 2') if classes else None)
  with pytest.raises(UsageError, match=r'/new/photos: exists already$'):
    write_folder(photos, new, image_size=4)
  # What cannot be written leaves nothing.
  with pytest.raises(UsageError, match=r'\.png: expected an image like 0\.png'):
    write_folder(photos, f'{new}er')
  assert os.listdir(tmp_path / 'new') == ['photos']


def rejected(path, image: Image.Image, message: str, **options) -> None:
  image.save(path, **options)
  raises(path.parent, rf'{path.name}: expected an 8-bit grey or RGB image, PNG, JPEG or BMP, got {message}$')
  path.unlink()


@pytest.mark.parametrize('mode, plain', [('LA', 'L'), ('RGBA', 'RGB')])
def test_an_opaque_alpha_channel_loses_nothing(tmp_path, mode, plain):
  pixels = np.random.default_rng(0).integers(0, 256, (3, 5, len(plain))).astype(np.uint8)
  image = Image.fromarray(pixels.squeeze(), plain).convert(mode)
  image.save(tmp_path / '0.png')
  _, found = read_images(str(tmp_path), (3, 5, len(plain)), 256)
  np.testing.assert_array_equal(found, [pixels])
  pixel = image.getpixel((4, 2))
  image.putpixel((4, 2), (*pixel[:-1], 254))
  rejected(tmp_path / '0.png', image, 'transparency')


def test_pixel_formats_that_would_lose_something_are_rejected(tmp_path):
  rejected(tmp_path / '0.png', Image.new('RGBA', (5, 3)), 'transparency')
  rejected(tmp_path / '0.png', Image.new('P', (5, 3)), 'transparency', transparency=b'\0\xff')
  rejected(tmp_path / '0.jpg', Image.new('CMYK', (5, 3)), 'mode CMYK')
  rejected(tmp_path / '0.png', Image.fromarray(np.zeros((3, 5), np.uint16)), '16 bits per channel')
  frames = {'save_all': True, 'append_images': [Image.new('RGB', (5, 3), 'red')]}
  rejected(tmp_path / '0.png', Image.new('RGB', (5, 3)), 'an animation of 2 frames', **frames)
  rejected(tmp_path / '0.png', Image.new('RGB', (5, 3)), 'format TIFF', format='TIFF')
  # Of 16 bits per colour, which Pillow cannot write, it would keep the upper 8.
  rows = b''.join(b'\0' + row.tobytes() for row in np.arange(18, dtype='>u2').reshape(2, 9))
  chunks = {b'IHDR': struct.pack('>2L5B', 3, 2, 16, 2, 0, 0, 0), b'IDAT': zlib.compress(rows), b'IEND': b''}
  content = [
    struct.pack('>L', len(data)) + name + data + struct.pack('>L', zlib.crc32(name + data))
    for name, data in chunks.items()
  ]
  (tmp_path / '0.png').write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(content))
  raises(tmp_path, r'0\.png: .*, got 16 bits per channel$')


def test_photographs_are_turned_upright(tmp_path):
  """An orientation of 6 says that the rows of the file are the columns of the picture, from right to left."""
  upright = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
  turned = upright.transpose(1, 0, 2)
  seen = [upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1]]
  seen += [turned, turned[::-1], turned[::-1, ::-1], turned[:, ::-1]]
  for orientation, stored in enumerate(seen, 1):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    save(tmp_path / f'{orientation}.png', stored, exif=exif)
  images, _ = joined(load(str(tmp_path)))
  np.testing.assert_array_equal(images, [upright] * 8)


def test_a_flipped_bit_behind_the_pixels_of_a_png(tmp_path):
  """Pillow itself checks nothing there. An orientation of 7 would become one of 3."""
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = 7
  for i in range(3):
    save(tmp_path / f'{i}.png', grey(0, (4, 4)), exif=exif)
  load(str(tmp_path))
  whole = (tmp_path / '1.png').read_bytes()
  at = whole.index(b'eXIf') - 4
  chunk = whole[at : at + 12 + struct.unpack('>L', whole[at : at + 4])[0]]
  whole = whole.replace(chunk, b'')
  (tmp_path / '1.png').write_bytes(whole[:-12] + chunk.replace(b'\7', b'\3') + whole[-12:])
  raises(tmp_path, r'1\.png: not a readable image \(SyntaxError\)$')


@pytest.mark.parametrize('extension', ['png', 'jpg', 'bmp'])
def test_damaged_image_is_named(tmp_path, extension):
  noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
  for i in range(3):
    save(tmp_path / f'{i}.{extension}', noise)
  damaged = tmp_path / f'1.{extension}'
  damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
  raises(tmp_path, rf'1\.{extension}: not a readable image \(\w+\)$')


def test_no_part_of_a_folder_is_dropped(tmp_path):
  """Without what is not read, there would be fewer images or classes, and other labels."""
  raises(tmp_path, rf'{tmp_path.name}: expected \.png, .* got none$')
  a, b = tmp_path / 'a', tmp_path / 'b'
  for i in range(4):
    save(a / f'{i}.png', grey(i))
  b.mkdir()
  (b / 'deep').mkdir()
  raises(tmp_path, r'/b: expected .* files of one class, got the folder deep$')
  save(tmp_path / '0.png', grey(0))
  raises(tmp_path, r'got both: 0\.png and a/$')
  os.remove(tmp_path / '0.png')
  os.rename(b, tmp_path / '.b')
  assert load(str(tmp_path)).num_classes == 1
  save(a / '4.webp', grey(4))
  os.symlink('nowhere', a / '5.png')
  os.mkfifo(a / '6.png')
  for name in ('4.webp', '5.png', '6.png'):
    for folder in (tmp_path, a):
      raises(folder, rf'/a/{name}: expected only regular \.png, \.jpg, \.jpeg, \.bmp files or sub-folders of them$')
    os.remove(a / name)
  os.symlink('3.png', a / '5.png')  # A link to an image is one.
  assert len(joined(load(str(a)))[0]) == 5


def test_folders_that_cannot_be_written_or_read(tmp_path, monkeypatch):
  (tmp_path / 'photos').mkdir()
  Image.new('L', (2, 2)).save(tmp_path / 'photos' / 'a.png')
  for path, to, said in (
    ('nope', 'new', 'nope: expected a folder of images'),
    ('photos', 'photos/new', 'photos/new: must not lie in '),
  ):
    with pytest.raises(UsageError, match=said):
      write_folder(str(tmp_path / path), str(tmp_path / to))
  with pytest.raises(UsageError, match=r'a\.png: expected a folder, or a file whose name ends with \.npz'):
    load(str(tmp_path / 'photos' / 'a.png'))


def test_own_images_get_the_shape_and_the_levels_of_others(tmp_path):
  ramp = np.arange(0, 240, 16, dtype=np.uint8).reshape(3, 5)
  save(tmp_path / 'a.png', ramp)
  save(tmp_path / 'b.png', np.repeat(ramp[..., np.newaxis], 3, axis=2))  # grey, but saved as colours
  names, images = read_images(str(tmp_path), (3, 5, 1), 256)
  assert names == ['a.png', 'b.png'] and images.dtype == np.uint8
  np.testing.assert_array_equal(images, np.broadcast_to(ramp[..., np.newaxis], (2, 3, 5, 1)))
  [name], [image] = read_images(str(tmp_path / 'a.png'), (3, 5, 3), 17)
  levels = [min(range(17), key=lambda k, v=v: abs(k / 16 - v / 255)) for v in ramp.ravel()]
  assert name == 'a.png' and image.shape == (3, 5, 3)
  for channel in np.moveaxis(image, 2, 0):
    np.testing.assert_array_equal(channel.ravel(), levels)
  assert read_images(str(tmp_path / 'a.png'), (2, 2, 1), 256, image_size=2)[1].shape == (1, 2, 2, 1)


def test_own_images_that_do_not_suit_are_rejected(tmp_path):
  red = np.zeros((3, 5, 3), np.uint8)
  red[1, 1, 0] = 255
  save(tmp_path / 'red.png', red)
  (tmp_path / 'empty' / 'folder').mkdir(parents=True)
  for path, said in (
    ('red.png', 'red.png: expected grey levels, got colours'),
    ('none.png', 'none.png: no such file or folder'),
    ('empty', 'empty: expected .*, got the folder folder'),
    ('empty/folder', 'folder: expected .*, got none'),
  ):
    with pytest.raises(UsageError, match=f'{said}$'):
      read_images(str(tmp_path / path), (3, 5, 1), 256)
  with pytest.raises(UsageError, match=r'red\.png: expected 28 x 14 pixels, got 5 x 3$'):
    read_images(str(tmp_path / 'red.png'), (14, 28, 3), 256)
