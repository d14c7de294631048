import contextlib
import errno
import hashlib
import json
import math
import os
import pathlib
import stat
import struct
import tempfile

import numpy as np
import pytest

from flowgan_tf import files
from flowgan_tf.errors import UsageError
from flowgan_tf.files import (
  as_json,
  make_writable,
  read_json,
  save_arrays,
  seal,
  sealed,
  unsealed,
  write_atomically,
  write_json,
)


class Killed(BaseException):
  """What nothing catches, as a signal."""


def write_half(error):
  """A stand-in for NumPy's writer of one array that fails when part of it is written."""

  def write_array(file, array, allow_pickle):
    file.write(b'half')
    raise error

  return write_array


def test_a_device_is_not_replaced_and_a_link_stays_one(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(UsageError, match=r'pipe: cannot be written \(it is a device or a pipe\)$'):
    write_atomically(tmp_path / 'pipe', 'x')
  assert (tmp_path / 'pipe').is_fifo()
  (tmp_path / 'link').symlink_to('file')
  write_atomically(tmp_path / 'link', 'x')
  assert (tmp_path / 'link').is_symlink() and (tmp_path / 'file').read_text() == 'x'


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path):
  folder = tmp_path / 'a' / 'b'
  assert make_writable(str(folder)) == folder
  assert folder.is_dir() and not list(folder.iterdir())
  (folder / 'file').write_text('kept')
  make_writable(folder)
  assert [path.name for path in folder.iterdir()] == ['file']


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  for folder in (tmp_path / 'file', tmp_path / 'file' / 'folder'):
    with pytest.raises(UsageError, match=rf'^{folder}: cannot be written \((File exists|Not a directory)\)$'):
      make_writable(folder)


@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='has no folder in which nobody can create files')
def test_a_folder_that_cannot_be_written_to_is_refused():
  """Not even by root, who may write to folders without permissions."""
  with pytest.raises(UsageError, match=r'^/proc/self: cannot be written \(.+\)$'):
    make_writable(pathlib.Path('/proc/self'))


def test_a_folder_that_another_process_checks_at_the_same_time_can_be_written_to(tmp_path, monkeypatch):
  """Neither removes a file of the other."""
  temporary_file = tempfile.TemporaryFile

  def other_process_first(**arguments):
    monkeypatch.setattr(tempfile, 'TemporaryFile', temporary_file)
    make_writable(tmp_path)
    return temporary_file(**arguments)

  monkeypatch.setattr(tempfile, 'TemporaryFile', other_process_first)
  make_writable(tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path):
  """TensorFlow could not write there, after the training."""
  folder = tmp_path / os.fsdecode(b'run\xff')
  with pytest.raises(UsageError) as caught:
    make_writable(folder)
  assert str(caught.value) == f'{tmp_path}/run\\xff: cannot be written (its name must be UTF-8)'
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('kind', [str, pathlib.Path])
def test_arrays_numbers_and_strings_are_read_again(tmp_path, kind):
  path = tmp_path / 'new' / 'folder' / 'arrays.npz'
  array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
  save_arrays(kind(path), {'array': array, 'number': 0.25, 'text': '0123abcd'})
  with np.load(path, allow_pickle=False) as saved:
    np.testing.assert_array_equal(saved['array'], array, strict=True)
    assert (float(saved['number']), str(saved['text'])) == (0.25, '0123abcd')
  save_arrays(kind(path), {'other': array})
  with np.load(path, allow_pickle=False) as saved:
    assert saved.files == ['other']
  assert [file.name for file in path.parent.iterdir()] == ['arrays.npz']


def test_any_name_and_a_path_without_a_folder(tmp_path, monkeypatch):
  """`np.savez` takes the names as keywords, beside its own `file` and `allow_pickle`."""
  monkeypatch.chdir(tmp_path)
  arrays = {'file': np.arange(3), 'path': np.ones(2), 'allow_pickle': np.zeros(1), 'λ 1': np.float32(2)}
  save_arrays('arrays.npz', arrays)
  with np.load(tmp_path / 'arrays.npz', allow_pickle=False) as saved:
    assert saved.files == list(arrays)
    for name, array in arrays.items():
      np.testing.assert_array_equal(saved[name], array, strict=True)


