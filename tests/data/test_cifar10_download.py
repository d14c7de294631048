import hashlib
import http.server
import io
import os
import pathlib
import re
import shutil
import socket
import tarfile
import threading

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from flowgan_tf import hosts
from flowgan_tf.data import load, tfds_source
from flowgan_tf.errors import UsageError

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
  monkeypatch.setattr(hosts, 'answers', lambda url, **_: True)
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
  records = next((tmp_path / 'cifar10' / '3.0.2.incompleteABCDEF').glob('*-train.tfrecord*'))
  os.truncate(records, records.stat().st_size // 2)
  assert_prepared(tmp_path)
  assert mirror.downloads == 1
