"""Splits and fingerprints, and which source a name stands for."""

import dataclasses
import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import Dataset, Split, load
from flowgan_tf.data.dataset import check_dataset, hold_out, three_way
from tests.data.loading import joined
from tests.tiny import write_images


def numbered(n: int) -> Split:
  """Images and labels that carry their own number."""
  numbers = np.arange(n)
  return Split((numbers % 256).astype(np.uint8).reshape(n, 1, 1, 1), numbers.astype(np.int64))


@pytest.mark.parametrize(
  ('shuffle', 'expected'), [(False, range(50, 60)), (True, [2, 3, 6, 11, 18, 21, 35, 36, 52, 59])]
)
def test_hold_out_takes_the_last_or_a_fixed_random_part(shuffle, expected):
  """Written down, so that no later version moves the border between training and validation."""
  rest = np.setdiff1d(np.arange(60), expected)
  for part, numbers in zip(hold_out(numbered(60), 1 / 6, shuffle, 'source'), (rest, expected), strict=True):
    np.testing.assert_array_equal(part.images.ravel(), numbers)
    np.testing.assert_array_equal(part.labels, numbers)
  unlabelled = Split(numbered(2).images, None)
  assert [(len(part), part.labels) for part in hold_out(unlabelled, 1 / 10, shuffle, 'source')] == [(1, None)] * 2
  with pytest.raises(UsageError, match=r'few\.npz: expected at least 2 images to divide, got 1'):
    hold_out(numbered(1), 1 / 10, shuffle, 'few.npz')


def test_three_way_is_80_10_10_without_loss():
  assert [len(split) for split in three_way(numbered(3), 'few.npz')] == [1, 1, 1]
  with pytest.raises(UsageError, match=r'few\.npz: expected at least 3 images, one for each split, got 2'):
    three_way(numbered(2), 'few.npz')
  parts = three_way(numbered(200), 'source')
  assert [len(part) for part in parts] == [160, 20, 20]
  np.testing.assert_array_equal(np.sort(np.concatenate([part.labels for part in parts])), np.arange(200))
  for part in parts:
    np.testing.assert_array_equal(part.images.ravel(), part.labels % 256)
    assert np.any(np.diff(part.labels) > 1)  # Drawn at random, and not a run of neighbours.


def test_fingerprint_is_the_hash_of_name_levels_and_arrays():
  """Written down, since it is part of the names of cache files. The layout in memory does not count."""
  images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 2)).astype(np.uint8)
  labels = np.arange(3)
  hashed = hashlib.sha256(b'name 17')
  for part in (
    b' |u1 (3, 4, 5, 2) ',
    images,
    b' <i8 (3,) ',
    labels,
    2 * (b' |u1 (3, 4, 5, 2) ' + images.tobytes() + b' none'),
  ):
    hashed.update(part)
  for layout in (images, np.asfortranarray(images), images[:, ::-1].copy()[:, ::-1]):
    splits = Split(layout, labels), Split(layout, None), Split(layout, None)
    dataset = Dataset('name', 17, *splits, num_classes=None)
    assert dataset.fingerprint == hashed.hexdigest() and dataset.image_shape == (4, 5, 2)


# Sources.


def test_digits():
  dataset = load('digits')
  assert (dataset.name, dataset.levels, dataset.num_classes, dataset.image_shape) == ('digits', 17, 10, (8, 8, 1))
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [1437, 180, 180]
  images, labels = joined(dataset)
  assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
  found = np.column_stack([images.reshape(len(images), -1), labels])
  expected = np.column_stack([load_digits().data, load_digits().target])
  np.testing.assert_array_equal(np.unique(found, axis=0), np.unique(expected, axis=0))


