"""Data sets of TFDS: prepared ones, those to download, and whether a host answers."""

import hashlib
import http.server
import io
import json
import pathlib
import shutil
import socket
import tarfile
import threading
import time

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets
from PIL import Image
from tensorflow_datasets.core.download import checksums

from flowgan_tf.data import StoredImages, arrays, load, tfds
from flowgan_tf.errors import UsageError
from tests.data.loading import joined

LENGTHS = {'train': 40, 'validation': 7, 'test': 9}
SHAPE = (4, 5, 3)


def refuse(*args, **kwargs):
  raise AssertionError(f'the network was used: {args}')


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  connect = socket.socket.connect
  monkeypatch.setattr(socket.socket, 'connect', lambda s, to: (connect if to[0] == '127.0.0.1' else refuse)(s, to))
  monkeypatch.setattr(tfds, 'host_answers', refuse)
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
    features['label'] = tensorflow_datasets.features.ClassLabel(num_classes=300)
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


def raises(root, message: str, dataset: str = 'faces', **arguments) -> UsageError:
  with pytest.raises(UsageError, match=message) as error:
    load(dataset, str(root), **arguments)
  assert '\n' not in str(error.value)
  return error.value


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
  for name in ('faces', 'mnist', 'cifar10'):
    prepare(root, name, splits=LENGTHS if name == 'faces' else ('train', 'test'))
  return root


@pytest.fixture
def copy(prepared, tmp_path) -> pathlib.Path:
  return shutil.copytree(prepared, tmp_path / 'copy')


def test_three_splits_are_taken_as_they_are(copy, monkeypatch):
  dataset = load_both(copy)
  assert (dataset.name, dataset.levels, dataset.num_classes, dataset.image_shape) == ('faces', 256, 300, SHAPE)
  assert [len(split) for split in parts(dataset)] == list(LENGTHS.values())
  images, labels = joined(dataset)
  np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(56))
  np.testing.assert_array_equal(labels, np.arange(56))
  assert dataset.train.labels.dtype == np.int64
  # The files are written once, and read even if their images would fit into memory.
  assert [path.name for path in (copy / 'flowgan_tf' / 'faces').iterdir()] == ['1.0.0']
  monkeypatch.setattr(arrays, 'write_array_folder', None)
  (copy / 'faces' / '1.0.0' / 'faces-test.tfrecord-00000-of-00001').unlink()
  assert load('faces', str(copy)).fingerprint == dataset.fingerprint


@pytest.mark.parametrize('other', ['test', 'validation'])
def test_of_two_splits_a_random_tenth_of_train_validates(tmp_path, other):
  prepare(tmp_path, splits=('train', other))
  dataset = load_both(tmp_path)
  held_out = numbers(dataset.validation)
  assert len(held_out) == 4
  assert not np.array_equal(held_out, np.arange(36, 40))
  np.testing.assert_array_equal(np.sort(np.concatenate([numbers(dataset.train), held_out])), np.arange(40))
  assert len(dataset.test) == LENGTHS[other] and numbers(dataset.test).min() >= 40
  for split in parts(dataset):
    assert np.all(np.diff(numbers(split).astype(int)) > 0)
    np.testing.assert_array_equal(numbers(split), split.labels)


def test_train_alone_is_divided_in_three(tmp_path):
  prepare(tmp_path, splits=('train',), label=None)
  dataset = load_both(tmp_path)
  assert list(map(len, parts(dataset))) == [32, 4, 4]
  np.testing.assert_array_equal(np.sort(joined(dataset)[0][:, 0, 0, 0]), np.arange(40))
  assert dataset.num_classes is None and dataset.train.labels is None


def test_mnist_validates_on_the_last_sixth_and_cifar10_on_a_random_tenth(prepared):
  mnist = load('mnist', str(prepared))
  for split, expected in zip(parts(mnist), [(0, 33), (33, 40), (47, 56)], strict=True):
    np.testing.assert_array_equal(numbers(split), np.arange(*expected))
  cifar10 = load('cifar10', str(prepared))
  assert len(cifar10.validation) == 4 and not np.array_equal(numbers(cifar10.validation), np.arange(36, 40))
  assert load('mnist', str(prepared), image_size=2).image_shape == (2, 2, 3)


