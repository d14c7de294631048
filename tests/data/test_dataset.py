"""Splits, fingerprints and resizing, and which source a name stands for."""

import dataclasses
import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flowgan_tf.data import Dataset, Split, load
from flowgan_tf.data.dataset import crop_and_resize, hold_out, three_way
from flowgan_tf.errors import UsageError
from tests.data.loading import joined
from tests.tiny import write_images


def numbered(n: int) -> Split:
  """Images and labels that carry their own number."""
  numbers = np.arange(n)
  return Split((numbers % 256).astype(np.uint8).reshape(n, 1, 1, 1), numbers.astype(np.int64))


@pytest.mark.parametrize('shuffle', [False, True])
@pytest.mark.parametrize('labels', [False, True])
def test_hold_out_divides_without_loss(labels, shuffle):
  for n, fraction, expected in ((60, 1 / 6, 10), (2, 1 / 10, 1)):
    everything = numbered(n) if labels else Split(numbered(n).images, None)
    parts = hold_out(everything, fraction, shuffle, 'source')
    assert [len(part) for part in parts] == [n - expected, expected]
    found = [part.images.ravel() for part in parts]
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(n))
    for part, pixels in zip(parts, found, strict=True):
      assert np.all(np.diff(pixels) > 0)
      assert np.array_equal(part.labels, pixels) if labels else part.labels is None


def test_hold_out_takes_the_last_or_a_fixed_random_part():
  _, last = hold_out(numbered(60), 1 / 6, shuffle=False, source='source')
  np.testing.assert_array_equal(last.labels, np.arange(50, 60))
  _, random = hold_out(numbered(60), 1 / 6, shuffle=True, source='source')
  # Written down, so that no later version moves the border between training and validation.
  np.testing.assert_array_equal(random.labels, [2, 3, 6, 11, 18, 21, 35, 36, 52, 59])
  with pytest.raises(UsageError, match=r'few\.npz: expected at least 2 images to divide, got 1'):
    hold_out(numbered(1), 1 / 10, shuffle=True, source='few.npz')


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


def test_fingerprint_tells_every_part():
  whole = Dataset('name', 256, numbered(4), numbered(2), numbered(2), num_classes=4)
  other, relabelled = numbered(4), numbered(4)
  other.images[3, 0, 0, 0] += 1
  relabelled.labels[3] += 1
  changes = [
    {},
    {'name': 'other'},
    {'levels': 17},
    {'train': other},
    {'train': relabelled},
    {'train': Split(numbered(4).images, None)},
    {'train': Split(numbered(4).images.reshape(2, 2, 1, 1), numbered(4).labels)},
    {'train': numbered(2), 'validation': numbered(4)},
  ]
  assert len({dataclasses.replace(whole, **change).fingerprint for change in changes}) == len(changes)


def test_fingerprint_is_the_hash_of_name_levels_and_arrays():
  """Written down, since it is part of the names of cache files."""
  splits = [Split(np.full((1, 1, 1, 1), value, np.uint8), None) for value in (7, 8, 9)]
  arrays = ''.join(f' |u1 (1, 1, 1, 1) {chr(value)} none' for value in (7, 8, 9))
  expected = hashlib.sha256(f'name 17{arrays}'.encode()).hexdigest()
  assert Dataset('name', 17, *splits, num_classes=None).fingerprint == expected
  # The layout in memory does not count.
  images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 2)).astype(np.uint8)
  layouts = images, np.asfortranarray(images), images[:, ::-1].copy()[:, ::-1]
  datasets = [Dataset('name', 256, *3 * [Split(layout, None)], num_classes=None) for layout in layouts]
  assert len({dataset.fingerprint for dataset in datasets}) == 1
  assert datasets[0].image_shape == (4, 5, 2)


def test_what_lies_beyond_the_square_does_not_count():
  """Folders of colour images are compared with Pillow elsewhere."""
  pixels = np.full((8, 16, 1), 255, np.uint8)
  pixels[:, 4:12] = 50
  np.testing.assert_array_equal(crop_and_resize(pixels, 4), np.full((4, 4, 1), 50))


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
  message = rf"^`dataset` must be one of {names}, another data set of TFDS, a folder .* Got: 'mnits'\.$"
  with pytest.raises(UsageError, match=message):
    load('mnits')


def test_paths_that_are_not_utf8_are_refused(tmp_path, monkeypatch):
  folder = tmp_path / 'b\udcff'  # The byte FF, as Python writes it.
  folder.mkdir()
  write_images(folder / 'images.npz')
  write_images(tmp_path / 'd\udcff.npz')
  monkeypatch.chdir(folder)
  for path in (f'{folder}', f'{folder}/images.npz', 'images.npz', f'{tmp_path}/d\udcff.npz'):
    with pytest.raises(UsageError, match=r'/[bd]\\xff.*: cannot be used as data \(its path must be UTF-8\)$') as error:
      load(path)
    assert str(error.value).isprintable()
  assert load('digits').levels == 17


def test_what_is_not_resized(tmp_path):
  np.save(tmp_path / 'train.npy', np.zeros((3, 4, 4, 1), np.uint8))
  for dataset in ('digits', str(tmp_path)):
    with pytest.raises(UsageError, match=rf'^`image_size` must be 0 for {dataset}, .* Got: 8\.$'):
      load(dataset, image_size=8)
