import io
import zipfile

import numpy as np
import pytest

from flowgan_tf.data import load
from tests.data.loading import joined, raises


@pytest.mark.parametrize('shape', [(30, 2, 4), (30, 2, 3, 1), (30, 2, 3, 3)])
def test_npz_of_images(tmp_path, shape):
  images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  path = tmp_path / 'faces.npz'
  np.savez_compressed(path, images=images, labels=np.arange(30, dtype=np.uint8))
  dataset = load(str(path))
  assert (dataset.name, dataset.levels, dataset.num_classes) == ('faces', 256, 30)
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [24, 3, 3]
  found, labels = joined(dataset)
  np.testing.assert_array_equal(found[np.argsort(labels)], images.reshape(30, *shape[1:3], -1))
  np.savez(path, images=images)
  unlabelled = load(str(path))
  assert unlabelled.num_classes is None
  np.testing.assert_array_equal(unlabelled.test.images, dataset.test.images)


def test_npz_as_keras_lays_it_out(tmp_path):
  path = tmp_path / 'data.npz'
  train, test = (
    np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1),
    np.arange(100, 104, dtype=np.uint8).reshape(4, 1, 1, 1),
  )
  # Keras' CIFAR-10 has labels of shape [n, 1].
  np.savez(path, x_train=train, x_test=test, y_train=np.arange(20).reshape(20, 1), y_test=np.array([0, 1, 2, 24]))
  dataset = load(str(path))
  assert dataset.num_classes == 25
  np.testing.assert_array_equal(dataset.test.images, test)
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


@pytest.mark.parametrize('channels', [1, 3])
def test_npz_of_other_size(tmp_path, caplog, channels):
  caplog.set_level('INFO', 'flowgan_tf')
  images = np.random.default_rng(0).integers(0, 256, (5, 6, 4, channels), np.uint8)
  path = tmp_path / 'faces.npz'
  np.savez(path, images=images, labels=np.arange(5))
  found, labels = joined(load(str(path), image_size=4))
  np.testing.assert_array_equal(found, images[labels, 1:5])
  assert 'resized to 4 x 4' in caplog.text
  np.savez(path, x_train=images, x_test=images[:, :5])
  assert load(str(path), image_size=2).image_shape == (2, 2, channels)


GOOD = np.zeros((4, 2, 5), np.uint8)


