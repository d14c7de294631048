"""Data sets of TFDS beyond the four whose splits are those of the literature."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from flowgan_tf import hosts
from flowgan_tf.data import array_folders, load, stored_images
from flowgan_tf.data.stored_images import StoredImages
from flowgan_tf.errors import UsageError
from tests.data.loading import joined

LENGTHS = {'train': 40, 'validation': 7, 'test': 9}
SHAPE = (4, 5, 3)


@pytest.fixture(autouse=True)
def no_network(monkeypatch) -> None:
  def refuse(*args, **kwargs):
    raise AssertionError(f'the network was used: {args}')

  monkeypatch.setattr(hosts, 'answers', refuse)


def prepare(
  root: pathlib.Path,
  name: str = 'faces',
  splits=('train', 'validation', 'test'),
  shape=SHAPE,
  sizes=None,
  label: int | None = 0,
  file_format: str = 'tfrecord',
) -> None:
  """Prepares a data set with TFDS's own writer. The top left pixel of an image is its number, over all splits."""
  has_labels = label is not None
  features = {'picture': tfds.features.Image(shape=shape)}
  if has_labels:
    features['label'] = tfds.features.ClassLabel(num_classes=300)

  def examples(split: str) -> tf.data.Dataset:
    first = sum(list(LENGTHS.values())[: list(LENGTHS).index(split)])

    def generate():
      for number in range(first, first + LENGTHS[split]):
        height, width = sizes[number % len(sizes)] if sizes else SHAPE[:2]
        image = np.full((height, width, SHAPE[2]), 100, np.uint8)
        image[0, 0] = number
        yield {'picture': image} | ({'label': number + label} if has_labels else {})

    signature = {'picture': tf.TensorSpec((None, None, SHAPE[2]), tf.uint8)}
    if has_labels:
      signature['label'] = tf.TensorSpec((), tf.int64)
    return tf.data.Dataset.from_generator(generate, output_signature=signature)

  name, _, config = name.partition('/')
  tfds.dataset_builders.store_as_tfds_dataset(
    name=name,
    config=config or None,
    version='1.0.0',
    features=tfds.features.FeaturesDict(features),
    split_datasets={split: examples(split) for split in splits},
    data_dir=root,
    disable_shuffling=True,
    file_format=file_format,
  )


def numbers(split) -> np.ndarray:
  return split.images[:][:, 0, 0, 0]


def raises(root, message: str, dataset: str = 'faces', **arguments) -> None:
  with pytest.raises(UsageError, match=message) as error:
    load(dataset, str(root), **arguments)
  assert '\n' not in str(error.value)


@pytest.fixture(params=['in memory', 'in files'])
def stored(request, monkeypatch) -> bool:
  if request.param == 'in files':
    monkeypatch.setattr(stored_images, 'IN_MEMORY', 0)
  return request.param == 'in files'


def test_three_splits_are_taken_as_they_are(tmp_path, stored):
  prepare(tmp_path)
  dataset = load('faces', str(tmp_path))
  assert (dataset.name, dataset.levels, dataset.num_classes, dataset.image_shape) == ('faces', 256, 300, SHAPE)
  first = 0
  for name, length in LENGTHS.items():
    split = getattr(dataset, name)
    assert isinstance(split.images, StoredImages) == stored
    np.testing.assert_array_equal(numbers(split), np.arange(first, first + length))
    np.testing.assert_array_equal(split.labels, np.arange(first, first + length))
    assert split.labels.dtype == np.int64
    first += length


@pytest.mark.parametrize('other', ['test', 'validation'])
def test_of_two_splits_a_random_tenth_of_train_validates(tmp_path, stored, other):
  prepare(tmp_path, splits=('train', other))
  dataset = load('faces', str(tmp_path))
  held_out = numbers(dataset.validation)
  assert len(held_out) == 4
  assert not np.array_equal(held_out, np.arange(36, 40))
  np.testing.assert_array_equal(np.sort(np.concatenate([numbers(dataset.train), held_out])), np.arange(40))
  assert len(dataset.test) == LENGTHS[other]
  assert numbers(dataset.test).min() >= 40
  for split in (dataset.train, dataset.validation, dataset.test):
    assert np.all(np.diff(numbers(split).astype(int)) > 0)
    np.testing.assert_array_equal(numbers(split), split.labels)


def test_train_alone_is_divided_in_three(tmp_path, stored):
  prepare(tmp_path, splits=('train',), label=None)
  dataset = load('faces', str(tmp_path))
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [32, 4, 4]
  parts = [numbers(split) for split in (dataset.train, dataset.validation, dataset.test)]
  np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(40))
  assert dataset.num_classes is None
  assert dataset.train.labels is None


def test_array_records_are_read_as_well(tmp_path, stored):
  prepare(tmp_path / 'a')
  prepare(tmp_path / 'b', file_format='array_record')
  a, b = load('faces', str(tmp_path / 'a')), load('faces', str(tmp_path / 'b'))
  assert a.fingerprint == b.fingerprint
  assert load('faces', str(tmp_path / 'b'), image_size=4).image_shape == (4, 4, 3)


