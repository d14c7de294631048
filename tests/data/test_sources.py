import numpy as np
import pytest
from sklearn.datasets import load_digits

from flowgan_tf.data import load
from flowgan_tf.errors import UsageError
from tests.tiny import write_images


def test_digits():
  dataset = load('digits')
  assert (dataset.name, dataset.levels, dataset.num_classes, dataset.image_shape) == ('digits', 17, 10, (8, 8, 1))
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [1437, 180, 180]
  splits = (dataset.train, dataset.validation, dataset.test)
  assert all(split.images.dtype == np.uint8 and split.labels.dtype == np.int64 for split in splits)
  images = np.concatenate([split.images for split in splits])
  labels = np.concatenate([split.labels for split in splits])
  found = np.column_stack([images.reshape(len(images), -1), labels])
  expected = np.column_stack([load_digits().data, load_digits().target])
  np.testing.assert_array_equal(np.unique(found, axis=0), np.unique(expected, axis=0))
  assert len(np.unique(expected, axis=0)) == len(found)
  # A random part of 180 misses one of ten classes with probability below 1e-7.
  assert all(set(split.labels) == set(range(10)) for split in splits)


def test_the_same_data_each_time():
  assert load('digits').fingerprint == load('digits').fingerprint


def test_home_is_found_in_paths(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  path = write_images(tmp_path / 'images.npz')
  assert load('~/images.npz').fingerprint == load(path).fingerprint


def test_a_name_comes_before_a_folder_of_that_name(tmp_path, monkeypatch):
  (tmp_path / 'digits').mkdir()
  monkeypatch.chdir(tmp_path)
  assert load('digits').levels == 17
  with pytest.raises(UsageError, match=r'^digits: holds no images'):
    load('./digits')


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


def test_unknown_name_lists_the_choices():
  names = 'digits, mnist, fashion_mnist, cifar10, svhn_cropped'
  with pytest.raises(
    UsageError, match=rf"^`dataset` must be one of {names}, another data set of TFDS, a folder .* Got: 'mnits'\.$"
  ):
    load('mnits')


def test_what_is_not_resized(tmp_path):
  np.save(tmp_path / 'train.npy', np.zeros((3, 4, 4, 1), np.uint8))
  for dataset in ('digits', str(tmp_path)):
    with pytest.raises(UsageError, match=rf'^`image_size` must be 0 for {dataset}, .* Got: 8\.$'):
      load(dataset, image_size=8)
