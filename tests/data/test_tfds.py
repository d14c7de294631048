"""Data sets of TFDS: prepared ones, those to download, and whether a host answers."""

import http.server
import io
import json
import os
import pathlib
import shutil
import socket
import threading
import time
import types
from unittest import mock

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets
from PIL import Image

from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import StoredImages, arrays, load, tfds
from tests.data.loading import joined
from tests.programs.conftest import UNSCORED, call

LENGTHS = {'train': 40, 'validation': 7, 'test': 9}
SHAPE = (4, 5, 3)


def reject(*args, **kwargs):
  raise AssertionError(f'the network was used: {args}')


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  connect = socket.socket.connect
  monkeypatch.setattr(socket.socket, 'connect', lambda s, to: (connect if to[0] == '127.0.0.1' else reject)(s, to))
  monkeypatch.setattr(tfds, 'host_answers', reject)
  monkeypatch.setenv('NO_PROXY', '*')


def prepare(
  root: pathlib.Path,
  name: str = 'faces',
  *,
  splits=('train', 'validation', 'test'),
  shape=SHAPE,
  sizes=(SHAPE[:2],),
  label: int | None = 0,
  version: str = '1.0.0',
  file_format: str = 'tfrecord',
) -> pathlib.Path:
  """Prepares a data set with TFDS's own writer. The top left pixel of an image is its number, over all splits."""
  features = {'picture': tensorflow_datasets.features.Image(shape=shape)}
  signature = {'picture': tf.TensorSpec((None, None, SHAPE[2]), tf.uint8)}
  if label is not None:
    features['label'] = tensorflow_datasets.features.ClassLabel(names=[f'face {i}' for i in range(300)])
    signature['label'] = tf.TensorSpec((), tf.int64)

  def examples(split: str) -> tf.data.Dataset:
    first = sum(list(LENGTHS.values())[: list(LENGTHS).index(split)])

    def generate():
      for number in range(first, first + LENGTHS[split]):
        image = np.full((*sizes[number % len(sizes)], SHAPE[2]), 100, np.uint8)
        image[0, 0] = number
        yield {'picture': image} | ({'label': number + label} if label is not None else {})

    return tf.data.Dataset.from_generator(generate, output_signature=signature)

  name, _, config = name.partition('/')
  tensorflow_datasets.dataset_builders.store_as_tfds_dataset(
    name=name,
    config=config or None,
    version=version,
    features=tensorflow_datasets.features.FeaturesDict(features),
    split_datasets={split: examples(split) for split in splits},
    data_dir=root,
    disable_shuffling=True,
    file_format=file_format,
  )
  return root / name / config / version


def parts(dataset) -> tuple:
  return dataset.train, dataset.validation, dataset.test


def numbers(split) -> np.ndarray:
  return split.images[:][:, 0, 0, 0]


def raises(root, message: str, dataset: str = 'faces') -> None:
  with pytest.raises(UsageError, match=message) as error:
    load(dataset, str(root))
  assert '\n' not in str(error.value)


def load_both(root, dataset: str = 'faces', **arguments):
  """Loads into memory and opens from files, which must be the same."""
  found = load(dataset, str(root), **arguments)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(arrays, 'IN_MEMORY', 0)
    stored = load(dataset, str(root), **arguments)
  assert isinstance(stored.test.images, StoredImages) and isinstance(found.test.images, np.ndarray)
  assert (stored.name, stored.num_classes, stored.fingerprint) == (found.name, found.num_classes, found.fingerprint)
  return found


# Prepared data.


@pytest.fixture(scope='module')
def prepared(tmp_path_factory) -> pathlib.Path:
  root = tmp_path_factory.mktemp('prepared')
  for name in ('faces', 'mnist', 'fashion_mnist', 'cifar10'):
    prepare(root, name, splits=LENGTHS if name == 'faces' else ('train', 'test'))
  return root


