import os
import re

import numpy as np
import pytest

from flowgan_tf.data import stored_images
from flowgan_tf.data.stored_images import StoredImages, open_images
from flowgan_tf.errors import UsageError


@pytest.fixture
def images() -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (11, 3, 4, 3), np.uint8)


@pytest.fixture
def path(tmp_path, images):
  np.save(tmp_path / 'images.npy', images)
  return tmp_path / 'images.npy'


def test_indices_mean_what_they_mean_for_an_array(path, images):
  stored = StoredImages(path)
  assert (stored.shape, stored.dtype, len(stored)) == (images.shape, images.dtype, 11)
  two_dimensional = np.array([[0, 10, 3], [3, -1, 7]])
  for index in (0, -1, np.int64(4), slice(3, 8), slice(None, None, -2), slice(20, 30), [2, 2, 9], two_dimensional, []):
    found = stored[index]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, images[np.asarray(index, int) if isinstance(index, list) else index])
  np.testing.assert_array_equal(np.asarray(stored), images)
  np.testing.assert_array_equal(np.stack(list(stored)), images)


@pytest.mark.parametrize('index', [11, -12, [0, 11], np.ones(11, bool), 0.5])
def test_indices_that_name_no_image(path, index):
  with pytest.raises(IndexError, match=r'^no such images among 11: '):
    StoredImages(path)[index]


def test_a_file_is_loaded_only_if_it_is_small(path, images, monkeypatch):
  assert isinstance(open_images(path), np.ndarray)
  np.testing.assert_array_equal(open_images(path), images)
  monkeypatch.setattr(stored_images, 'IN_MEMORY', images.nbytes)
  assert isinstance(open_images(path), StoredImages)


def test_images_beyond_memory_are_not_loaded_at_once(path, monkeypatch):
  monkeypatch.setattr(os, 'sysconf', lambda name: 4)
  with pytest.raises(UsageError, match=rf'^{path}: its images must fit into the 0\.0 GB of memory\.'):
    np.asarray(StoredImages(path))


@pytest.mark.parametrize(
  ('array', 'message'),
  [
    (np.zeros((2, 3, 4, 3)), r'expected uint8 \[n, height, width, 1 or 3\], got float64 \[2, 3, 4, 3\]'),
    (np.zeros((2, 3, 4), np.uint8), r'expected uint8 .*, got uint8 \[2, 3, 4\]'),
    (np.zeros((2, 3, 4, 4), np.uint8), r'expected uint8 .*, got uint8 \[2, 3, 4, 4\]'),
    (np.zeros((0, 3, 4, 3), np.uint8), r'expected uint8 .*, got uint8 \[0, 3, 4, 3\]'),
    (np.zeros((2, 3, 4, 3), np.uint8, order='F'), 'expected images one after the other, got an array in Fortran order'),
    (np.array([None]), 'expected uint8 .*, got object'),
  ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
  np.save(tmp_path / 'other.npy', array)
  with pytest.raises(UsageError, match=f'^{tmp_path}/other.npy: {message}'):
    StoredImages(tmp_path / 'other.npy')


def test_damaged_files_are_refused(path):
  whole = path.read_bytes()
  for content, message in (
    (b'', r'not a readable \.npy file \(ValueError\)'),
    (b'text', r'not a readable \.npy file \(ValueError\)'),
    (whole[:50], r'not a readable \.npy file \(ValueError\)'),
    (whole[:6] + b'\x09' + whole[7:], r'not a readable \.npy file \(KeyError\)'),
    (whole[:-1], r'damaged; \[11, 3, 4, 3\] need 524 bytes, got 523'),
    (whole + b'0', r'damaged; \[11, 3, 4, 3\] need 524 bytes, got 525'),
  ):
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f'^{re.escape(str(path))}: {message}$'):
      StoredImages(path)
  path.unlink()
  with pytest.raises(UsageError, match=rf'^{path}: cannot be read \(No such file or directory\)$'):
    StoredImages(path)


def test_a_file_that_is_cut_off_while_it_is_open(path):
  stored = StoredImages(path)
  os.truncate(path, path.stat().st_size - 1)
  stored[:10]
  with pytest.raises(OSError, match=f'Input/output error.*{path}'):
    stored[10]
