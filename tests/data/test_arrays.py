"""Images in .npz files, in folders of .npy files, and those that stay in their files."""

import io
import os
import re
import zipfile

import numpy as np
import pytest

from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import Dataset, Split, StoredImages, arrays, load
from tests.data.loading import joined, raises

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 3, 4, 3), np.uint8)
SIZES = {'train': 9, 'validation': 3, 'test': 4}


# Stored images.


@pytest.fixture
def path(tmp_path):
  np.save(tmp_path / 'images.npy', IMAGES)
  return tmp_path / 'images.npy'


def test_indices_mean_what_they_mean_for_an_array(path, monkeypatch):
  monkeypatch.chdir(path.parent)
  stored = StoredImages('images.npy')
  monkeypatch.chdir('/')
  assert (stored.shape, stored.dtype, len(stored)) == (IMAGES.shape, IMAGES.dtype, 11)
  for index in (0, np.int64(-1), slice(3, 8), slice(None, None, -2), [2, 2, 9], np.array([[0, 10, 3], [3, -1, 7]])):
    found = stored[index]
    assert type(found) is np.ndarray and found.flags.owndata  # It keeps no map of the file.
    np.testing.assert_array_equal(found, IMAGES[index])
  np.testing.assert_array_equal(np.asarray(stored, np.float32), IMAGES)
  # A file that is cut off while it is open.
  os.truncate(path, path.stat().st_size - 1)
  with pytest.raises(OSError, match=re.escape(f"Input/output error: '{path}'")):
    stored[10]


def member(array: np.ndarray, **claims) -> bytes:
  """The bytes of an .npy file whose header claims another shape."""
  file = io.BytesIO()
  header = {'descr': array.dtype.str, 'fortran_order': False, 'shape': array.shape} | claims
  np.lib.format.write_array_header_1_0(file, header)
  return file.getvalue() + array.tobytes()


def test_other_arrays_and_damaged_files_are_rejected(path):
  whole, unreadable = path.read_bytes(), r'not a readable \.npy file \(ValueError\)'
  for content, message in (
    (member(np.zeros((2, 3, 4, 4), np.uint8)), r'expected uint8 .*, got uint8 \[2, 3, 4, 4\]'),
    (member(np.zeros((0, 3, 4, 3), np.uint8)), r'expected uint8 .*, got uint8 \[0, 3, 4, 3\]'),
    (member(np.zeros((2, 3, 4, 3))), r'expected uint8 .*, got float64 \[2, 3, 4, 3\]'),
    (whole[:-1], unreadable),
    (whole + b'0', unreadable),
  ):
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f'^{path}: {message}$'):
      StoredImages(path)
  path.unlink()
  os.mkfifo(path)  # To open it would wait.
  with pytest.raises(UsageError, match=f'^{path}: not a regular file$'):
    StoredImages(path)


# Folders of .npy files.


def write(folder, labels: bool = False) -> dict[str, Split]:
  folder.mkdir(exist_ok=True)
  rng = np.random.default_rng(0)
  splits = {}
  for part, n in SIZES.items():
    splits[part] = Split(rng.integers(0, 256, (n, 4, 5, 3), np.uint8), np.arange(n) % 3 if labels else None)
    np.save(folder / f'{part}.npy', splits[part].images)
    if labels:
      np.save(folder / f'{part}_labels.npy', splits[part].labels.astype(np.int32))
  return splits


@pytest.mark.parametrize(('in_memory', 'stored', 'labels'), [(9 * 60, True, True), (9 * 60 + 1, False, False)])
def test_the_files_are_the_splits(tmp_path, monkeypatch, in_memory, stored, labels):
  """A run must not notice where the images are, by the hash of everything. It is read two images at a time."""
  splits = write(tmp_path / 'photos', labels)
  (tmp_path / 'photos' / '.hidden').write_text('')
  monkeypatch.setattr(arrays, 'IN_MEMORY', in_memory)
  dataset = load(str(tmp_path / 'photos'))
  assert dataset.num_classes == (3 if labels else None)
  assert isinstance(dataset.train.images, StoredImages) == stored
  monkeypatch.setattr('flowgan_tf.data.dataset._HASHED_AT_ONCE', 150)
  monkeypatch.setattr(StoredImages, '__array__', None)
  assert dataset.fingerprint == Dataset('photos', 256, **splits, num_classes=None).fingerprint