@pytest.fixture
def copy(prepared, tmp_path) -> pathlib.Path:
  return shutil.copytree(prepared, tmp_path / 'copy')


def test_three_splits_are_taken_as_they_are(copy, monkeypatch):
  dataset = load_both(copy)
  assert (dataset.name, dataset.levels, dataset.num_classes, dataset.image_shape) == ('faces', 256, 300, SHAPE)
  assert dataset.class_names[299] == 'face 299'
  assert [len(split) for split in parts(dataset)] == list(LENGTHS.values())
  images, labels = joined(dataset)
  np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(56))
  np.testing.assert_array_equal(labels, np.arange(56))
  assert dataset.train.labels.dtype == np.int64
  # The files are written once, and read even if their images would fit into memory.
  [stored] = (copy / 'flowgan_tf' / 'faces').iterdir()
  assert stored.name.startswith('1.0.0-0-')
  monkeypatch.setattr(arrays, 'write_array_folder', None)
  assert load('faces', str(copy)).fingerprint == dataset.fingerprint


@pytest.mark.parametrize('label', [0, None])
def test_decoded_images_are_kept(tmp_path, monkeypatch, label):
  root, cache = tmp_path / 'root', tmp_path / 'cache'
  records = prepare(root, label=label)

  def facts(cache_dir=None):
    found = load('faces', str(root), cache_dir=cache_dir)
    return found.fingerprint, found.num_classes, found.class_names

  expected = facts()
  assert facts(cache) == expected
  [file] = cache.iterdir()
  with monkeypatch.context() as patch:
    patch.setattr(tfds, '_read', reject)
    assert facts(cache) == expected
    os.utime(next(records.glob('*.tfrecord*')), (0, 0))  # The source may have changed.
    with pytest.raises(UsageError, match='damaged data set'):
      facts(cache)
  assert facts(cache) == expected
  [other] = {*cache.iterdir()} - {file}
  other.write_bytes(other.read_bytes()[:-100])
  assert facts(cache) == expected
  monkeypatch.setattr(arrays, 'IN_MEMORY', 0)  # Too much for the cache.
  assert facts(tmp_path / 'other') == expected


@pytest.mark.parametrize(('other', 'sizes'), [(['test'], [36, 4, 9]), (['validation'], [36, 4, 7]), ([], [32, 4, 4])])
def test_missing_splits_are_drawn_from_train(tmp_path, other, sizes):
  prepare(tmp_path, splits=['train', *other])
  dataset = load_both(tmp_path)
  assert list(map(len, parts(dataset))) == sizes
  held_out = np.concatenate(list(map(numbers, parts(dataset)[1 : 3 - len(other)])))
  assert not np.array_equal(held_out, np.arange(40 - len(held_out), 40))
  np.testing.assert_array_equal(np.sort(np.concatenate([numbers(dataset.train), held_out])), np.arange(40))
  assert not other or numbers(dataset.test).min() >= 40
  for split in parts(dataset):
    assert np.all(np.diff(numbers(split).astype(int)) > 0)
    np.testing.assert_array_equal(numbers(split), split.labels)


def test_mnist_validates_on_the_last_sixth_and_cifar10_on_a_random_tenth(prepared):
  for name in ('mnist', 'fashion_mnist'):
    for split, expected in zip(parts(load(name, str(prepared))), [(0, 33), (33, 40), (47, 56)], strict=True):
      np.testing.assert_array_equal(numbers(split), np.arange(*expected))
  cifar10 = load('cifar10', str(prepared))
  assert len(cifar10.validation) == 4 and not np.array_equal(numbers(cifar10.validation), np.arange(36, 40))
  assert load('mnist', str(prepared), image_size=2).image_shape == (2, 2, 3)


