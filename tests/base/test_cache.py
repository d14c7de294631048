"""The cache: results are made once, and damage or a full disk costs nothing but time."""

import errno
import io
import os
import pathlib
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest

from flowgan_tf.base.cache import cached


def arrays():
  return {'numbers': np.arange(4.0), 'n': 4, 'name': 'λ'}


def again():
  pytest.fail('made again')


def test_a_result_is_made_once_and_stays_in_the_folder_whatever_its_name(tmp_path):
  folder = tmp_path / 'new' / 'cache'
  assert cached(folder, '../a b/é.npz', arrays)['n'] == 4
  assert [path.name for path in tmp_path.rglob('*.npz')] == ['-a-b-npz.npz']
  assert [path.name for path in folder.iterdir()] == ['-a-b-npz.npz']
  found = cached(folder, '../a b/é.npz', again)
  np.testing.assert_array_equal(found['numbers'], np.arange(4.0))
  assert (int(found['n']), str(found['name']), len(found)) == (4, 'λ', 3)


def test_a_long_name_is_cut(tmp_path):
  for end in 'ab':
    assert cached(tmp_path, 300 * 'x' + end, lambda end=end: {'end': end})['end'] == end
  assert str(cached(tmp_path, 300 * 'x' + 'a', again)['end']) == 'a'
  assert all(len(path.name) < 210 for path in tmp_path.iterdir())


def test_what_a_killed_process_has_left_is_removed(tmp_path):
  gone = subprocess.Popen([sys.executable, '-c', ''])
  gone.wait()
  old, young, running = (f'images.npz.{pid}.tmp' for pid in (gone.pid, f'0{gone.pid}', os.getppid()))
  for name in (old, young, running):
    (tmp_path / name).touch()
  for name in (old, running):
    os.utime(tmp_path / name, times=(0, 0))
  an_hour_ago = time.time() - 3600
  os.utime(tmp_path / young, times=(an_hour_ago, an_hour_ago))
  with mock.patch.object(pathlib.Path, 'unlink', side_effect=PermissionError):  # Another user's.
    cached(tmp_path, 'other', arrays)
  assert (tmp_path / old).exists()
  cached(tmp_path, 'sum', arrays)
  assert {path.name for path in tmp_path.iterdir()} == {'sum.npz', 'other.npz', young, running}


def edited(content, **arrays):
  file = io.BytesIO()
  np.savez(file, **dict(np.load(io.BytesIO(content))) | arrays)
  return file.getvalue()


def commented(content):
  """A damaged bit in the length of a comment in the zip file's directory makes a reader skip the next member."""
  at = content.index(b'PK\x01\x02') + 33
  return content[:at] + bytes([content[at] | 0x10]) + content[at + 1 :]


@pytest.mark.parametrize(
  'damage',
  [
    lambda content: content[: len(content) // 2],
    lambda content: b'text',
    lambda content: edited(content, numbers=np.arange(4)),
    lambda content: edited(content, others=np.ones(1)),
    commented,
  ],
)
def test_a_damaged_file_is_made_again_with_a_warning(tmp_path, caplog, damage):
  path = tmp_path / 'sum.npz'
  cached(tmp_path, 'sum', arrays)
  path.write_bytes(damage(path.read_bytes()))
  assert cached(tmp_path, 'sum', lambda: {'n': 7}) == {'n': 7}
  [message] = caplog.messages
  assert message.startswith(f'{path}: damaged (') and message.endswith('; making it again.') and '\n' not in message
  assert cached(tmp_path, 'sum', again) == {'n': 7}
  assert len(caplog.messages) == 1 and list(tmp_path.iterdir()) == [path]


def test_a_cache_that_cannot_be_written_costs_no_result(tmp_path, caplog):
  (tmp_path / 'file').touch()
  assert cached(tmp_path / 'file', 'sum', arrays)['n'] == 4
  said = f'{tmp_path}/file/sum.npz: cannot be written (Not a directory); it will be computed every time.'
  assert caplog.messages == [said]


def test_a_cache_that_cannot_be_entered_costs_no_result(tmp_path, caplog, monkeypatch):
  """Root may enter any folder, so the system's calls are replaced."""
  for name in ('open', 'exists'):
    monkeypatch.setattr(pathlib.Path, name, mock.Mock(side_effect=PermissionError(errno.EACCES, 'Permission denied')))
  assert cached(tmp_path, 'sum', arrays)['n'] == 4
  said = f'{tmp_path}/sum.npz: cannot be written (Permission denied); it will be computed every time.'
  assert caplog.messages == [said]