def test_what_is_missing_or_does_not_fit(tmp_path):
  write(tmp_path, labels=True)
  np.save(tmp_path / 'test_labels.npy', np.arange(5))
  raises(tmp_path, r'/test_labels\.npy: expected labels as 4 integers from 0, .*, got int64 \[5\]$')
  (tmp_path / 'test_labels.npy').unlink()
  raises(tmp_path, ': expected labels for all splits or for none$')
  np.save(tmp_path / 'test.npy', np.zeros((4, 5, 5, 3), np.uint8))
  raises(tmp_path, r': expected images of one shape, got \[., 5, 3\] and \[., 5, 3\]$')
  (tmp_path / 'extra.npy').write_bytes(b'')
  raises(tmp_path, r': expected train\.npy, .*, perhaps train_labels\.npy, .* and nothing else; got extra\.npy, test')


@pytest.mark.parametrize('shape', [(2,), (3, 4, 5)])
def test_conditions_stay_with_their_images(tmp_path, monkeypatch, shape):
  """In folders, whose images may stay in their files, and in both kinds of .npz files."""
  conditions = np.random.default_rng(0).normal(size=(20, *shape))  # float64
  images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
  monkeypatch.setattr(arrays, 'IN_MEMORY', 5)
  folder, one, keras = tmp_path / 'folder', tmp_path / 'one.npz', tmp_path / 'keras.npz'
  folder.mkdir()
  for part, rows in {'train': slice(12), 'validation': slice(12, 16), 'test': slice(16, 20)}.items():
    np.save(folder / f'{part}.npy', images[rows])
    np.save(folder / f'{part}_conditions.npy', conditions[rows])
  np.savez(one, images=images, conditions=conditions)
  parts = {'x_train': images[:15], 'c_train': conditions[:15], 'x_test': images[15:], 'c_test': conditions[15:]}
  np.savez(keras, **parts)
  for source in (folder, one, keras):
    dataset = load(str(source))
    splits = (dataset.train, dataset.validation, dataset.test)
    assert sum(map(len, splits)) == 20
    for split in splits:
      assert split.conditions.dtype == np.float32
      np.testing.assert_array_equal(split.conditions, conditions[split.images[:].ravel()].astype(np.float32))
  np.savez(keras, **parts | {'c_test': conditions[15:] + 1})
  assert load(str(keras)).fingerprint != dataset.fingerprint  # A run must not go on with other conditions.
  if len(shape) == 1:
    assert load(str(one), image_size=3).train.conditions.shape == (16, 2)
  else:
    with pytest.raises(UsageError, match=r'^`image_size` must be 0 for .*one\.npz, whose "conditions" are images that'):
      load(str(one), image_size=3)
  (folder / 'test_conditions.npy').unlink()
  raises(folder, ': expected conditions for all splits or for none$')
  np.save(folder / 'test_conditions.npy', np.zeros((4, 7)))
  raises(folder, r': expected conditions of one shape, got \[')
  np.save(folder / 'test_conditions.npy', np.zeros((3, *shape)))
  raises(folder, r'/test_conditions\.npy: expected conditions as floats \[4, d\] or .*, got float64 \[3')


def test_as_many_images_are_written_as_there_are_numbers(tmp_path):
  splits = [Split(np.array(numbers), None) for numbers in ([0, 3], [1], [2])]
  pairs = [(image, 5 - i) for i, image in enumerate(IMAGES[:5])]
  for wrong in (pairs[:3], pairs):
    with pytest.raises(ValueError, match='zip'):
      arrays.write_array_folder(tmp_path / 'new', wrong, (3, 4, 3), splits)
  assert not list(tmp_path.iterdir())
  arrays.write_array_folder(tmp_path / 'new', pairs[:4], (3, 4, 3), splits)
  images, labels = joined(load(str(tmp_path / 'new')))
  np.testing.assert_array_equal(images, IMAGES[[0, 3, 1, 2]])
  np.testing.assert_array_equal(labels, [5, 2, 4, 3])
  pairs[1] = (IMAGES[1], -1)
  arrays.write_array_folder(tmp_path / 'unlabelled', pairs[:4], (3, 4, 3), splits)
  assert load(str(tmp_path / 'unlabelled')).num_classes is None
  # Another process was faster.
  arrays.write_array_folder(tmp_path / 'new', pairs[:4], (3, 4, 3), splits)
  assert load(str(tmp_path / 'new')).num_classes == 6
  assert sorted(path.name for path in tmp_path.iterdir()) == ['new', 'unlabelled']


# .npz files.

GOOD = np.zeros((4, 2, 5), np.uint8)


