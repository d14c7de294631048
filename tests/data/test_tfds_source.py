import io
import json
import os
import pathlib
import re
import shutil
import socket
import sys

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from flowgan_tf import hosts
from flowgan_tf.data import load, tfds_source
from flowgan_tf.errors import UsageError

TRAIN, TEST = 60, 12


def prepare(root: pathlib.Path, name: str, version: str, first_label: int = 0) -> None:
  """Prepares a small data set with TFDS's own writer. The top left pixel of an image is its number."""

  def examples(n: int) -> tf.data.Dataset:
    images = np.zeros((n, 4, 4, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    return tf.data.Dataset.from_tensor_slices({'image': images, 'label': (first_label + np.arange(n)) % 10})

  tfds.dataset_builders.store_as_tfds_dataset(
    name=name,
    version=version,
    features=tfds.features.FeaturesDict(
      {'image': tfds.features.Image(shape=(4, 4, 1)), 'label': tfds.features.ClassLabel(num_classes=10)}
    ),
    split_datasets={'train': examples(TRAIN), 'test': examples(TEST)},
    data_dir=root,
    disable_shuffling=True,
  )


@pytest.fixture(scope='module')
def prepared(tmp_path_factory) -> pathlib.Path:
  root = tmp_path_factory.mktemp('prepared')
  for name in ('mnist', 'cifar10'):
    prepare(root, name, '3.0.1')
  return root


@pytest.fixture
def copy(prepared, tmp_path) -> pathlib.Path:
  """A copy of the prepared data that a test may damage."""
  return shutil.copytree(prepared, tmp_path / 'copy')


@pytest.fixture
def no_network(monkeypatch) -> None:
  def refuse(*args, **kwargs):
    raise AssertionError(f'the network was used: {args}')

  for target, name in ((socket.socket, 'connect'), (socket, 'create_connection'), (socket, 'getaddrinfo')):
    monkeypatch.setattr(target, name, refuse)
  monkeypatch.setattr(hosts, 'answers', refuse)


def numbers(split) -> np.ndarray:
  return split.images[:, 0, 0, 0]


def raises(dataset: str, data_dir, message: str) -> None:
  with pytest.raises(UsageError, match=message) as error:
    load(dataset, None if data_dir is None else str(data_dir))
  assert '\n' not in str(error.value)


@pytest.mark.usefixtures('no_network')
def test_mnist_validates_on_the_last_sixth(prepared):
  dataset = load('mnist', str(prepared))
  assert (dataset.name, dataset.levels, dataset.num_classes, dataset.image_shape) == ('mnist', 256, 10, (4, 4, 1))
  np.testing.assert_array_equal(numbers(dataset.train), np.arange(50))
  np.testing.assert_array_equal(numbers(dataset.validation), np.arange(50, 60))
  np.testing.assert_array_equal(numbers(dataset.test), np.arange(12))
  np.testing.assert_array_equal(dataset.validation.labels, np.arange(50, 60) % 10)
  assert dataset.train.labels.dtype == np.int64


@pytest.mark.usefixtures('no_network')
def test_cifar10_validates_on_a_random_tenth(prepared):
  dataset = load('cifar10', str(prepared))
  held_out = numbers(dataset.validation)
  assert len(held_out) == 6
  assert not np.array_equal(held_out, np.arange(54, 60))
  np.testing.assert_array_equal(np.sort(np.concatenate([numbers(dataset.train), held_out])), np.arange(60))
  np.testing.assert_array_equal(numbers(dataset.test), np.arange(12))
  np.testing.assert_array_equal(dataset.validation.labels, held_out % 10)


@pytest.mark.usefixtures('no_network')
def test_newest_version_counts_as_numbers_do(copy):
  prepare(copy, 'mnist', '10.0.0', first_label=5)
  (copy / 'mnist' / '11.0.0').mkdir()
  (copy / 'mnist' / '12.0.0.incompleteABC').mkdir()
  assert load('mnist', str(copy)).train.labels[0] == 5


@pytest.mark.usefixtures('no_network')
def test_folder_from_the_environment_and_from_home(prepared, tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(prepared))
  assert len(load('mnist').train) == len(load('mnist', '').train) == 50
  monkeypatch.delenv('TFDS_DATA_DIR')
  monkeypatch.setenv('HOME', str(tmp_path))
  shutil.copytree(prepared, tmp_path / 'tensorflow_datasets')
  assert len(load('mnist').train) == 50
  assert len(load('mnist', '~/tensorflow_datasets').train) == 50


def records_of(folder: pathlib.Path) -> pathlib.Path:
  return next(folder.glob('*-train.tfrecord*'))


def truncate_records(folder: pathlib.Path) -> None:
  os.truncate(records_of(folder), records_of(folder).stat().st_size // 2)


def flip_a_bit(folder: pathlib.Path) -> None:
  content = bytearray(records_of(folder).read_bytes())
  content[len(content) // 2] ^= 1
  records_of(folder).write_bytes(content)


def rewrite_records(folder: pathlib.Path, change) -> None:
  examples = [example.numpy() for example in tf.data.TFRecordDataset(str(records_of(folder)))]
  with tf.io.TFRecordWriter(str(records_of(folder))) as writer:
    for example in change(examples):
      writer.write(example)


def drop_test_split(folder: pathlib.Path) -> None:
  info = json.loads((folder / 'dataset_info.json').read_text())
  info['splits'] = [split for split in info['splits'] if split['name'] != 'test']
  (folder / 'dataset_info.json').write_text(json.dumps(info))


DAMAGES = {
  'truncated records': truncate_records,
  'a flipped bit': flip_a_bit,
  'empty records': lambda folder: os.truncate(records_of(folder), 0),
  'no records': lambda folder: records_of(folder).unlink(),
  'no test records': lambda folder: next(folder.glob('*-test.tfrecord*')).unlink(),
  'fewer records': lambda folder: rewrite_records(folder, lambda examples: examples[:-1]),
  'broken images': lambda folder: rewrite_records(
    folder, lambda examples: [example.replace(b'IDAT', b'IDAX') for example in examples]
  ),
  'broken examples': lambda folder: rewrite_records(folder, lambda examples: [b'text'] * len(examples)),
  'truncated info': lambda folder: os.truncate(folder / 'dataset_info.json', 100),
  'empty info': lambda folder: (folder / 'dataset_info.json').write_text(''),
  'info of nothing': lambda folder: (folder / 'dataset_info.json').write_text('{}'),
  'binary info': lambda folder: (folder / 'dataset_info.json').write_bytes(b'\xff\xfe'),
  'no test split': drop_test_split,
  'truncated features': lambda folder: os.truncate(folder / 'features.json', 50),
  'features of no type': lambda folder: (folder / 'features.json').write_text(
    (folder / 'features.json').read_text().replace('uint8', 'ui.t8')
  ),
  'nested features': lambda folder: (folder / 'features.json').write_text('[' * 100_000),
  'no features': lambda folder: (folder / 'features.json').unlink(),
}


@pytest.mark.usefixtures('no_network')
@pytest.mark.parametrize('damage', DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_data_name_their_folder(copy, damage):
  folder = copy / 'mnist' / '3.0.1'
  damage(folder)
  raises('mnist', copy, rf'{folder}: damaged data set \(\w+\); delete this folder and prepare mnist again$')


@pytest.mark.usefixtures('no_network')
def test_absent_data_dir(tmp_path):
  raises(
    'mnist',
    tmp_path / 'absent',
    r'^`data_dir` must be a folder with prepared TFDS data sets\. Got: \S+absent, which does not exist\.$',
  )


def test_unprepared_without_network_says_what_to_do(tmp_path, monkeypatch):
  def refuse(url, **options):
    raise requests.ConnectionError('Name or service not known')

  monkeypatch.setattr(requests, 'head', refuse)
  raises(
    'cifar10',
    tmp_path,
    rf'^cifar10: not prepared in {tmp_path}, and https://\S+/cifar-10-binary\.tar\.gz cannot be reached; '
    r"prepare it on .*tfds\.load\('cifar10', data_dir='DIR'\)"
    r"\", and pass DIR as `data_dir`, or use the `dataset` 'digits', which needs no download$",
  )
  assert not list(tmp_path.iterdir())


class Builder:
  """A stand-in for TFDS's builder in tests that must not download."""

  def __init__(self, name: str, data_dir: str):
    self.name, self.root = name, pathlib.Path(data_dir)
    self.data_dir = self.root / name / '3.0.1'

  def download_and_prepare(self) -> None:
    prepare(self.root, self.name, '3.0.1')


@pytest.fixture
def answering_host(monkeypatch) -> None:
  def answer(url, **options):
    response = requests.Response()
    response.status_code = 200
    return response

  monkeypatch.setattr(requests, 'head', answer)


@pytest.mark.usefixtures('answering_host')
def test_unprepared_with_network_is_prepared_once(tmp_path, monkeypatch):
  monkeypatch.setattr(tfds, 'builder', Builder)
  assert len(load('mnist', str(tmp_path)).validation) == 10
  monkeypatch.setattr(tfds, 'builder', None)
  assert len(load('mnist', str(tmp_path)).validation) == 10


@pytest.mark.usefixtures('answering_host')
@pytest.mark.parametrize(
  'error',
  [requests.ConnectionError('reset'), tfds.download.DownloadError('404'), OSError(28, 'No space left on device')],
)
def test_failed_download_says_what_to_do(tmp_path, monkeypatch, error):
  def fail(builder) -> None:
    raise error

  monkeypatch.setattr(tfds, 'builder', Builder)
  monkeypatch.setattr(Builder, 'download_and_prepare', fail)
  reason = re.escape(f'{type(error).__name__}: {error}')
  raises('mnist', tmp_path, rf'^mnist: download into {tmp_path} failed \({reason}\); try again')


def test_hosts_are_those_that_tfds_downloads_from():
  from tensorflow_datasets.datasets.svhn_cropped import svhn_cropped_dataset_builder
  from tensorflow_datasets.image_classification import mnist

  prefixes = {
    'mnist': mnist._MNIST_URL,
    'fashion_mnist': mnist.FashionMNIST.URL,
    'svhn_cropped': svhn_cropped_dataset_builder.URL,
  }
  for dataset, prefix in prefixes.items():
    assert tfds_source.DATASETS[dataset].startswith(prefix)
  source = pathlib.Path(sys.modules[tfds.image_classification.Cifar10.__module__].__file__).read_text()
  assert tfds_source.DATASETS['cifar10'] in source


@pytest.mark.usefixtures('no_network')
def test_mnist_itself(mnist_dir):
  dataset = load('mnist', mnist_dir)
  assert dataset.image_shape == (28, 28, 1)
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [50_000, 10_000, 10_000]
  # Pixel mean and standard deviation of the 60,000 training images, as they are usually quoted: 0.1307 and 0.3081.
  images = np.concatenate([dataset.train.images, dataset.validation.images])
  histogram = np.bincount(images.ravel(), minlength=256) / images.size
  levels = np.arange(256) / 255
  mean = histogram @ levels
  assert mean == pytest.approx(0.1307, abs=5e-5)
  assert np.sqrt(histogram @ (levels - mean) ** 2) == pytest.approx(0.3081, abs=5e-5)
  # Class counts of LeCun's test set.
  np.testing.assert_array_equal(
    np.bincount(dataset.test.labels), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
  )


@pytest.mark.usefixtures('no_network')
def test_cifar10_sample(cifar10_sample_dir):
  dataset = load('cifar10', cifar10_sample_dir)
  assert (dataset.name, dataset.levels, dataset.num_classes, dataset.image_shape) == ('cifar10', 256, 10, (32, 32, 3))
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [3_150, 350, 500]
  assert len(np.unique(np.concatenate([dataset.train.images, dataset.validation.images]), axis=0)) == 3_500
  for split in (dataset.train, dataset.validation, dataset.test):
    assert split.images.dtype == np.uint8 and split.images.shape[1:] == (32, 32, 3)
    assert split.labels.dtype == np.int64 and set(split.labels) == set(range(10))
  # The records themselves, read with Pillow.
  (folder,) = pathlib.Path(cifar10_sample_dir, 'cifar10').iterdir()
  records = tf.data.TFRecordDataset(str(next(folder.glob('*-test.tfrecord*'))))
  features = [tf.train.Example.FromString(record.numpy()).features.feature for record in records]
  images = [np.asarray(Image.open(io.BytesIO(feature['image'].bytes_list.value[0]))) for feature in features]
  np.testing.assert_array_equal(dataset.test.images, images)
  np.testing.assert_array_equal(dataset.test.labels, [feature['label'].int64_list.value[0] for feature in features])


@pytest.mark.usefixtures('no_network')
@pytest.mark.parametrize('damage', ['truncated records', 'a flipped bit', 'no test records', 'truncated info'])
def test_damaged_cifar10_sample(cifar10_sample_dir, tmp_path, damage):
  (original,) = pathlib.Path(cifar10_sample_dir, 'cifar10').iterdir()
  folder = tmp_path / 'cifar10' / original.name
  folder.mkdir(parents=True)
  for file in original.iterdir():
    shutil.copyfile(file, folder / file.name)  # Without its mode, because the original may be read-only.
  DAMAGES[damage](folder)
  raises('cifar10', tmp_path, rf'^{folder}: damaged data set \(\w+\); delete this folder and prepare cifar10 again$')