@pytest.mark.slow
def test_a_variant_for_fashion_mnist_starts_from_its_run(tmp_path, monkeypatch):
  root = tmp_path / 'data'
  prepare(root, 'fashion_mnist', splits=('train', 'test'), label=None)
  monkeypatch.chdir(tmp_path)
  flags = [*UNSCORED, f'--data_dir={root}', f'--config.cache_dir={tmp_path}', '--config.nice.components=2']
  flags += ['--evaluate=false']
  outcome = call('train', *flags, '--config=configs/fashion_mnist.py')
  assert outcome.status == 0, outcome.err
  start = ['--config.dcgan_critic.channels=(4,)', '--config.critic_warmup=0', '--objective=hybrid']
  outcome = call('train', *flags, '--config=configs/fashion_mnist.py:hybrid', *start)
  assert outcome.status == 0, outcome.err
  run = pathlib.Path('runs/fashion_mnist-hybrid-0.02')
  start = json.loads((run / 'config.json').read_text())['init']['run']
  assert pathlib.Path(start) == tmp_path / 'runs' / 'fashion_mnist-mle'


def test_array_records_and_images_without_labels(prepared, tmp_path, caplog):
  prepare(tmp_path / 'array_record', file_format='array_record')
  assert load_both(tmp_path / 'array_record').fingerprint == load('faces', str(prepared)).fingerprint
  # Of no declared shape, and one without a label.
  prepare(tmp_path / 'other', shape=(None, None, 3), label=-1)
  caplog.set_level('INFO', 'flowgan_tf')
  dataset = load_both(tmp_path / 'other')
  assert dataset.num_classes is dataset.train.labels is dataset.test.labels is None
  assert 'faces: the image at position 0 has no label. The package therefore ignores all labels.' in caplog.messages
  assert dataset.image_shape == SHAPE
  np.testing.assert_array_equal(joined(dataset)[0][:, 0, 0, 0], np.arange(56))


def test_images_of_several_shapes_are_rejected_or_resized(tmp_path, caplog):
  prepare(tmp_path, shape=(None, None, 3), sizes=[(8, 8), (8, 10)])
  raises(
    tmp_path,
    r'^faces: expected images of one shape, got \[8, 8, 3\] and \[8, 10, 3\]; to crop and resize all of them, set '
    r'`image_size`, for example to 64$',
  )
  caplog.set_level('INFO', 'flowgan_tf')
  dataset = load_both(tmp_path, image_size=8)
  assert 'faces: images are cropped to their central square and resized to 8 x 8 (Lanczos).' in caplog.messages
  images, labels = joined(dataset)
  images = images[np.argsort(labels)]
  # Of 10 columns the first, which has the number, is cropped.
  np.testing.assert_array_equal(images[::2, 0, 0, 0], np.arange(0, 56, 2))
  assert np.all(images[1::2] == 100)
  assert load_both(tmp_path, image_size=4).image_shape == (4, 4, 3)  # These files are not those of size 8.


def test_a_large_data_set_that_is_prepared_again_is_read_again(copy, monkeypatch):
  monkeypatch.setattr(arrays, 'IN_MEMORY', 0)
  before = load('faces', str(copy))
  shutil.rmtree(copy / 'faces')
  prepare(copy, label=7)
  assert load('faces', str(copy)).fingerprint != before.fingerprint


def test_files_that_cannot_be_written_leave_nothing(copy, monkeypatch):
  monkeypatch.setattr(arrays, 'IN_MEMORY', 0)
  with monkeypatch.context() as patch:
    patch.setattr('shutil.disk_usage', lambda path: types.SimpleNamespace(free=3359))
    raises(copy, rf'^{copy}/flowgan_tf/faces/1\.0\.0-0-\w+-v1: needs 0\.0 GB of disk, of which 0\.0 GB are free$')
  monkeypatch.setattr(np, 'save', mock.Mock(side_effect=OSError(28, 'No space left on device')))
  raises(copy, rf'^{copy}/flowgan_tf/faces/1\.0\.0-0-\w+-v1: cannot be written \(No space left on device\)$')
  assert not list((copy / 'flowgan_tf' / 'faces').iterdir())