@pytest.mark.parametrize('shape', [(30, 2, 4), (30, 2, 3, 3)])
def test_npz_of_images(tmp_path, shape):
  images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  path = tmp_path / 'faces.npz'
  names = tuple(f'person {i}' for i in range(30))
  np.savez_compressed(path, images=images, labels=np.arange(30, dtype=np.uint8), class_names=names)
  dataset = load(str(path))
  assert (dataset.name, dataset.levels, dataset.num_classes, dataset.class_names) == ('faces', 256, 30, names)
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [24, 3, 3]
  found, labels = joined(dataset)
  np.testing.assert_array_equal(found[np.argsort(labels)], images.reshape(30, *shape[1:3], -1))
  np.savez(path, images=images, labels=np.arange(30) % 28, class_names=names)  # No image of the last two classes.
  assert load(str(path)).num_classes == 30
  for wrong in (names[:29], 'person'):
    np.savez(path, images=images, labels=np.arange(30), class_names=wrong)
    with pytest.raises(UsageError, match=r'faces\.npz: class_names` must be 30 different strings'):
      load(str(path))
  np.savez(path, images=images)
  unlabelled = load(str(path))
  assert unlabelled.num_classes is None
  np.testing.assert_array_equal(unlabelled.test.images, dataset.test.images)
  assert load(str(path), image_size=5).image_shape == (5, 5, dataset.image_shape[2])


def test_npz_as_keras_lays_it_out(tmp_path):
  path = tmp_path / 'data.npz'
  train = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
  test = np.arange(100, 104, dtype=np.uint8).reshape(4, 1, 1, 1)
  # Keras' CIFAR-10 has labels of shape [n, 1].
  np.savez(path, x_train=train, x_test=test, y_train=np.arange(20).reshape(20, 1), y_test=np.array([0, 1, 2, 24]))
  dataset = load(str(path))
  assert dataset.num_classes == 25 and len(dataset.validation) == 2
  assert set(dataset.validation.labels) != {18, 19}  # At random, as a file may be sorted by class.
  images, labels = joined(dataset)
  np.testing.assert_array_equal(np.sort(images[:20].ravel()), np.arange(20))
  np.testing.assert_array_equal(images[:20].ravel(), labels[:20])
  np.testing.assert_array_equal(images[20:], test)
  np.savez(path, x_train=train, x_validation=test, x_test=test[:1])
  np.testing.assert_array_equal(joined(load(str(path)))[0], np.concatenate([train, test, test[:1]]))


@pytest.mark.parametrize(
  ('contents', 'message'),
  [
    ({'images': GOOD.astype(np.float32)}, r'expected "images" as uint8 .*, got float32 \[4, 2, 5\]$'),
    ({'images': GOOD[:0]}, r'got uint8 \[0, 2, 5\]$'),
    ({'images': GOOD, 'labels': np.zeros(4)}, r'labels: expected labels as 4 integers from 0.*, got float64 \[4\]$'),
    ({'images': GOOD, 'labels': np.array([0, 1, 100_000, -1])}, r'one for each image, got 100000 at position 2$'),
    ({'images': GOOD, 'labels': np.array([0, 1, 1, -1])}, r'labels as 4 .*, got -1 at position 3$'),
    ({'images': GOOD, 'labels': np.arange(3)}, r'labels as 4 integers from 0, one for each image, got int64 \[3\]$'),
    (
      {'images': GOOD, 'conditions': np.zeros((4, 2), int)},
      r'conditions: expected .* floats .*, got int64 \[4, 2\]$',
    ),
    ({'images': GOOD, 'conditions': np.zeros(4)}, r'floats \[4, d\] or \[4, height, .*, got float64 \[4\]$'),
    ({'images': GOOD, 'conditions': np.zeros((5, 2))}, r'one for each image, got float64 \[5, 2\]$'),
    ({'images': GOOD, 'conditions': np.zeros((4, 0))}, r'got float64 \[4, 0\]$'),
    (
      {'images': GOOD, 'conditions': np.array([[0.0], [1], [np.nan], [2]])},
      r'finite float32 .* got nan at position \[2, 0\]$',
    ),
    (
      {'images': GOOD, 'conditions': np.array([[0.0], [1e39], [2], [2]])},
      r'finite float32 .* got inf at position \[1, 0\]$',
    ),
    ({'x_train': GOOD, 'x_test': GOOD, 'c_validation': np.zeros((4, 2))}, r'arrays .*; got c_validation, x_test, x_tr'),
    ({'x_train': GOOD, 'x_test': GOOD, 'c_test': np.zeros((4, 2))}, 'expected conditions for all splits or for none$'),
    ({'images': np.zeros((28, 28, 3), np.uint8)}, r'got uint8 \[28, 28, 3\], which could be one image; if it is not'),
    ({'images': GOOD, 'labelr': np.zeros(4, int)}, 'expected arrays "images" and .*; got images, labelr$'),
    ({'x_train': GOOD, 'x_test': GOOD[:, :1]}, 'expected images of one shape'),
    ({'x_train': GOOD, 'x_test': GOOD, 'y_test': np.zeros(4, int)}, 'expected labels for all splits or for none$'),
    ({'images': np.array([GOOD, None], dtype=object)}, r'not a readable \.npz file'),
    # A few kilobytes of zeros that unpack to more than the memory.
    ({'images': np.zeros((1001, 32, 32), np.uint8)}, r'its arrays must fit into the 0\.0 GB of memory'),
  ],
)
def test_other_npz_contents_are_rejected(tmp_path, monkeypatch, contents, message):
  monkeypatch.setattr('os.sysconf', lambda name: 1000)
  np.savez_compressed(tmp_path / 'data.npz', **contents)
  raises(tmp_path / 'data.npz', rf'data\.npz: .*{message}')


