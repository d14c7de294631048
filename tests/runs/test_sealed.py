"""What is sealed is read again, or is said to be damaged."""

import json

import numpy as np
import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.sealed import read_sealed, write_sealed

RECORD = {'what': 'jacobian', 'step': 3, 'settings': {'seed': 0}, 'n': 0.1, 'none': None}


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'analysis' / 'jacobian.json'


def write(path, values, **numbers):
  write_sealed(path, RECORD | numbers, {'singular_values': np.asarray(values)})


def test_what_is_written_is_read(path):
  assert read_sealed(path) is None
  write(path, [1.0, 2.5])
  record, arrays = read_sealed(path)
  assert record == RECORD
  np.testing.assert_array_equal(arrays['singular_values'], [1.0, 2.5])


def test_a_record_without_arrays_is_one_file(path):
  write_sealed(path, RECORD, {})
  assert read_sealed(path) == (RECORD, {})
  assert [file.name for file in path.parent.iterdir()] == ['jacobian.json']


@pytest.mark.parametrize('text', ['', '[]', '{"what": "jacobian"}', '{"what": "jacobian", "sha256": 3}', '3', '\xff'])
def test_a_file_that_was_not_written_so_is_damaged(path, text):
  path.parent.mkdir()
  path.write_text(text, encoding='latin-1')
  with pytest.raises(UsageError, match=r'jacobian\.json: damaged'):
    read_sealed(path)


def test_a_number_that_was_edited_is_damage(path):
  write(path, [1.0])
  path.write_text(json.dumps(json.loads(path.read_text()) | {'n': 2}))
  with pytest.raises(UsageError, match='damaged'):
    read_sealed(path)


def test_arrays_of_another_time_are_damage(path):
  """A kill between the two files leaves them."""
  write(path, [1.0])
  numbers = path.read_text()
  write(path, [2.0])
  path.write_text(numbers)
  with pytest.raises(UsageError, match='damaged'):
    read_sealed(path)
  path.with_suffix('.npz').unlink()
  with pytest.raises(UsageError, match='damaged'):
    read_sealed(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / 'analysis').write_text('a file')
  with pytest.raises(UsageError, match='analysis: cannot be written'):
    write_sealed(tmp_path / 'analysis' / 'kde.json', RECORD, {})