def test_the_newest_version_counts_as_numbers_do(copy):
  prepare(copy, label=7, version='10.0.0')
  prepare(copy, label=8, version='9.0.0')
  (copy / 'faces' / '11.0.0').mkdir()
  shutil.copytree(copy / 'faces' / '9.0.0', copy / 'faces' / '12.0.0.incompleteABC')
  assert load('faces', str(copy)).train.labels[0] == 7


def test_folder_from_the_environment_and_from_home(copy, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(copy))
  assert len(load('mnist').train) == len(load('mnist', '').train) == 33
  monkeypatch.delenv('TFDS_DATA_DIR')
  monkeypatch.setenv('HOME', str(copy.parent))
  copy.rename(copy.parent / 'tensorflow_datasets')
  assert len(load('mnist').train) == len(load('mnist', '~/tensorflow_datasets').train) == 33
  raises('~/absent', r'^`data_dir` must be a folder with prepared TFDS data sets\. Got: ~/absent, which does not exist')
  # A folder comes before a name.
  (copy.parent / 'faces').mkdir()
  monkeypatch.chdir(copy.parent)
  raises(copy.parent, r'^faces: expected \.png')


def records(folder: pathlib.Path, split: str = 'train') -> pathlib.Path:
  return next(folder.glob(f'*-{split}.tfrecord*'))


def drop_a_record(folder: pathlib.Path) -> None:
  *kept, _ = [example.numpy() for example in tf.data.TFRecordDataset(str(records(folder)))]
  with tf.io.TFRecordWriter(str(records(folder))) as writer:
    for example in kept:
      writer.write(example)


def drop_test_split(folder: pathlib.Path) -> None:
  info = json.loads((folder / 'dataset_info.json').read_text())
  info['splits'] = [split for split in info['splits'] if split['name'] != 'test']
  (folder / 'dataset_info.json').write_text(json.dumps(info))


@pytest.mark.parametrize('damage', [drop_a_record, drop_test_split])
def test_damaged_data_name_their_folder(copy, damage):
  folder = copy / 'mnist' / '1.0.0'
  damage(folder)
  raises(copy, rf'{folder}: damaged data set \(\w+\); delete this folder and prepare mnist again$', 'mnist')


# What cannot be had.


def test_names_and_configurations(tmp_path, monkeypatch):
  monkeypatch.setattr(tfds, 'host_answers', lambda url: True)
  prepare(tmp_path, 'faces/large')
  dataset = load('faces/large', str(tmp_path))
  assert (dataset.name, len(dataset.train)) == ('faces/large', 40)
  for name in ('no_such/data', 'faces//large'):
    raises(tmp_path, rf"^`dataset` must be one of digits, .* Got: '{name}'\.$", name)
  raises(tmp_path, r'^emnist: must have a configuration, such as emnist/byclass$', 'emnist')
  raises(tmp_path, r'^ag_news_subset: expected one feature of images, got 0 among ', 'ag_news_subset')
  prepare(tmp_path, splits=('validation', 'test'))
  raises(tmp_path, r"^faces: expected a split 'train', got (validation, test|test, validation)$")


def test_unprepared_data_whose_host_does_not_answer(tmp_path, monkeypatch):
  monkeypatch.setattr(
    tfds, 'host_answers', lambda url: url != 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz'
  )
  raises(
    tmp_path,
    rf'^cifar10: not prepared in {tmp_path}, and http\S+\.tar\.gz cannot be reached; prepare it on another machine, '
    r"python -c .*tfds\.load\('cifar10', data_dir='DIR'\)\", and set the environment variable "
    r'TFDS_DATA_DIR to DIR, or use the `dataset` '
    "'digits', which needs no download$",
    'cifar10',
  )
  assert not list(tmp_path.iterdir())


# Data sets that are prepared here.


