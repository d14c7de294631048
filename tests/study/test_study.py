"""What analyses leave in a run is found there again, or said to be damaged."""

import json

import numpy as np
import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.study.study import Study, read, write


def study(number, values):
  record = {'what': 'jacobian', 'checkpoint': 'latest', 'step': 3, 'settings': {'seed': 0}, 'n': number, 'none': None}
  return Study(record, {'singular_values': np.asarray(values)})


def test_what_is_written_is_read(tmp_path):
  assert read(tmp_path, 'jacobian') is None
  write(tmp_path, study(0.1, [1.0, 2.5]))
  found = read(tmp_path, 'jacobian')
  assert found.record == study(0.1, []).record
  np.testing.assert_array_equal(found.arrays['singular_values'], [1.0, 2.5])


@pytest.mark.parametrize('text', ['', '[]', '{"what": "jacobian"}', '{"what": "jacobian", "sha256": 3}', '3'])
def test_a_file_that_was_not_written_so_is_damaged(tmp_path, text):
  (tmp_path / 'analysis').mkdir()
  (tmp_path / 'analysis' / 'jacobian.json').write_text(text)
  with pytest.raises(UsageError, match='damaged'):
    read(tmp_path, 'jacobian')


def test_a_number_that_was_edited_is_damage(tmp_path):
  write(tmp_path, study(1, [1.0]))
  path = tmp_path / 'analysis' / 'jacobian.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {'n': 2}))
  with pytest.raises(UsageError, match='damaged'):
    read(tmp_path, 'jacobian')


def test_arrays_of_another_analysis_are_damage(tmp_path):
  """As a kill between the two files leaves them."""
  write(tmp_path, study(1, [1.0]))
  numbers = (tmp_path / 'analysis' / 'jacobian.json').read_text()
  write(tmp_path, study(1, [2.0]))
  (tmp_path / 'analysis' / 'jacobian.json').write_text(numbers)
  with pytest.raises(UsageError, match='damaged'):
    read(tmp_path, 'jacobian')
  (tmp_path / 'analysis' / 'jacobian.npz').unlink()
  with pytest.raises(UsageError, match='damaged'):
    read(tmp_path, 'jacobian')
