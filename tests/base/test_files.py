"""Files are whole or not there, and what was damaged is not read."""

import contextlib
import errno
import hashlib
import inspect
import json
import os
import pathlib
import stat
import struct
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.base import files
from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import (
  as_json,
  check_inside,
  digest,
  make_writable,
  read_record,
  save_arrays,
  write_atomically,
  write_record,
)


def rejected(path, why: str):
  return pytest.raises(UsageError, match=rf'^{path}: cannot be written \({why}\)$')


def is_folder(descriptor):
  return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def test_a_device_is_not_replaced_and_a_link_stays_one(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  with rejected(tmp_path / 'pipe', 'it is a device or a pipe'):
    write_atomically(tmp_path / 'pipe', 'x')
  assert (tmp_path / 'pipe').is_fifo()
  (tmp_path / 'link').symlink_to('file')
  for content in ('Fréchet, λ\n', b'\x00\xff\r\n'):  # Text is written as UTF-8.
    write_atomically(tmp_path / 'link', content)
    assert (tmp_path / 'file').read_bytes() == (content if isinstance(content, bytes) else content.encode())
  assert (tmp_path / 'link').is_symlink()
  (tmp_path / 'folder').mkdir()
  with rejected(tmp_path / 'folder', 'Is a directory'):
    write_atomically(tmp_path / 'folder', 'text')
  assert len(list(tmp_path.iterdir())) == 4


def test_a_folder_that_cannot_be_listed_is_rejected(tmp_path):
  """A link in it can still be opened: its owner may have taken only the right to list it."""
  (tmp_path / 'run' / 'samples').mkdir(parents=True)
  scandir = os.scandir

  def denied(path):  # Root may list anything.
    if path == f'{tmp_path}/run/samples':
      raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return scandir(path)

  check_inside(tmp_path / 'run')
  message = f'^{tmp_path}/run/samples: cannot be listed \\(Permission denied\\)$'
  with mock.patch.object(os, 'scandir', denied), pytest.raises(UsageError, match=message):
    check_inside(tmp_path / 'run')


def test_deep_folders_are_searched(tmp_path):
  """A stranger's may be deeper than Python lets a function call itself, which is made rarer here."""
  deepest = tmp_path / '/'.join('d' * 200)
  deepest.mkdir(parents=True)
  (deepest / 'out').symlink_to('/')
  limit = sys.getrecursionlimit()
  sys.setrecursionlimit(len(inspect.stack(0)) + 150)
  try:
    with pytest.raises(UsageError, match='/d/out: is a link that leads out of '):
      check_inside(tmp_path)
  finally:
    sys.setrecursionlimit(limit)


def test_a_folder_is_made_with_its_parents_and_left_as_it_was(tmp_path):
  folder = tmp_path / 'a' / 'b'
  assert make_writable(str(folder)) == folder
  assert folder.is_dir() and not list(folder.iterdir())
  (folder / 'file').write_text('kept')
  make_writable(folder)
  with rejected(folder / 'file' / 'folder', 'Not a directory'):
    make_writable(folder / 'file' / 'folder')
  with rejected(rf'{folder}/run\\xff', 'its name must be UTF-8'):  # TensorFlow could not write there.
    make_writable(folder / os.fsdecode(b'run\xff'))
  assert [path.name for path in folder.iterdir()] == ['file']
  if os.path.isdir('/proc/self'):  # Root may write to folders without permissions, but nobody here.
    with rejected('/proc/self', '.+'):
      make_writable('/proc/self')


@pytest.mark.parametrize(
  ('error', 'raised'), [(OSError(28, 'No space left on device'), UsageError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_full_disk_or_a_kill_leaves_the_old_content(tmp_path, monkeypatch, error, raised):
  text, arrays = tmp_path / 'text', tmp_path / 'arrays.npz'
  write_atomically(text, 'old')
  save_arrays(arrays, {'old': 1.0})
  write_bytes = pathlib.Path.write_bytes

  def write_half(self, content):
    write_bytes(self, content[:1])
    raise error

  def write_half_array(file, *_, **__):
    file.write(b'half')
    raise error

  monkeypatch.setattr(pathlib.Path, 'write_bytes', write_half)
  monkeypatch.setattr(np.lib.format, 'write_array', write_half_array)
  for path, write, new in ((text, write_atomically, 'new'), (arrays, save_arrays, {'new': 2})):
    with pytest.raises(raised) as caught:
      write(path, new)
    assert raised is KeyboardInterrupt or str(caught.value) == f'{path}: cannot be written (No space left on device)'
  assert text.read_text() == 'old'
  with np.load(arrays) as saved:
    assert saved.files == ['old']
  assert sorted(tmp_path.iterdir()) == [arrays, text]


def test_arrays_may_have_the_names_of_numpys_arguments(tmp_path):
  arrays = {name: np.arange(i + 1.0) for i, name in enumerate(('file', 'allow_pickle', 'args', 'a/b'))}
  save_arrays(tmp_path / 'arrays.npz', arrays)
  with np.load(tmp_path / 'arrays.npz') as saved:
    assert saved.files == list(arrays)
    for name, array in arrays.items():
      np.testing.assert_array_equal(saved[name], array)


def test_two_processes_do_not_write_to_one_temporary_file(tmp_path, monkeypatch):
  """The second starts while the first is writing; both end with a whole file."""
  path, write_array = tmp_path / 'arrays.npz', np.lib.format.write_array

  def other_process_first(*args, **more):
    monkeypatch.setattr(np.lib.format, 'write_array', write_array)
    with monkeypatch.context() as context:
      context.setattr(files.os, 'getpid', lambda: -1)
      save_arrays(path, {'second': 2.0})
    write_array(*args, **more)

  monkeypatch.setattr(np.lib.format, 'write_array', other_process_first)
  save_arrays(path, {'first': 1.0})
  with np.load(path) as saved:
    assert saved.files == ['first']
  assert list(tmp_path.iterdir()) == [path]


def test_a_power_cut_finds_the_content_on_the_disk_before_the_name_and_then_the_name(tmp_path, monkeypatch):
  done, fsync, replace = [], os.fsync, os.replace
  monkeypatch.setattr(files.os, 'fsync', lambda n: (done.append('folder' if is_folder(n) else 'file'), fsync(n)))
  monkeypatch.setattr(files.os, 'replace', lambda *names: (done.append('replace'), replace(*names)))
  write_atomically(tmp_path / 'file', 'text')
  assert done == ['file', 'replace', 'folder']


@pytest.mark.parametrize(
  ('number', 'folder', 'passed_over'),
  [(errno.EINVAL, True, True), (errno.EACCES, True, True), (errno.EIO, True, False), (errno.EINVAL, False, False)],
)
def test_a_folder_that_cannot_be_synchronised_is_passed_over_but_no_failing_disk(
  tmp_path, monkeypatch, number, folder, passed_over
):
  def fsync(descriptor):
    if is_folder(descriptor) == folder:
      raise OSError(number, os.strerror(number))

  monkeypatch.setattr(files.os, 'fsync', fsync)
  path = tmp_path / 'file'
  with contextlib.nullcontext() if passed_over else rejected(path, os.strerror(number)):
    write_atomically(path, 'text')
  assert path.exists() == folder  # A file is replaced only when it is on the disk.


RECORD = {'a': 0.1, 'c': {'d': True}, 'b': [1, None, 'λ']}


def test_json_and_its_digest():
  value = {'a': np.float32(0.5), 'b': [np.int64(3), (np.inf, float('nan'))], 'c': 'text', 'd': None, 'e': True}
  assert as_json(value) == {'a': 0.5, 'b': [3, [None, None]], 'c': 'text', 'd': None, 'e': True}
  arrays = tf.constant([[1.5, np.nan]]), tf.constant(2), np.array(['x', 'y'])
  assert as_json(arrays) == [[[1.5, None]], 2, ['x', 'y']]
  assert as_json([tf.constant('é'), tf.constant(['x']), np.bytes_(b'y'), b'\xff']) == ['é', ['x'], 'y', '�']
  # SHA-256 of the JSON with sorted keys and of the arrays.
  text = b'{"a": 0.1, "b": [1, null, "\\u03bb"], "c": {"d": true}}'
  assert digest(RECORD) == hashlib.sha256(text).hexdigest()
  arrays = {'y': np.asarray([[1, 2]], np.uint8), 'x': 2.0}
  text += b'x float64 ()' + struct.pack('<d', 2.0) + b'y uint8 (1, 2)' + bytes([1, 2])
  assert digest(RECORD, arrays) == hashlib.sha256(text).hexdigest()


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'folder' / 'record.json'


def files_of(path):
  return sorted(file.name for file in path.parent.iterdir())


def test_a_record_is_read_as_it_was_written(path):
  assert read_record(path) is None
  write_record(path, RECORD | {'n': np.float32(0.1), 'none': np.nan, 't': (1, 2)})
  record, arrays = read_record(path)
  assert record == RECORD | {'n': float(np.float32(0.1)), 'none': None, 't': [1, 2]} and arrays == {}
  assert path.read_text().startswith('{\n  "a": 0.1,\n') and files_of(path) == ['record.json']
  write_record(path, RECORD, {'x': np.arange(3), 'uniform noise': '0123abcd'})
  record, arrays = read_record(path)
  assert record == RECORD and (list(arrays['x']), str(arrays['uniform noise'])) == ([0, 1, 2], '0123abcd')
  assert len(files_of(path)) == 2


def test_a_record_that_was_edited_or_lost_its_arrays_is_damaged(path):
  for change in ({'b': [1, None]}, {'e': 1}, {'sha256': None}):
    write_record(path, RECORD)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=rf'^{path}: damaged \(not what was written\); make it again$'):
      read_record(path, '; make it again')
  write_record(path, RECORD, {'x': np.asarray([1.0])})
  [arrays] = path.parent.glob('*.npz')
  content = arrays.read_bytes()
  for damage in (
    lambda: np.savez(arrays, x=np.asarray([2.0])),
    lambda: arrays.write_bytes(content[:50]),
    arrays.unlink,
    *(lambda text=text: path.write_bytes(text) for text in (b'', b'[]', b'\xff"', b'{"a": 1}', b'[' * 200_000)),
  ):
    damage()
    with pytest.raises(UsageError, match=rf'^{path}: damaged \(.+\)$'):
      read_record(path)


def test_a_record_that_may_not_be_read_is_not_damaged(path, monkeypatch):
  write_record(path, RECORD)
  monkeypatch.setattr(pathlib.Path, 'read_bytes', mock.Mock(side_effect=PermissionError(13, 'Permission denied')))
  with pytest.raises(UsageError, match=rf'^{path}: cannot be read \(Permission denied\)$'):
    read_record(path, '; remove it')


def test_a_kill_between_the_two_files_leaves_the_old_pair(path, monkeypatch):
  write_record(path, RECORD, {'x': 1.0})
  (path.parent / 'record-notes.npz').touch()
  with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
    context.setattr(files, 'write_atomically', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    write_record(path, RECORD | {'a': 0.2}, {'x': 2.0})
  record, arrays = read_record(path)
  assert (record['a'], float(arrays['x']), len(files_of(path))) == (0.1, 1.0, 4)
  # The next record leaves its own pair, and no arrays of others.
  write_record(path, RECORD | {'a': 0.3}, {'x': 3.0})
  assert read_record(path)[0]['a'] == 0.3 and len(files_of(path)) == 3
  assert 'record-notes.npz' in files_of(path)
  with rejected(path, 'File exists'):
    write_record(path / 'record.json', RECORD)


def test_a_record_that_another_process_replaces_meanwhile_is_read_again(path, monkeypatch):
  write_record(path, RECORD, {'x': 1.0})
  read_arrays = files.read_arrays

  def replaced(file):
    monkeypatch.setattr(files, 'read_arrays', read_arrays)
    write_record(path, RECORD, {'x': 2.0})
    raise OSError

  monkeypatch.setattr(files, 'read_arrays', replaced)
  assert float(read_record(path)[1]['x']) == 2.0


def test_a_record_with_numbers_as_names_is_read_again(tmp_path):
  write_record(tmp_path / 'a.json', {'of_class': {i: float(i) for i in range(11)}})
  record, _ = read_record(tmp_path / 'a.json')
  assert record['of_class'] == {str(i): float(i) for i in range(11)}
