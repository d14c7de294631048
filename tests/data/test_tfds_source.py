import hashlib
import http.server
import io
import json
import os
import pathlib
import re
import shutil
import socket
import sys
import tarfile
import threading

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

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


BATCHES = [*(f'data_batch_{i}.bin' for i in range(1, 6)), 'test_batch.bin']
PER_BATCH = 4


def cifar10_archive(**changed: bytes | None) -> bytes:
  """A small cifar-10-binary.tar.gz: a record is its label and 3 x 32 x 32 bytes. Members can be changed or left out."""
  pixels = np.random.default_rng(0).integers(0, 256, (len(BATCHES), PER_BATCH, 3072))
  labels = np.arange(len(BATCHES) * PER_BATCH).reshape(len(BATCHES), PER_BATCH, 1) % 10
  records = np.concatenate([labels, pixels], axis=2).astype(np.uint8)
  members = {name: batch.tobytes() for name, batch in zip(BATCHES, records, strict=True)}
  members['batches.meta.txt'] = b'airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n'
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w:gz') as archive:
    for name, content in (members | changed).items():
      if content is not None:
        member = tarfile.TarInfo(f'cifar-10-batches-bin/{name}')
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
  return file.getvalue()


class Mirror:
  """A host of CIFAR-10's archive on this machine in place of the real one, and what it serves."""

  def __init__(self):
    self.content, self.status, self.cut, self.downloads = cifar10_archive(), 200, None, 0

  def expect(self, content: bytes, monkeypatch) -> None:
    """Makes TFDS accept this as the right archive, although its registry has the size and checksum of the real one."""
    info = checksums.UrlInfo(len(content), hashlib.sha256(content).hexdigest(), 'cifar-10-binary.tar.gz')
    monkeypatch.setitem(checksums.get_all_url_infos(), self.url, info)


@pytest.fixture
def mirror(monkeypatch):
  served = Mirror()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
      self.send_response(served.status)
      self.send_header('Content-Length', str(len(served.content)))
      self.end_headers()

    def do_GET(self) -> None:
      self.do_HEAD()
      self.wfile.write(served.content[: served.cut])
      served.downloads += 1

    def log_message(self, *args) -> None:
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True)
  thread.start()
  served.url = f'http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz'
  connect = socket.socket.connect

  def only_here(self, address):
    assert address[0] == '127.0.0.1', f'the network was used: {address}'
    return connect(self, address)

  monkeypatch.setattr(socket.socket, 'connect', only_here)
  monkeypatch.setenv('NO_PROXY', '*')
  monkeypatch.setitem(tfds_source.DATASETS, 'cifar10', served.url)
  cifar10 = tfds.image_classification.Cifar10
  real = cifar10._cifar_info.fget
  monkeypatch.setattr(cifar10, '_cifar_info', property(lambda builder: real(builder)._replace(url=served.url)))
  registered = cifar10.url_infos['https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz']
  monkeypatch.setitem(checksums.get_all_url_infos(), served.url, registered)
  yield served
  server.shutdown()
  server.server_close()
  thread.join()


def follow(error: UsageError) -> None:
  """Follows the advice of the message."""
  (paths,) = re.findall(r'; delete (.+) and try again', str(error))
  for path in map(pathlib.Path, paths.split(' and ')):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def fails(root: pathlib.Path, message: str) -> UsageError:
  """Loads twice: what the first try leaves behind must not be taken for prepared data."""
  for _ in range(2):
    with pytest.raises(UsageError, match=message) as error:
      load('cifar10', str(root))
    assert '\n' not in str(error.value) and ', and pass DIR as `data_dir`' in str(error.value)
    assert not [path for path in root.glob('cifar10/*') if path.is_dir()]
  return error.value


def assert_prepared(root: pathlib.Path) -> None:
  dataset = load('cifar10', str(root))
  # There are 5 batches of 4 training records, and a tenth of the records is held out.
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [18, 2, 4]
  pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3, 32, 32)).astype(np.uint8).transpose(0, 1, 3, 4, 2)
  labels = np.arange(24) % 10
  for image, label in zip(dataset.test.images, dataset.test.labels, strict=True):
    (i,) = np.flatnonzero((pixels[5] == image).all(axis=(1, 2, 3)))
    assert label == labels[20 + i]
  seen = np.concatenate([dataset.train.images, dataset.validation.images])
  order = [np.flatnonzero((pixels[:5].reshape(20, 32, 32, 3) == image).all(axis=(1, 2, 3)))[0] for image in seen]
  assert sorted(order) == list(range(20))
  np.testing.assert_array_equal(labels[order], np.concatenate([dataset.train.labels, dataset.validation.labels]))


def test_cifar10_is_downloaded_and_prepared_once(tmp_path, monkeypatch, mirror):
  mirror.expect(mirror.content, monkeypatch)
  assert_prepared(tmp_path)
  mirror.status = 404
  assert_prepared(tmp_path)
  assert mirror.downloads == 1


