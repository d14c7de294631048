import os
import pathlib

import numpy as np
import pytest

from flowgan_tf import files
from flowgan_tf.files import make_writable, save_arrays, write_atomically


class Killed(BaseException):
  """What nothing catches, as a signal."""


def write_half(error):
  """A stand-in for `np.savez` that fails when part of the file is written."""

  def savez(file, **arrays):
    file.write(b'half')
    file.flush()
    raise error

  return savez


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path):
  folder = tmp_path / 'a' / 'b'
  make_writable(folder)
  assert folder.is_dir() and not list(folder.iterdir())
  (folder / 'file').write_text('kept')
  make_writable(folder)
  assert [path.name for path in folder.iterdir()] == ['file']


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  for folder in (tmp_path / 'file', tmp_path / 'file' / 'folder'):
    with pytest.raises(OSError, match='file'):
      make_writable(folder)


@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='has no folder in which nobody can create files')
def test_a_folder_that_cannot_be_written_to_is_refused():
  """Not even by root, who may write to folders without permissions."""
  with pytest.raises(OSError, match=r'/proc/self/\.writable'):
    make_writable(pathlib.Path('/proc/self'))


@pytest.mark.parametrize('kind', [str, pathlib.Path])
def test_arrays_numbers_and_strings_are_read_again(tmp_path, kind):
  path = tmp_path / 'new' / 'folder' / 'arrays.npz'
  array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
  save_arrays(kind(path), array=array, number=0.25, text='0123abcd')
  with np.load(path, allow_pickle=False) as saved:
    np.testing.assert_array_equal(saved['array'], array, strict=True)
    assert (float(saved['number']), str(saved['text'])) == (0.25, '0123abcd')
  save_arrays(kind(path), other=array)
  with np.load(path, allow_pickle=False) as saved:
    assert saved.files == ['other']
  assert [file.name for file in path.parent.iterdir()] == ['arrays.npz']


def test_a_full_disk_leaves_the_old_arrays_and_nothing_else(tmp_path, monkeypatch):
  path = tmp_path / 'arrays.npz'
  save_arrays(path, old=1.0)
  monkeypatch.setattr(np, 'savez', write_half(OSError(28, 'No space left on device')))
  with pytest.raises(OSError, match='No space left'):
    save_arrays(path, new=2.0)
  assert list(tmp_path.iterdir()) == [path]
  with np.load(path) as saved:
    assert saved.files == ['old']


def test_a_kill_leaves_the_old_arrays(tmp_path, monkeypatch):
  path = tmp_path / 'arrays.npz'
  save_arrays(path, old=1.0)
  monkeypatch.setattr(np, 'savez', write_half(Killed()))
  with pytest.raises(Killed):
    save_arrays(path, new=2.0)
  with np.load(path) as saved:
    assert saved.files == ['old']


def test_two_processes_do_not_write_to_one_temporary_file(tmp_path, monkeypatch):
  """The second starts while the first is writing; both end with a whole file."""
  path, savez = tmp_path / 'arrays.npz', np.savez

  def other_process_first(file, **arrays):
    monkeypatch.setattr(np, 'savez', savez)
    file.write(b'begun')
    with monkeypatch.context() as context:
      context.setattr(files.os, 'getpid', lambda: -1)
      save_arrays(path, second=2.0)
    file.seek(0)
    savez(file, **arrays)

  monkeypatch.setattr(np, 'savez', other_process_first)
  save_arrays(path, first=1.0)
  with np.load(path) as saved:
    assert saved.files == ['first']
  assert list(tmp_path.iterdir()) == [path]


def test_text_is_written_as_utf_8(tmp_path):
  path = tmp_path / 'text'
  for text in ('first', 'Fréchet, λ\n'):
    write_atomically(path, text)
    assert path.read_bytes() == text.encode('utf-8')
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), Killed()])
def test_a_full_disk_or_a_kill_leaves_the_old_text(tmp_path, monkeypatch, error):
  path = tmp_path / 'text'
  write_atomically(path, 'old')
  write_text = pathlib.Path.write_text

  def write_half(self, text, **options):
    write_text(self, text[:1], **options)
    raise error

  monkeypatch.setattr(pathlib.Path, 'write_text', write_half)
  with pytest.raises(type(error)):
    write_atomically(path, 'new')
  assert path.read_text() == 'old'
  if isinstance(error, OSError):
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_not_replaced_by_a_text(tmp_path):
  (tmp_path / 'folder').mkdir()
  with pytest.raises(OSError, match='folder'):
    write_atomically(tmp_path / 'folder', 'text')
  assert [path.name for path in tmp_path.iterdir()] == ['folder']