def test_a_full_disk_leaves_the_old_arrays_and_nothing_else(tmp_path, monkeypatch):
  path = tmp_path / 'arrays.npz'
  save_arrays(path, {'old': 1.0})
  monkeypatch.setattr(np.lib.format, 'write_array', write_half(OSError(28, 'No space left on device')))
  with pytest.raises(UsageError, match=rf'^{path}: cannot be written \(No space left on device\)$'):
    save_arrays(path, {'new': 2.0})
  assert list(tmp_path.iterdir()) == [path]
  with np.load(path) as saved:
    assert saved.files == ['old']


def test_a_kill_leaves_the_old_arrays(tmp_path, monkeypatch):
  path = tmp_path / 'arrays.npz'
  save_arrays(path, {'old': 1.0})
  monkeypatch.setattr(np.lib.format, 'write_array', write_half(Killed()))
  with pytest.raises(Killed):
    save_arrays(path, {'new': 2.0})
  with np.load(path) as saved:
    assert saved.files == ['old']


def test_two_processes_do_not_write_to_one_temporary_file(tmp_path, monkeypatch):
  """The second starts while the first is writing; both end with a whole file."""
  path, write_array = tmp_path / 'arrays.npz', np.lib.format.write_array

  def other_process_first(file, array, allow_pickle):
    monkeypatch.setattr(np.lib.format, 'write_array', write_array)
    with monkeypatch.context() as context:
      context.setattr(files.os, 'getpid', lambda: -1)
      save_arrays(path, {'second': 2.0})
    write_array(file, array, allow_pickle=allow_pickle)

  monkeypatch.setattr(np.lib.format, 'write_array', other_process_first)
  save_arrays(path, {'first': 1.0})
  with np.load(path) as saved:
    assert saved.files == ['first']
  assert list(tmp_path.iterdir()) == [path]


def test_numbers_of_numpy_become_those_of_python():
  value = {'a': np.float32(0.5), 'b': [np.int64(3), (np.inf, float('nan'))], 'c': 'text', 'd': None, 'e': True}
  assert as_json(value) == {'a': 0.5, 'b': [3, [None, None]], 'c': 'text', 'd': None, 'e': True}
  assert json.loads(json.dumps(as_json(value))) == as_json(value)


def test_json_has_no_numbers_that_are_not_finite(tmp_path):
  write_json(tmp_path / 'file.json', [{'a': float('nan'), 'b': 0.1}])
  text = (tmp_path / 'file.json').read_text()
  assert text == '[\n  {\n    "a": null,\n    "b": 0.1\n  }\n]\n'


def test_text_is_written_as_utf_8(tmp_path):
  path = tmp_path / 'text'
  for text in ('first', 'Fréchet, λ\n'):
    write_atomically(path, text)
    assert path.read_bytes() == text.encode('utf-8')
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  ('error', 'raised'), [(OSError(28, 'No space left on device'), UsageError), (Killed(), Killed)]
)
def test_a_full_disk_or_a_kill_leaves_the_old_text(tmp_path, monkeypatch, error, raised):
  path = tmp_path / 'text'
  write_atomically(path, 'old')
  write_bytes = pathlib.Path.write_bytes

  def write_half(self, content):
    write_bytes(self, content[:1])
    raise error

  monkeypatch.setattr(pathlib.Path, 'write_bytes', write_half)
  with pytest.raises(raised):
    write_atomically(path, 'new')
  assert path.read_text() == 'old'
  assert list(tmp_path.iterdir()) == [path]


def test_bytes_are_written_as_they_are(tmp_path):
  write_atomically(tmp_path / 'file', b'\x00\xff\r\n')
  assert (tmp_path / 'file').read_bytes() == b'\x00\xff\r\n'


