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
  assert cached(folder, 'sum', lambda: pytest.fail('made again'), lambda saved: saved.files) == ['numbers']


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


def test_a_result_that_cannot_be_read_when_it_is_new_is_an_error(tmp_path):
  with pytest.raises(KeyError):
    cached(tmp_path, 'sum', lambda: {'others': np.ones(3)}, total)


def test_a_cache_that_cannot_be_written_costs_no_result(tmp_path, caplog):
  (tmp_path / 'file').touch()
  assert cached(tmp_path / 'file', 'sum', lambda: {'numbers': np.ones(3)}, total) == 3.0
  [message] = [record.getMessage() for record in caplog.records]
  assert message == (f'{tmp_path}/file/sum.npz: cannot be written (Not a directory), and will be computed every time.')