def test_paths_and_names(tmp_path, monkeypatch):
  """Home is found in paths, a name comes before a folder of that name, and an unknown one lists the choices."""
  monkeypatch.setenv('HOME', str(tmp_path))
  path = write_images(tmp_path / 'images.npz')
  assert load('~/images.npz').fingerprint == load(path).fingerprint
  (tmp_path / 'digits').mkdir()
  monkeypatch.chdir(tmp_path)
  assert load('digits').levels == 17
  with pytest.raises(UsageError, match=r'^digits: expected '):
    load('./digits')
  names = 'digits, mnist, fashion_mnist, cifar10, svhn_cropped'
  message = rf"^`dataset` must be one of {names}, another data set of TFDS, a folder .*'mnits'; did you mean mnist\?$"
  with pytest.raises(UsageError, match=message):
    load('mnits')


def test_paths_that_are_not_utf8_are_rejected(tmp_path, monkeypatch):
  folder = tmp_path / 'b\udcff'  # The byte FF, as Python writes it.
  folder.mkdir()
  write_images(folder / 'images.npz')
  link = tmp_path / 'link'
  link.symlink_to(folder)
  monkeypatch.chdir(folder)
  for path in (f'{folder}', 'images.npz', f'{link}'):
    with pytest.raises(UsageError, match=r'/b\\xff.*: cannot be used as data \(its path must be UTF-8\)$'):
      load(path)
  assert load('digits').levels == 17


def test_what_is_not_resized(tmp_path):
  np.save(tmp_path / 'train.npy', np.zeros((3, 4, 4, 1), np.uint8))
  for dataset in ('digits', str(tmp_path)):
    with pytest.raises(UsageError, match=rf'^`image_size` must be 0 for {dataset}, .* Got: 8\.$'):
      load(dataset, image_size=8)


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'levels': 1}, '`m:f.levels` must be an integer from 2 to 256, or None for a table. Got: 1'),
    ({'levels': None}, r"`m:f.train.images` must be float32 \[n, d\] for `levels` None. Got: 'uint8"),
    ({'levels': 17}, '`m:f.test.images` must be at most 16 for `levels` 17. Got: 59'),
    ({'test': None}, '`m:f.test` must be a `flowgan_tf.data.Split`. Got: None'),
    (
      {'train': Split(np.zeros((9, 2, 2, 1)), None)},
      r"`m:f.train.images` must be uint8 .* Got: 'float64 \(9, 2, 2, 1\)'",
    ),
    (
      {'train': Split(np.zeros((9, 2, 2), np.uint8), None)},
      r'`m:f.train.images` must be uint8 \[n, height, width, 1 or 3\]',
    ),
    ({'train': Split(numbered(9).images, np.arange(8))}, r'm:f.train.labels: expected labels as 9 integers from 0'),
    ({'train': Split(numbered(9).images, None)}, 'm:f: expected labels for all splits or for none'),
    ({'num_classes': None}, '`m:f.num_classes` must be an integer of at least 60, as labels go from 0. Got: None'),
    ({'num_classes': 59}, '`m:f.num_classes` must be an integer of at least 60'),
    (
      {'class_names': ('a', 'b')},
      r"`m:f.class_names` must be 60 different strings, a name for each class. Got: \('a', 'b'\)",
    ),
  ],
)
def test_a_field_of_a_data_set_that_is_wrong_is_named(changes, said):
  splits = (numbered(60).take(part) for part in (slice(0, 16), slice(16, 17), slice(17, 60)))
  dataset = Dataset('numbers', 256, *splits, num_classes=60)
  np.testing.assert_array_equal(check_dataset('m:f', dataset).test.labels, np.arange(17, 60))
  with pytest.raises(UsageError, match=f'^{said}'):
    check_dataset('m:f', dataclasses.replace(dataset, **changes))


def test_rows_of_a_data_set_must_be_finite():
  rows = Split(np.array([[0.0, np.nan]], np.float32), None)
  with pytest.raises(UsageError, match=r'^m:f\.train\.images: expected finite float32 numbers, got nan'):
    check_dataset('m:f', Dataset('rows', None, rows, rows, rows, num_classes=None))