def test_a_folder_is_not_replaced_by_a_text(tmp_path):
  (tmp_path / 'folder').mkdir()
  with pytest.raises(UsageError, match=rf'^{tmp_path}/folder: cannot be written \(Is a directory\)$'):
    write_atomically(tmp_path / 'folder', 'text')
  assert [path.name for path in tmp_path.iterdir()] == ['folder']


RECORD = {'a': 0.1, 'b': [1, None, 'λ'], 'c': {'d': True}}


def test_what_is_sealed_is_read_again(tmp_path):
  record = RECORD | {'n': np.float32(0.1), 'none': math.nan, 't': (1, 2)}
  write_json(tmp_path / 'file.json', sealed(record))
  read = unsealed(read_json(tmp_path / 'file.json'))
  assert read == RECORD | {'n': float(np.float32(0.1)), 'none': None, 't': [1, 2]}
  # The order of keys says nothing.
  assert unsealed(dict(reversed(sealed(record).items()))) == read


def test_a_seal_is_that_of_sha256sum():
  """Of the JSON with sorted keys; and of the arrays behind it, by name, with what their bytes mean."""
  text = b'{"a": 0.1, "b": [1, null, "\\u03bb"], "c": {"d": true}}'
  assert seal(RECORD) == hashlib.sha256(text).hexdigest()
  arrays = {'y': np.asarray([[1, 2]], np.uint8), 'x': 2.0}
  text += b'x float64 ()' + struct.pack('<d', 2.0) + b'y uint8 (1, 2)' + bytes([1, 2])
  assert seal(RECORD, arrays) == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize(
  'change', [{'a': 0.2}, {'b': [1, None]}, {'c': {'d': 1}}, {'e': 1}, {'sha256': None}, {'sha256': '0' * 64}]
)
def test_a_change_breaks_the_seal(change):
  with pytest.raises(ValueError, match='not what was written'):
    unsealed(sealed(RECORD) | change)
  with pytest.raises(ValueError, match='not what was written'):
    unsealed({name: value for name, value in sealed(RECORD).items() if name != 'c'})


@pytest.mark.parametrize('content', [b'', b'{', b'\xff"', b'[' * 200_000, b'9' * 5000])
def test_what_is_not_json_is_a_value_error(tmp_path, content):
  (tmp_path / 'file.json').write_bytes(content)
  with pytest.raises(ValueError):
    read_json(tmp_path / 'file.json')


def is_folder(descriptor):
  return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def test_a_power_cut_finds_the_content_on_the_disk_before_the_name_and_then_the_name(tmp_path, monkeypatch):
  done, fsync, replace = [], os.fsync, os.replace
  monkeypatch.setattr(files.os, 'fsync', lambda n: (done.append('folder' if is_folder(n) else 'file'), fsync(n)))
  monkeypatch.setattr(files.os, 'replace', lambda *names: (done.append('replace'), replace(*names)))
  write_atomically(tmp_path / 'file', 'text')
  assert done == ['file', 'replace', 'folder']


@pytest.mark.parametrize('number', [errno.EINVAL, errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_synchronised_is_passed_over_but_no_failing_disk(tmp_path, monkeypatch, number):
  def fsync(descriptor):
    if is_folder(descriptor):
      raise OSError(number, os.strerror(number))

  monkeypatch.setattr(files.os, 'fsync', fsync)
  refused = pytest.raises(UsageError, match='Input/output error') if number == errno.EIO else contextlib.nullcontext()
  with refused:
    write_atomically(tmp_path / 'file', 'text')
  assert [file.name for file in tmp_path.iterdir()] == ['file']


def test_a_file_that_cannot_be_synchronised_is_refused(tmp_path, monkeypatch):
  def fsync(descriptor):
    raise OSError(errno.EINVAL, 'Invalid argument')

  monkeypatch.setattr(files.os, 'fsync', fsync)
  with pytest.raises(UsageError, match='Invalid argument'):
    write_atomically(tmp_path / 'file', 'text')
  assert not list(tmp_path.iterdir())
