import json
import os
import pathlib

import numpy as np
import pytest

from flowgan_tf import files
from flowgan_tf.errors import UsageError
from flowgan_tf.files import as_json, make_writable, save_arrays, write_atomically, write_json


class Killed(BaseException):
  """What nothing catches, as a signal."""


def write_half(error):
  """A stand-in for NumPy's writer of one array that fails when part of it is written."""

  def write_array(file, array, allow_pickle):
    file.write(b'half')
    raise error

  return write_array


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