def test_files_hold_what_memory_would(tmp_path, monkeypatch):
  prepare(tmp_path, splits=('train', 'test'))
  in_memory = load('faces', str(tmp_path))
  monkeypatch.setattr(stored_images, 'IN_MEMORY', 0)
  in_files = load('faces', str(tmp_path))
  assert in_files.fingerprint == in_memory.fingerprint
  assert sorted(path.name for path in (tmp_path / 'flowgan_tf' / 'faces').iterdir()) == ['1.0.0']
  # They are written once, and read from there even if they would fit into memory.
  monkeypatch.undo()
  monkeypatch.setattr(array_folders, '_write_images', None)
  assert load('faces', str(tmp_path)).fingerprint == in_memory.fingerprint


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
  prepare(tmp_path)
  monkeypatch.setattr(stored_images, 'IN_MEMORY', 0)

  def full(*arguments):
    raise OSError(28, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(np, 'save', full)
    raises(tmp_path, rf'^{tmp_path}/flowgan_tf/faces/1\.0\.0: cannot be written \(No space left on device\)$')
  assert not list((tmp_path / 'flowgan_tf' / 'faces').iterdir())
  assert len(load('faces', str(tmp_path)).train) == 40


def test_a_disk_without_room(tmp_path, monkeypatch):
  prepare(tmp_path)
  monkeypatch.setattr(stored_images, 'IN_MEMORY', 0)
  monkeypatch.setattr('shutil.disk_usage', lambda path: type('Usage', (), {'free': 3359}))
  raises(tmp_path, rf'^{tmp_path}/flowgan_tf/faces/1\.0\.0: needs 0\.0 GB of disk, of which 0\.0 GB are free$')


def test_labels_that_some_images_lack(tmp_path, stored):
  prepare(tmp_path, label=-1)
  dataset = load('faces', str(tmp_path))
  assert dataset.num_classes is None
  assert dataset.train.labels is dataset.test.labels is None
  assert len(dataset.train) == 40


def test_images_of_several_shapes_are_refused_or_resized(tmp_path, stored, caplog):
  prepare(tmp_path, shape=(None, None, 3), sizes=[(8, 8), (8, 10)])
  raises(
    tmp_path,
    r'^faces: expected images of one shape, got \[8, 8, 3\] and \[8, 10, 3\]; to crop and resize all of them, set '
    r'`image_size`, for example to 64$',
  )
  caplog.set_level('INFO', 'flowgan_tf')
  dataset = load('faces', str(tmp_path), image_size=8)
  assert dataset.image_shape == (8, 8, 3)
  assert 'faces: images are cropped to their central square and resized to 8 x 8 (Lanczos).' in caplog.messages
  images, labels = joined(dataset)
  images = images[np.argsort(labels)]
  # Of 10 columns the first, which has the number, is cropped.
  np.testing.assert_array_equal(images[::2, 0, 0, 0], np.arange(0, 56, 2))
  assert np.all(images[1::2] == 100)
  smaller = load('faces', str(tmp_path), image_size=4)
  assert smaller.image_shape == (4, 4, 3)
  assert smaller.fingerprint != dataset.fingerprint


def test_images_of_no_declared_shape_may_have_one(tmp_path, stored):
  prepare(tmp_path, shape=(None, None, 3))
  dataset = load('faces', str(tmp_path))
  assert dataset.image_shape == SHAPE
  np.testing.assert_array_equal(numbers(dataset.train), np.arange(40))


def test_the_four_can_be_resized(tmp_path):
  prepare(tmp_path, 'mnist', splits=('train', 'test'))
  assert load('mnist', str(tmp_path), image_size=2).image_shape == (2, 2, 3)


def test_configurations(tmp_path):
  prepare(tmp_path, 'faces/large')
  dataset = load('faces/large', str(tmp_path))
  assert dataset.name == 'faces/large'
  assert len(dataset.train) == 40
  raises(tmp_path, r'^faces: must have a configuration of faces, such as faces/large$')
  raises(tmp_path, r'^faces/small: must have a configuration of faces, such as faces/large$', 'faces/small')
  raises(tmp_path, r'^emnist: must have a configuration of emnist, such as emnist/byclass$', 'emnist')
  raises(tmp_path, r'^food101/small: must be food101, which has no configurations$', 'food101/small')


def test_a_folder_comes_before_a_name(tmp_path, monkeypatch):
  prepare(tmp_path)
  (tmp_path / 'here' / 'faces').mkdir(parents=True)
  monkeypatch.chdir(tmp_path / 'here')
  raises(tmp_path, r'^faces: holds no images; ')


def test_data_that_are_no_images(tmp_path):
  raises(tmp_path, r'^ag_news_subset: expected one feature of images, got no images but ', 'ag_news_subset')
  assert not list(tmp_path.iterdir())


def test_splits_without_train(tmp_path):
  prepare(tmp_path, splits=('validation', 'test'))
  raises(tmp_path, r"^faces: expected a split 'train', got (validation, test|test, validation)$")


def test_names_that_nobody_has(tmp_path):
  for name in ('facs', 'no_such/data'):
    raises(tmp_path, rf"^`dataset` must be one of digits, .* Got: '{name}'\.$", name)


def test_unprepared_data_whose_host_does_not_answer(tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr(hosts, 'answers', lambda url, **options: asked.append((url, options)))
  raises(
    tmp_path,
    rf'^food101: not prepared in {re.escape(str(tmp_path))}, and http://\S+/food-101\.tar\.gz cannot be reached; '
    r"prepare it on .*tfds\.load\('food101', data_dir='DIR'\)",
    'food101',
  )
  assert asked == [('http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz', {'offers_file': False})]
  assert not list(tmp_path.iterdir())