def test_array_records_and_images_without_labels(prepared, tmp_path):
  prepare(tmp_path / 'array_record', file_format='array_record')
  assert load_both(tmp_path / 'array_record').fingerprint == load('faces', str(prepared)).fingerprint
  # Of no declared shape, and some without a label.
  prepare(tmp_path / 'other', shape=(None, None, 3), label=-1)
  dataset = load_both(tmp_path / 'other')
  assert dataset.num_classes is dataset.train.labels is dataset.test.labels is None
  assert dataset.image_shape == SHAPE
  np.testing.assert_array_equal(joined(dataset)[0][:, 0, 0, 0], np.arange(56))


def test_images_of_several_shapes_are_refused_or_resized(tmp_path, caplog):
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


def test_files_that_cannot_be_written_leave_nothing(copy, monkeypatch):
  monkeypatch.setattr(arrays, 'IN_MEMORY', 0)

  def full(*arguments):
    raise OSError(28, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(np, 'save', full)
    raises(copy, rf'^{copy}/flowgan_tf/faces/1\.0\.0: cannot be written \(No space left on device\)$')
  monkeypatch.setattr('shutil.disk_usage', lambda path: type('Usage', (), {'free': 3359}))
  raises(copy, rf'^{copy}/flowgan_tf/faces/1\.0\.0: needs 0\.0 GB of disk, of which 0\.0 GB are free$')
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


def flip_a_bit(folder: pathlib.Path) -> None:
  content = bytearray(records(folder).read_bytes())
  content[len(content) // 2] ^= 1
  records(folder).write_bytes(content)


def drop_a_record(folder: pathlib.Path) -> None:
  *kept, _ = [example.numpy() for example in tf.data.TFRecordDataset(str(records(folder)))]
  with tf.io.TFRecordWriter(str(records(folder))) as writer:
    for example in kept:
      writer.write(example)


def drop_test_split(folder: pathlib.Path) -> None:
  info = json.loads((folder / 'dataset_info.json').read_text())
  info['splits'] = [split for split in info['splits'] if split['name'] != 'test']
  (folder / 'dataset_info.json').write_text(json.dumps(info))


def drop_features(folder: pathlib.Path) -> None:
  (folder / 'features.json').unlink()


@pytest.mark.parametrize('damage', [flip_a_bit, drop_a_record, drop_test_split, drop_features])
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
  raises(tmp_path, rf'^emnist/small: cannot be prepared in {tmp_path} \(.*small.*\); try again', 'emnist/small')
  raises(tmp_path, r'^ag_news_subset: expected one feature of images, got 0 among ', 'ag_news_subset')
  prepare(tmp_path, splits=('validation', 'test'))
  raises(tmp_path, r"^faces: expected a split 'train', got (validation, test|test, validation)$")


def test_unprepared_data_whose_host_does_not_answer(tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr(tfds, 'host_answers', lambda url: asked.append(url))
  start = time.monotonic()
  raises(
    tmp_path,
    rf'^cifar10: not prepared in {tmp_path}, and http\S+\.tar\.gz cannot be reached; prepare it on another machine, '
    r"python -c .*tfds\.load\('cifar10', data_dir='DIR'\)\", and pass DIR as `data_dir`, or use the `dataset` "
    "'digits', which needs no download$",
    'cifar10',
  )
  assert time.monotonic() - start < 30
  assert asked == ['https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz']
  assert not list(tmp_path.iterdir())


# Downloads, from a host of CIFAR-10's archive on this machine.

BATCHES = [*(f'data_batch_{i}.bin' for i in range(1, 6)), 'test_batch.bin']
PIXELS = np.random.default_rng(0).integers(0, 256, (len(BATCHES), 4, 3072)).astype(np.uint8)
LABELS = np.arange(24).reshape(6, 4, 1).astype(np.uint8) % 10


def cifar10_archive() -> bytes:
  """A small cifar-10-binary.tar.gz: a record is its label and 3 x 32 x 32 bytes."""
  content = np.concatenate([LABELS, PIXELS], axis=2)
  members = {name: batch.tobytes() for name, batch in zip(BATCHES, content, strict=True)}
  members['batches.meta.txt'] = b'airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n'
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w:gz') as archive:
    for name, data in members.items():
      member = tarfile.TarInfo(f'cifar-10-batches-bin/{name}')
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
  return file.getvalue()


@pytest.fixture
def server():
  """Answers requests for `/STATUS/...` with that status and `content[:cut]`, and keeps the requests."""

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
      self.server.asked.append(self.command)
      self.send_response(int(self.path.split('/')[1]))
      self.send_header('Content-Length', str(len(self.server.content)))
      self.end_headers()

    def do_GET(self) -> None:
      self.do_HEAD()
      self.wfile.write(self.server.content[: self.server.cut])

    def log_message(self, *args) -> None:
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as served:
    served.content, served.cut, served.asked = b'', None, []
    served.url = f'http://127.0.0.1:{served.server_port}'
    thread = threading.Thread(target=served.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    thread.join()


@pytest.fixture
def mirror(server, monkeypatch):
  """Makes TFDS take CIFAR-10 from the server, whose archive is as good as the real one."""
  server.content = cifar10_archive()
  url = f'{server.url}/200/cifar-10-binary.tar.gz'
  monkeypatch.setattr(tfds, 'host_answers', lambda url: True)
  cifar10 = tensorflow_datasets.image_classification.Cifar10
  real = cifar10._cifar_info.fget
  monkeypatch.setattr(cifar10, '_cifar_info', property(lambda builder: real(builder)._replace(url=url)))
  info = checksums.UrlInfo(len(server.content), hashlib.sha256(server.content).hexdigest(), 'cifar-10-binary.tar.gz')
  monkeypatch.setitem(checksums.get_all_url_infos(), url, info)
  return server


def fails(root: pathlib.Path, reason: str) -> None:
  """Loads twice: what the first try leaves behind must not be taken for prepared data."""
  for _ in range(2):
    raises(
      root,
      rf'^cifar10: cannot be prepared in {root} \({reason}\); try again, without {root}/downloads if a file there is '
      'damaged, or prepare it on another machine, .*, and pass DIR as `data_dir`$',
      'cifar10',
    )
    assert not [path for path in root.glob('cifar10/*') if path.is_dir()]


def assert_prepared(root: pathlib.Path) -> None:
  dataset = load('cifar10', str(root))
  # There are 5 batches of 4 training records, and a tenth of the records is held out.
  assert [len(split) for split in parts(dataset)] == [18, 2, 4]
  images, labels = joined(dataset)
  expected = PIXELS.reshape(24, 3, 32, 32).transpose(0, 2, 3, 1)
  order = [np.flatnonzero((expected == image).all(axis=(1, 2, 3)))[0] for image in images]
  assert sorted(order[:20]) == list(range(20)) and sorted(order[20:]) == list(range(20, 24))
  np.testing.assert_array_equal(labels, LABELS.ravel()[order])


def test_cifar10_is_downloaded_and_prepared_once(tmp_path, mirror):
  mirror.cut = 1000
  fails(tmp_path, r'\w+: .*IncompleteRead.*')
  mirror.cut = None
  assert_prepared(tmp_path)
  downloads = mirror.asked.count('GET')
  assert_prepared(tmp_path)
  assert mirror.asked.count('GET') == downloads
  # An archive is damaged after its download, when TFDS no longer looks at its checksum.
  shutil.rmtree(tmp_path / 'cifar10')
  shutil.rmtree(tmp_path / 'downloads' / 'extracted')
  (archive,) = (tmp_path / 'downloads' / 'cifar10').glob('*.tar.gz')
  archive.write_bytes(mirror.content[:50])
  fails(tmp_path, 'EOFError: .*')


def test_an_archive_put_there_by_hand_and_a_wrong_one(tmp_path, mirror):
  (tmp_path / 'downloads' / 'manual').mkdir(parents=True)
  archive = tmp_path / 'downloads' / 'manual' / 'cifar-10-binary.tar.gz'
  archive.write_bytes(mirror.content)
  assert_prepared(tmp_path)
  assert not mirror.asked
  mirror.content = b'<html>'  # A proxy's log-in page.
  (tmp_path / 'new').mkdir()
  fails(tmp_path / 'new', 'NonMatchingChecksumError: .* has wrong checksum:')


# Whether a host answers.


@pytest.fixture
def host_answers(monkeypatch):
  monkeypatch.undo()  # `no_network`
  monkeypatch.setenv('NO_PROXY', '*')
  return tfds.host_answers


def test_any_answer_counts_and_nothing_is_downloaded(host_answers, server):
  assert host_answers(f'{server.url}/200/file') and host_answers(f'{server.url}/403/file')
  assert server.asked == ['HEAD', 'HEAD']
  with socket.create_server(('127.0.0.1', 0)) as free:
    port = free.getsockname()[1]
  assert not host_answers(f'http://127.0.0.1:{port}/file')


@pytest.mark.parametrize('hangs', ['connection', 'name'])
def test_a_host_that_stays_silent_is_given_up(host_answers, monkeypatch, hangs):
  """Its name may not be resolved, either. The timeout of requests does not apply to that."""
  ended = threading.Event()

  def hang(url, **options):
    ended.wait(10)
    raise requests.ConnectionError('at last')

  if hangs == 'name':
    monkeypatch.setattr(requests, 'head', hang)
  monkeypatch.setattr(tfds, '_TIMEOUT_SECONDS', 0.2)
  with socket.create_server(('127.0.0.1', 0)) as silent:
    start = time.monotonic()
    assert not host_answers(f'http://127.0.0.1:{silent.getsockname()[1]}/file')
  assert time.monotonic() - start < 2
  ended.set()


# Real data.


@pytest.mark.slow
def test_mnist_itself(mnist_dir):
  dataset = load('mnist', mnist_dir)
  assert dataset.image_shape == (28, 28, 1)
  assert [len(split) for split in parts(dataset)] == [50_000, 10_000, 10_000]
  # Pixel mean and standard deviation of the 60,000 training images, as they are usually quoted: 0.1307 and 0.3081.
  images = np.concatenate([dataset.train.images, dataset.validation.images])
  histogram = np.bincount(images.ravel(), minlength=256) / images.size
  levels = np.arange(256) / 255
  mean = histogram @ levels
  assert mean == pytest.approx(0.1307, abs=5e-5)
  assert np.sqrt(histogram @ (levels - mean) ** 2) == pytest.approx(0.3081, abs=5e-5)
  # Class counts of LeCun's test set.
  counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
  np.testing.assert_array_equal(np.bincount(dataset.test.labels), counts)


def test_cifar10_sample(cifar10_sample_dir):
  dataset = load('cifar10', cifar10_sample_dir)
  assert (dataset.name, dataset.levels, dataset.num_classes, dataset.image_shape) == ('cifar10', 256, 10, (32, 32, 3))
  assert [len(split) for split in parts(dataset)] == [3_150, 350, 500]
  assert len(np.unique(np.concatenate([dataset.train.images, dataset.validation.images]), axis=0)) == 3_500
  # The records themselves, read with Pillow.
  (folder,) = pathlib.Path(cifar10_sample_dir, 'cifar10').iterdir()
  dataset_of_records = tf.data.TFRecordDataset(str(records(folder, 'test')))
  features = [tf.train.Example.FromString(record.numpy()).features.feature for record in dataset_of_records]
  images = [np.asarray(Image.open(io.BytesIO(feature['image'].bytes_list.value[0]))) for feature in features]
  np.testing.assert_array_equal(dataset.test.images, images)
  np.testing.assert_array_equal(dataset.test.labels, [feature['label'].int64_list.value[0] for feature in features])
