import re

import numpy as np
import pytest

from flowgan_tf.metrics.cache import cached


def total(saved):
  return float(saved['numbers'].sum())


def test_a_result_is_made_once(tmp_path):
  made = []

  def make():
    made.append(1)
    return {'numbers': np.arange(4.0)}

  folder = tmp_path / 'new' / 'cache'
  assert [cached(folder, 'sum', make, total) for _ in range(3)] == [6.0] * 3
  assert made == [1] and [path.name for path in folder.iterdir()] == ['sum.npz']
  assert cached(folder, 'sum', lambda: pytest.fail('made again'), list) == ['numbers']


def test_the_file_stays_in_the_folder_whatever_the_name(tmp_path):
  cached(tmp_path / 'cache', '../a b/é.npz', lambda: {'numbers': np.ones(1)}, total)
  assert [path.name for path in tmp_path.rglob('*.npz')] == ['-a-b-npz.npz']
  assert [path.name for path in tmp_path.iterdir()] == ['cache']


def test_a_file_that_cannot_be_read_is_replaced(tmp_path, caplog):
  path = tmp_path / 'sum.npz'
  np.savez(path, others=np.ones(2))
  assert cached(tmp_path, 'sum', lambda: {'numbers': np.ones(3)}, total) == 3.0
  [message] = [record.getMessage() for record in caplog.records]
  assert message.startswith(f'{path}: damaged (KeyError: ') and message.endswith(', and is made again.')
  assert cached(tmp_path, 'sum', lambda: pytest.fail('made again'), total) == 3.0


@pytest.mark.parametrize(
  'change',
  [{'numbers': np.arange(5.0)}, {'numbers': np.arange(4)}, {'others': np.ones(1)}, {'sha256': np.ones(1)}],
)
def test_arrays_that_are_not_those_that_were_kept_are_made_again(tmp_path, caplog, change):
  """Whole files of other arrays, of which a reader may use some."""
  path = tmp_path / 'sum.npz'
  cached(tmp_path, 'sum', lambda: {'numbers': np.arange(4.0), 'n': 4, 'name': 'λ'}, total)
  with np.load(path) as saved:
    arrays = dict(saved)
  np.savez(path, **arrays)
  assert cached(tmp_path, 'sum', lambda: pytest.fail('made again'), total) == 6.0
  np.savez(path, **arrays | change)
  assert cached(tmp_path, 'sum', lambda: {'numbers': np.ones(3)}, total) == 3.0
  assert caplog.messages == [f'{path}: damaged (ValueError: not what was written), and is made again.']


def test_the_seal_is_there_if_other_members_are(tmp_path, caplog):
  """The length of a comment in the zip file's directory, damaged in one bit, makes a reader skip what follows it."""
  cached(tmp_path, 'sum', lambda: {'numbers': np.arange(4.0), 'others': np.ones(3)}, total)
  path = tmp_path / 'sum.npz'
  content = bytearray(path.read_bytes())
  for entry in [m.start() for m in re.finditer(b'PK\x01\x02', bytes(content))][:-1]:
    path.write_bytes(content[: entry + 32] + bytes([0, content[entry + 33] | 0x10]) + content[entry + 34 :])
    assert cached(tmp_path, 'sum', lambda: {'numbers': np.ones(3)}, total) == 3.0
    path.write_bytes(content)
  assert len(caplog.messages) == 2


def test_a_file_of_an_older_version_has_no_seal(tmp_path, caplog):
  np.savez(tmp_path / 'sum.npz', numbers=np.arange(4.0))
  assert cached(tmp_path, 'sum', lambda: pytest.fail('made again'), total) == 6.0
  assert caplog.messages == []


def test_a_result_that_cannot_be_read_when_it_is_new_is_an_error(tmp_path):
  with pytest.raises(KeyError):
    cached(tmp_path, 'sum', lambda: {'others': np.ones(3)}, total)


def test_a_cache_that_cannot_be_written_costs_no_result(tmp_path, caplog):
  (tmp_path / 'file').touch()
  assert cached(tmp_path / 'file', 'sum', lambda: {'numbers': np.ones(3)}, total) == 3.0
  [message] = [record.getMessage() for record in caplog.records]
  assert message == (f'{tmp_path}/file/sum.npz: cannot be written (Not a directory), and will be computed every time.')