class Squares(tensorflow_datasets.core.GeneratorBasedBuilder):
  """A data set that TFDS knows by the name of this class."""

  VERSION = tensorflow_datasets.core.Version('1.0.0')
  generated, broken = 0, None

  def _info(self):
    features = tensorflow_datasets.features.FeaturesDict({'image': tensorflow_datasets.features.Image(shape=SHAPE)})
    return self.dataset_info_from_configs(features=features)

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    Squares.generated += 1
    for i in range(20):
      yield i, {'image': np.full(SHAPE, i, np.uint8)}
    if Squares.broken:
      raise Squares.broken


def test_a_data_set_is_prepared_once(tmp_path, monkeypatch):
  monkeypatch.setattr(Squares, 'broken', EOFError('cut off\nin two'))
  for _ in range(2):  # What the first try leaves behind must not be taken for prepared data.
    raises(
      tmp_path,
      rf'^squares: cannot be prepared in {tmp_path} \(EOFError: .*\); try again, without {tmp_path}/downloads if a '
      'file there is damaged, or prepare it on another machine, .*, and set the environment '
      'variable TFDS_DATA_DIR to DIR$',
      'squares',
    )
  monkeypatch.setattr(Squares, 'broken', None)
  monkeypatch.setattr(Squares, 'generated', 0)
  for _ in range(2):
    images, labels = joined(load('squares', str(tmp_path)))
    np.testing.assert_array_equal(np.sort(images[:, 0, 0, 0]), np.arange(20))
  assert labels is None and Squares.generated == 1


def test_whether_a_host_answers(monkeypatch):
  """Any answer counts, here that HEAD is not supported. The timeout of requests does not apply to resolving a name."""
  monkeypatch.undo()  # `no_network`
  monkeypatch.setenv('NO_PROXY', '*')
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.BaseHTTPRequestHandler) as server:
    threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}/file'
    assert tfds.host_answers(url)
    server.shutdown()
  assert not tfds.host_answers(url)
  monkeypatch.setattr(tfds, '_TIMEOUT_SECONDS', 0.2)
  start = time.monotonic()
  with socket.create_server(('127.0.0.1', 0)) as silent:
    assert not tfds.host_answers(f'http://127.0.0.1:{silent.getsockname()[1]}/file')
  monkeypatch.setattr(requests, 'head', lambda url, **options: time.sleep(5))
  assert not tfds.host_answers(url)
  assert time.monotonic() - start < 4


# Real data.


@pytest.mark.slow
def test_mnist_itself(mnist_dir):
  """Mean and standard deviation of the 60,000 training images' pixels are as they are usually quoted."""
  dataset = load('mnist', mnist_dir)
  assert dataset.image_shape == (28, 28, 1)
  assert [len(split) for split in parts(dataset)] == [50_000, 10_000, 10_000]
  images = np.concatenate([dataset.train.images, dataset.validation.images])
  assert images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
  assert images.std() / 255 == pytest.approx(0.3081, abs=5e-5)
  # Class counts of LeCun's test set.
  counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
  np.testing.assert_array_equal(np.bincount(dataset.test.labels), counts)


def test_cifar10_sample(cifar10_sample_dir):
  """The records of the test images are also read with Pillow."""
  dataset = load('cifar10', cifar10_sample_dir)
  assert (dataset.name, dataset.levels, dataset.num_classes, dataset.image_shape) == ('cifar10', 256, 10, (32, 32, 3))
  assert [len(split) for split in parts(dataset)] == [3_150, 350, 500]
  (folder,) = pathlib.Path(cifar10_sample_dir, 'cifar10').iterdir()
  dataset_of_records = tf.data.TFRecordDataset(str(records(folder, 'test')))
  features = [tf.train.Example.FromString(record.numpy()).features.feature for record in dataset_of_records]
  images = [np.asarray(Image.open(io.BytesIO(feature['image'].bytes_list.value[0]))) for feature in features]
  np.testing.assert_array_equal(dataset.test.images, images)
  np.testing.assert_array_equal(dataset.test.labels, [feature['label'].int64_list.value[0] for feature in features])
