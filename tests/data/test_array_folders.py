import os

import numpy as np
import pytest

from flowgan_tf.data import Dataset, Split, load, stored_images
from flowgan_tf.data.stored_images import StoredImages
from flowgan_tf.errors import UsageError
from tests.data.loading import raises

SIZES = {'train': 9, 'validation': 3, 'test': 4}


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


@pytest.fixture(params=['in memory', 'in files'])
def stored(request, monkeypatch) -> bool:
  if request.param == 'in files':
    monkeypatch.setattr(stored_images, 'IN_MEMORY', 0)
  return request.param == 'in files'


@pytest.mark.parametrize('labels', [False, True])
def test_the_files_are_the_splits(tmp_path, stored, labels):
  splits = write(tmp_path / 'photos', labels)
  dataset = load(str(tmp_path / 'photos'))
  assert (dataset.name, dataset.levels, dataset.image_shape) == ('photos', 256, (4, 5, 3))
  assert dataset.num_classes == (3 if labels else None)
  for part, expected in splits.items():
    split = getattr(dataset, part)
    assert isinstance(split.images, StoredImages) == stored
    assert len(split) == SIZES[part]
    np.testing.assert_array_equal(split.images[:], expected.images)
    if labels:
      assert split.labels.dtype == np.int64
      np.testing.assert_array_equal(split.labels, expected.labels)
    else:
      assert split.labels is None
  # A run must not notice where the images are.
  assert dataset.fingerprint == Dataset('photos', 256, **splits, num_classes=None).fingerprint


def test_the_fingerprint_of_files_is_read_in_pieces(tmp_path, monkeypatch):
  monkeypatch.setattr(stored_images, 'IN_MEMORY', 0)
  splits = write(tmp_path / 'photos')
  monkeypatch.setattr('flowgan_tf.data.dataset._HASHED_AT_ONCE', 150)  # Two images of 60 bytes.
  read = []
  monkeypatch.setattr(StoredImages, '__array__', None)
  original = StoredImages.__getitem__
  monkeypatch.setattr(
    StoredImages, '__getitem__', lambda self, index: read.append(original(self, index)) or original(self, index)
  )
  fingerprint = load(str(tmp_path / 'photos')).fingerprint
  assert max(map(len, read)) == 2
  assert fingerprint == Dataset('photos', 256, **splits, num_classes=None).fingerprint


def test_what_is_missing_or_too_much(tmp_path):
  write(tmp_path, labels=True)
  (tmp_path / '.hidden').write_text('')
  load(str(tmp_path))
  (tmp_path / 'extra.npy').write_bytes(b'')
  raises(tmp_path, r'/extra\.npy: expected no other files than train\.npy, .*test_labels\.npy$')
  (tmp_path / 'extra.npy').unlink()
  (tmp_path / 'test_labels.npy').unlink()
  raises(tmp_path, r'expected labels for all three .*; got only train_labels\.npy, validation_labels\.npy$')
  (tmp_path / 'test.npy').unlink()
  raises(tmp_path, r': expected train\.npy, validation\.npy, test\.npy; test\.npy is missing$')


def test_splits_of_other_shapes(tmp_path):
  write(tmp_path)
  np.save(tmp_path / 'test.npy', np.zeros((4, 5, 5, 3), np.uint8))
  raises(tmp_path, r': expected images of one shape, got train\.npy \[4, 5, 3\], .* test\.npy \[5, 5, 3\]$')


@pytest.mark.parametrize(
  ('labels', 'message'),
  [
    (np.arange(5), r'expected labels as 4 integers from 0, one for each image, got int64 \[5\] from 0 to 4'),
    (np.arange(4) - 1, r'expected labels as 4 integers from 0, .* from -1 to 2'),
    (np.zeros(4), r'expected labels as 4 integers .*, got float64 \[4\]'),
    (np.array([None] * 4), r'not a readable \.npy file \(ValueError\)'),
  ],
)
def test_other_labels_are_refused(tmp_path, labels, message):
  write(tmp_path, labels=True)
  np.save(tmp_path / 'test_labels.npy', labels)
  raises(tmp_path, rf'/test_labels\.npy: {message}$')


def test_labels_with_something_behind_them(tmp_path):
  write(tmp_path, labels=True)
  with (tmp_path / 'test_labels.npy').open('ab') as file:
    file.write(b'0')
  raises(tmp_path, r'/test_labels\.npy: not a readable \.npy file \(ValueError\)$')


@pytest.mark.parametrize('name', ['test.npy', 'test_labels.npy'])
def test_a_pipe_is_not_waited_for(tmp_path, name):
  folder = tmp_path / 'arrays'
  write(folder, labels=True)
  (folder / name).unlink()
  os.mkfifo(folder / name)
  with pytest.raises(UsageError, match=f'{name}: not a regular file'):
    load(str(folder))


def test_negative_sizes_are_refused(tmp_path):
  with (tmp_path / 'train.npy').open('wb') as file:
    np.lib.format.write_array_header_1_0(file, {'descr': '|u1', 'fortran_order': False, 'shape': (-1, 8, -8, 1)})
    file.write(bytes(64))
  with pytest.raises(UsageError, match=r'train.npy: expected uint8 \[n, height, width, 1 or 3\], got uint8 \[-1, 8'):
    stored_images.open_images(tmp_path / 'train.npy')