def test_a_table(tmp_path):
  table, path = np.random.default_rng(0).normal(5.0, 2.0, (20, 3)), tmp_path / 'table.npz'
  np.savez(path, x_train=table, y_train=np.arange(20) % 2)
  dataset = load(str(path))
  assert (dataset.levels, dataset.image_shape, dataset.num_classes) == (None, (3,), 2)
  assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [16, 2, 2]
  rows = np.concatenate([part.images for part in (dataset.train, dataset.validation, dataset.test)])
  assert rows.dtype == np.float32
  np.testing.assert_array_equal(np.sort(rows[:, 0]), np.sort(table[:, 0].astype(np.float32)))
  np.savez(path, x_train=table, x_validation=table[:5], x_test=table[:7])
  assert [len(part) for part in (load(str(path)).train, load(str(path)).test)] == [20, 7]
  far = np.where(np.arange(60).reshape(20, 3) == 7, 1e20, table)  # Its density would be 0 in float32.
  for arrays_of_file, message in (
    ({'x_train': table, 'x_validation': table}, 'expected arrays .*; got x_train, x_validation$'),
    ({'x_train': table.round().astype(int)}, r'or as a table, floats \[n, 2 or more\], got int64 \[20, 3\]$'),
    ({'x_train': table[:, :1]}, r'floats \[n, 2 or more\], got float64 \[20, 1\]$'),
    (
      {'x_train': np.where(table > 8, np.inf, table)},
      r'x_train: expected finite float32 numbers, got .* at position',
    ),
    ({'x_train': table, 'x_test': table[:, :2]}, 'expected rows of one shape'),
    ({'x_train': table, 'x_test': far}, 'test rows within .*, got 1e[+]20 in column 1 of row 2$'),
    ({'x_train': table, 'x_validation': far, 'x_test': table}, 'validation rows within .*, got 1e[+]20 in column 1 of'),
  ):
    np.savez(path, **arrays_of_file)
    raises(path, rf'table\.npz: .*{message}')
  np.savez(path, x_train=table)
  with pytest.raises(UsageError, match=r'`image_size` must be 0 for .*table\.npz, which holds a table'):
    load(str(path), image_size=8)


def test_absent_and_damaged_npz(tmp_path):
  raises(tmp_path / 'absent.npz', r'absent\.npz: no such file$')
  path = tmp_path / 'damaged.npz'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('images.npy', member(GOOD, shape=(10**12, 1024, 1024)))
  damaged = [path.read_bytes(), b'', member(GOOD)]
  for save in (np.savez, np.savez_compressed):
    save(path, images=np.random.default_rng(0).integers(0, 256, (50, 8, 8), np.uint8), labels=np.arange(50))
    whole = path.read_bytes()
    flipped, hidden = bytearray(whole), bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    hidden[whole.index(b'PK\1\2') + 32] ^= 64  # The length of a comment, which takes the second array for a part of it.
    damaged += [whole[: len(whole) // 2], flipped, hidden]
  path.write_text('a text')
  raises(path, r'damaged\.npz: not a readable \.npz file of plain arrays \(not a zip archive, or cut short\)$')
  for content in damaged:
    path.write_bytes(content)
    raises(
      path, r'damaged\.npz: not a readable \.npz file of plain arrays \((\w+: .+|not a zip archive, or cut short)\)$'
    )
