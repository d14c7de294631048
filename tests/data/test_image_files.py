import numpy as np
import pytest
from PIL import Image

from flowgan_tf.data import load
from flowgan_tf.errors import UsageError


def joined(dataset) -> tuple[np.ndarray, np.ndarray | None]:
  splits = (dataset.train, dataset.validation, dataset.test)
  labels = None if splits[0].labels is None else np.concatenate([split.labels for split in splits])
  return np.concatenate([split.images for split in splits]), labels


def grey(value: int, size: tuple[int, int] = (3, 5)) -> np.ndarray:
  return np.full(size, value, np.uint8)


def save(path, pixels: np.ndarray, **options) -> None:
  path.parent.mkdir(exist_ok=True)
  Image.fromarray(pixels).save(path, **options)


def raises(path, message: str) -> None:
  """Checks that `load` ends with one line that starts with the file's name."""
  with pytest.raises(UsageError, match=message) as error:
    load(str(path))
  assert '\n' not in str(error.value)


def test_folder_of_images(tmp_path):
  for i in range(20):
    save(tmp_path / f'{i}.png', grey(i))
  (tmp_path / '.thumbnail.png').write_bytes(b'not an image')
  (tmp_path / 'notes.txt').write_text('not an image')
  dataset = load(str(tmp_path))
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
  (tmp_path / 'without-images').mkdir()
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
  raises(tmp_path, r'2\.png: expected an image like 0\.png, height x width x channels 3 x 5 x 1, got 3 x [45] x [13]$')


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'CMYK', 'I;16'])
def test_other_pixel_formats_are_refused(tmp_path, mode):
  image = Image.fromarray(np.zeros((3, 5), np.uint16)) if mode == 'I;16' else Image.new(mode, (5, 3))
  image.save(tmp_path / ('0.jpg' if mode == 'CMYK' else '0.png'))
  raises(tmp_path, rf'0\.\w+: expected an 8-bit grey or RGB image, got mode {mode}$')


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
  raises(tmp_path, f'{tmp_path.name}: holds no images; expected ')
  save(tmp_path / '0.png', grey(0))
  raises(tmp_path, f'{tmp_path.name}: expected at least 3 images, one for each split, got 1$')
  save(tmp_path / 'ant' / '0.png', grey(0))
  raises(tmp_path, r'got both: 0\.png and ant/$')


@pytest.mark.parametrize('shape', [(30, 2, 3), (30, 2, 3, 1), (30, 2, 3, 3)])
def test_npz_of_images(tmp_path, shape):
  images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  path = tmp_path / 'faces.npz'
  np.savez_compressed(path, images=images, labels=np.arange(30, dtype=np.uint8))
  dataset = load(str(path))
  assert (dataset.name, dataset.levels, dataset.num_classes) == ('faces', 256, 30)
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [24, 3, 3]
  found, labels = joined(dataset)
  np.testing.assert_array_equal(found[np.argsort(labels)], images.reshape(30, 2, 3, -1))
  np.savez(path, images=images)
  unlabelled = load(str(path))
  assert unlabelled.num_classes is None
  np.testing.assert_array_equal(unlabelled.test.images, dataset.test.images)


def test_npz_as_keras_lays_it_out(tmp_path):
  path = tmp_path / 'data.npz'
  train, test = np.arange(20, dtype=np.uint8).reshape(20, 1, 1), np.arange(100, 104, dtype=np.uint8).reshape(4, 1, 1)
  # Keras' CIFAR-10 has labels of shape [n, 1].
  np.savez(path, x_train=train, x_test=test, y_train=np.arange(20).reshape(20, 1), y_test=np.array([0, 1, 2, 24]))
  dataset = load(str(path))
  assert dataset.num_classes == 25
  np.testing.assert_array_equal(dataset.test.images, test[..., np.newaxis])
  assert len(dataset.validation) == 2
  np.testing.assert_array_equal(
    np.sort(np.concatenate([dataset.train.images, dataset.validation.images]).ravel()), np.arange(20)
  )
  np.testing.assert_array_equal(dataset.train.images.ravel(), dataset.train.labels)

  np.savez(path, x_train=train, x_validation=test, x_test=test[:1])
  dataset = load(str(path))
  np.testing.assert_array_equal(dataset.train.images.ravel(), np.arange(20))
  np.testing.assert_array_equal(dataset.validation.images.ravel(), np.arange(100, 104))
  assert len(dataset.test) == 1


GOOD = np.zeros((4, 2, 3), np.uint8)


@pytest.mark.parametrize(
  ('arrays', 'message'),
  [
    ({'images': GOOD.astype(np.float32)}, r'expected "images" as uint8 .*, got float32 \[4, 2, 3\]$'),
    ({'images': GOOD[0]}, r'got uint8 \[2, 3\]$'),
    ({'images': np.zeros((4, 3, 8, 8), np.uint8)}, r'got uint8 \[4, 3, 8, 8\]$'),
    ({'images': GOOD[:0]}, r'got uint8 \[0, 2, 3\]$'),
    ({'images': GOOD[:2]}, 'expected at least 3 images'),
    ({'images': GOOD, 'labels': np.zeros(4)}, r'expected "labels" as 4 integers from 0.*, got float64 \[4\]$'),
    ({'images': GOOD, 'labels': np.zeros(3, int)}, r'got int64 \[3\]'),
    ({'images': GOOD, 'labels': np.array([0, 1, -1, 2])}, r'got int64 \[4\] from -1 to 2$'),
    ({'images': GOOD, 'labels': np.array([0, 1, 2**40, 2])}, r'from 0 to 1099511627776$'),
    ({'pictures': GOOD}, r'expected an array "images", or "x_train" and "x_test"; got pictures$'),
    ({}, 'got nothing$'),
    ({'x_train': GOOD}, r'got x_train$'),
    ({'x_train': GOOD[:1], 'x_test': GOOD}, 'expected at least 2 images to divide, got 1$'),
    ({'x_train': GOOD, 'x_test': GOOD[:, :1]}, r'one shape, got x_train 2 x 3 x 1, x_test 1 x 3 x 1$'),
    (
      {'x_train': GOOD, 'x_test': GOOD, 'y_test': np.zeros(4, int)},
      r'for train, test or for none; got only y_test$',
    ),
    ({'images': np.array([GOOD, None], dtype=object)}, r'not a readable \.npz file'),
  ],
)
def test_other_npz_contents_are_refused(tmp_path, arrays, message):
  path = tmp_path / 'data.npz'
  np.savez(path, **arrays)
  raises(path, rf'data\.npz: .*{message}')


def test_absent_and_damaged_npz(tmp_path):
  raises(tmp_path / 'absent.npz', r'absent\.npz: no such file$')
  path = tmp_path / 'damaged.npz'
  for options in (np.savez, np.savez_compressed):
    options(path, images=np.random.default_rng(0).integers(0, 256, (50, 8, 8), np.uint8))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for damaged in (b'', whole[: len(whole) // 2], b'PK' + whole[:50], b'text', bytes(flipped)):
      path.write_bytes(damaged)
      raises(path, r'damaged\.npz: not a readable \.npz file')
  with open(path, 'wb') as file:
    np.save(file, GOOD)
  raises(path, r'damaged\.npz: not a readable \.npz file')