def test_cifar10_from_an_archive_put_there_by_hand(tmp_path, monkeypatch, mirror):
  mirror.expect(mirror.content, monkeypatch)
  (tmp_path / 'downloads' / 'manual').mkdir(parents=True)
  (tmp_path / 'downloads' / 'manual' / 'cifar-10-binary.tar.gz').write_bytes(mirror.content)
  assert_prepared(tmp_path)
  assert mirror.downloads == 0


def test_absent_archive(tmp_path, mirror):
  mirror.status = 404
  fails(tmp_path, rf'^cifar10: not prepared in {tmp_path}, and {mirror.url} cannot be reached; prepare it on a machine')
  assert not list(tmp_path.iterdir())


def test_archive_that_vanishes_after_the_check(tmp_path, monkeypatch, mirror):
  monkeypatch.setattr(hosts, 'answers', lambda url: True)
  mirror.status = 404
  reason = re.escape(f'(DownloadError: Failed to get url {mirror.url}. HTTP code: 404.)')
  fails(tmp_path, rf'^cifar10: download into {tmp_path} failed {reason}; try again')


def test_connection_that_breaks(tmp_path, monkeypatch, mirror):
  mirror.expect(mirror.content, monkeypatch)
  mirror.cut = 1000
  fails(tmp_path, rf'^cifar10: download into {tmp_path} failed \(\w+: .*IncompleteRead.*\); try again')
  mirror.cut = None
  assert_prepared(tmp_path)


def test_download_with_a_wrong_checksum(tmp_path, monkeypatch, mirror):
  """What was downloaded is not the archive, but perhaps a proxy's log-in page."""
  error = fails(
    tmp_path,
    rf'^cifar10: download in {tmp_path} is damaged \(NonMatchingChecksumError: .*{mirror.url}.* has wrong checksum\); '
    rf'delete {tmp_path}/downloads/cifar10 and try again',
  )
  assert isinstance(error.__cause__, NonMatchingChecksumError)
  mirror.expect(mirror.content, monkeypatch)
  assert_prepared(tmp_path)


@pytest.mark.parametrize('content', [cifar10_archive()[:5000], b'', b'<html>'], ids=['truncated', 'empty', 'a page'])
def test_damaged_archive_put_there_by_hand(tmp_path, monkeypatch, mirror, content):
  mirror.expect(mirror.content, monkeypatch)
  archive = tmp_path / 'downloads' / 'manual' / 'cifar-10-binary.tar.gz'
  archive.parent.mkdir(parents=True)
  archive.write_bytes(content)
  error = fails(tmp_path, rf'\(NonMatchingChecksumError: .*\); delete {archive} and try again')
  follow(error)
  assert_prepared(tmp_path)


# TFDS verifies an archive when it downloads it, but not when it takes it from its cache again.
CACHED = {
  'truncated': (cifar10_archive()[:-5000], 'EOFError'),
  'truncated early': (cifar10_archive()[:50], 'EOFError'),
  'empty': (b'', 'ReadError'),
  'not an archive': (b'<html>' * 100, 'ReadError'),
  'a batch missing': (cifar10_archive(**{'data_batch_3.bin': None}), 'NotFoundError'),
  'the names missing': (cifar10_archive(**{'batches.meta.txt': None}), 'FileNotFoundError'),
  'a record cut': (cifar10_archive(**{'data_batch_3.bin': bytes(3073 + 1000)}), 'ValueError'),
}


@pytest.mark.parametrize(('content', 'reason'), CACHED.values(), ids=CACHED.keys())
def test_archive_damaged_in_the_cache(tmp_path, monkeypatch, mirror, content, reason):
  mirror.expect(mirror.content, monkeypatch)
  assert_prepared(tmp_path)
  shutil.rmtree(tmp_path / 'cifar10')
  shutil.rmtree(tmp_path / 'downloads' / 'extracted')
  (archive,) = (tmp_path / 'downloads' / 'cifar10').glob('*.tar.gz')
  archive.write_bytes(content)
  error = fails(
    tmp_path,
    rf'^cifar10: download in {tmp_path} is damaged \({reason}: .*\); delete {archive.parent}( and \S+)? and try again',
  )
  follow(error)
  assert_prepared(tmp_path)
  assert mirror.downloads == 2


def test_preparation_that_was_killed(tmp_path, monkeypatch, mirror):
  """The unfinished records of another process, in a folder with all files that a finished one has."""
  mirror.expect(mirror.content, monkeypatch)
  assert_prepared(tmp_path)
  folder = tmp_path / 'cifar10' / '3.0.2'
  folder.rename(tmp_path / 'cifar10' / '3.0.2.incompleteABCDEF')
  truncate_records(tmp_path / 'cifar10' / '3.0.2.incompleteABCDEF')
  assert_prepared(tmp_path)
  assert mirror.downloads == 1


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