@pytest.mark.parametrize(
  ('arrays', 'message'),
  [
    ({'images': GOOD.astype(np.float32)}, r'expected "images" as uint8 .*, got float32 \[4, 2, 5\]$'),
    ({'images': GOOD[0]}, r'got uint8 \[2, 5\]$'),
    ({'images': np.zeros((4, 3, 8, 8), np.uint8)}, r'got uint8 \[4, 3, 8, 8\]$'),
    ({'images': GOOD[:0]}, r'got uint8 \[0, 2, 5\]$'),
    ({'images': GOOD[:2]}, 'expected at least 3 images'),
    ({'images': GOOD, 'labels': np.zeros(4)}, r'expected "labels" as 4 integers from 0.*, got float64 \[4\]$'),
    ({'images': GOOD, 'labels': np.zeros(3, int)}, r'got int64 \[3\]'),
    ({'images': GOOD, 'labels': np.array([0, 1, -1, 2])}, r'got int64 \[4\] from -1 to 2$'),
    ({'images': GOOD, 'labels': np.array([0, 1, 2**40, 2])}, r'from 0 to 1099511627776$'),
    (
      {'images': np.zeros((28, 28, 3), np.uint8)},
      r'got uint8 \[28, 28, 3\], which could be one image; if it is not, add',
    ),
    ({'images': np.zeros((28, 28, 1), np.uint8)}, r'got uint8 \[28, 28, 1\], which could be one image'),
    ({'pictures': GOOD}, r'expected an array "images", or "x_train" and "x_test"; got \'pictures\'$'),
    (
      {'images': GOOD, 'labelr': np.zeros(4, int)},
      r"expected no other arrays than images, labels; got 'labelr\.npy' too$",
    ),
    ({'x_train': GOOD, 'x_test': GOOD, 'labels': np.zeros(4, int)}, r"y_test; got 'labels\.npy' too$"),
    ({'images': GOOD, 'x_train': GOOD}, r"got 'x_train\.npy' too$"),
    ({}, 'got nothing$'),
    ({'x_train': GOOD}, r"got 'x_train'$"),
    ({'x_train': GOOD[:1], 'x_test': GOOD}, 'expected at least 2 images to divide, got 1$'),
    ({'x_train': GOOD, 'x_test': GOOD[:, :1]}, r'one shape, got x_train 2 x 5 x 1, x_test 1 x 5 x 1$'),
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
  raises(path, r'damaged\.npz: expected an \.npz file, as np\.savez writes it, got a single array \(\.npy\)$')


def member(array: np.ndarray, **claims) -> bytes:
  """The bytes of an .npy file whose header claims another shape or type."""
  file = io.BytesIO()
  header = {'descr': array.dtype.str, 'fortran_order': False, 'shape': array.shape} | claims
  np.lib.format.write_array_header_1_0(file, header)
  return file.getvalue() + array.tobytes()


@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_by_any_method_of_compression(tmp_path, method):
  path, images = tmp_path / 'data.npz', np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
  with zipfile.ZipFile(path, 'w', method) as archive:
    archive.writestr('images.npy', member(images))
  found, _ = joined(load(str(path)))
  np.testing.assert_array_equal(np.sort(found.ravel()), np.arange(64))


@pytest.mark.parametrize(
  'content',
  [
    member(GOOD, shape=(10**12, 1024, 1024)),
    member(GOOD, shape=(10**400,)),
    member(GOOD, shape=(3, 2, 5)),
    member(GOOD, shape=(-4, 2, -5)),
    member(GOOD, descr='|O'),
    member(GOOD)[:-1],
    member(GOOD).replace(b'(4', b'((', 1),
    b'just a text',
    b'',
    np.lib.format.magic(9, 9) + member(GOOD)[8:],
  ],
  ids=['terabytes', 'huge', 'less', 'negative', 'objects', 'short', 'no shape', 'text', 'empty', 'version'],
)
def test_members_that_are_not_what_they_claim(tmp_path, content):
  """They are refused before any memory is asked for."""
  path = tmp_path / 'data.npz'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('images.npy', content)
  raises(path, r'data\.npz: not a readable \.npz file of plain arrays \(\w+: .+\)$')


def test_npz_of_another_kind(tmp_path):
  """Encrypted, compressed by an unknown method, holding something else than arrays, or twice the same."""
  path = tmp_path / 'data.npz'
  np.savez(path, images=GOOD)
  whole = path.read_bytes()
  at = whole.index(b'PK\1\2')
  for offset, value, reason in ((8, 1, 'encrypted'), (10, 99, 'compression method')):
    path.write_bytes(whole[: at + offset] + bytes([value]) + whole[at + offset + 1 :])
    raises(path, rf'data\.npz: not a readable \.npz file of plain arrays \(\w+: .*{reason}')
  with zipfile.ZipFile(path, 'a') as archive:
    archive.writestr('labels', b'0 1 2 3')
  raises(path, r"data\.npz: .*; got 'labels' too$")
  np.savez(path, images=GOOD)
  with zipfile.ZipFile(path, 'a') as archive, pytest.warns(UserWarning, match='Duplicate'):
    archive.writestr('images.npy', member(GOOD + 1))
  raises(path, r'data\.npz: not a readable \.npz file of plain arrays \(BadZipFile: the table')


def test_an_npz_that_would_fill_the_memory(tmp_path, monkeypatch):
  """A few kilobytes of zeros unpack to a thousand times as much."""
  path = tmp_path / 'data.npz'
  np.savez_compressed(path, images=np.zeros((1000, 32, 32, 1), np.uint8))
  monkeypatch.setattr('os.sysconf', lambda name: 1000)
  raises(path, r'data\.npz: its arrays must fit into the 0\.0 GB of memory\. Got: 0\.0 GB\.$')


def test_a_hidden_member_is_missed(tmp_path):
  """A flipped bit in the length of a member's comment takes what follows for the comment."""
  path = tmp_path / 'data.npz'
  np.savez(path, images=GOOD, labels=np.arange(4))
  damaged = bytearray(path.read_bytes())
  damaged[damaged.index(b'PK\1\2') + 32] ^= 64
  with zipfile.ZipFile(io.BytesIO(damaged)) as archive:
    assert archive.namelist() == ['images.npy']
  path.write_bytes(damaged)
  raises(
    path, r'data\.npz: not a readable \.npz file of plain arrays \(BadZipFile: the table of its contents is damaged\)$'
  )
