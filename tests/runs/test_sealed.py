"""What is sealed is read again, or is said to be damaged."""

import json

import numpy as np
import pytest

from flowgan_tf import files
from flowgan_tf.errors import UsageError
from flowgan_tf.files import read_record, seal, write_record

RECORD = {'what': 'jacobian', 'step': 3, 'settings': {'seed': 0}, 'n': 0.1, 'none': None}


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'analysis' / 'jacobian.json'


def write(path, values, **numbers):
  write_record(path, RECORD | numbers, {'singular_values': np.asarray(values)})


def test_what_is_written_is_read(path):
  assert read_record(path) is None
  write(path, [1.0, 2.5])
  record, arrays = read_record(path)
  assert record == RECORD
  np.testing.assert_array_equal(arrays['singular_values'], [1.0, 2.5])


def test_numbers_that_json_lacks_are_none(path):
  write(path, [1.0], n=float('nan'))
  assert read_record(path)[0] == RECORD | {'n': None}


def test_a_record_without_arrays_is_one_file(path):
  write_record(path, RECORD, {})
  assert read_record(path) == (RECORD, {})
  assert [file.name for file in path.parent.iterdir()] == ['jacobian.json']


@pytest.mark.parametrize('text', ['', '[]', '{"what": "jacobian"}', '{"what": "jacobian", "sha256": 3}', '3', '\xff'])
def test_a_file_that_was_not_written_so_is_damaged(path, text):
  path.parent.mkdir()
  path.write_text(text, encoding='latin-1')
  with pytest.raises(UsageError, match=r'jacobian\.json: damaged'):
    read_record(path)


def test_a_number_that_was_edited_is_damage(path):
  write(path, [1.0])
  path.write_text(json.dumps(json.loads(path.read_text()) | {'n': 2}))
  with pytest.raises(UsageError, match='damaged'):
    read_record(path)


def test_a_record_nested_too_deeply_is_damage(path):
  path.parent.mkdir()
  path.write_text('[' * 200_000)
  with pytest.raises(UsageError, match=r'jacobian\.json: damaged') as caught:
    read_record(path)
  assert '\n' not in str(caught.value)


def files_of(path):
  return sorted(file.name for file in path.parent.iterdir())


def test_lost_or_edited_arrays_are_damage(path):
  write(path, [1.0])
  [arrays] = path.parent.glob('*.npz')
  np.savez(arrays, singular_values=np.asarray([2.0]))
  with pytest.raises(UsageError, match='damaged'):
    read_record(path)
  arrays.unlink()
  with pytest.raises(UsageError, match='damaged'):
    read_record(path)


def test_a_kill_between_the_two_files_leaves_the_old_pair(path, monkeypatch):
  write(path, [1.0])
  before = files_of(path)
  with monkeypatch.context() as context:
    context.setattr(files, 'write_json', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
      write(path, [2.0], n=0.2)
  assert len(files_of(path)) == len(before) + 1
  record, arrays = read_record(path)
  assert (record['n'], list(arrays['singular_values'])) == (0.1, [1.0])
  # The next measurement leaves its own pair and nothing else.
  write(path, [3.0], n=0.3)
  assert (read_record(path)[0]['n'], len(files_of(path))) == (0.3, 2)


def write_as_0_1_0(path, values):
  """One name for the arrays, whatever they are, and a record that does not name it."""
  arrays = {'singular_values': np.asarray(values)}
  np.savez(path.with_suffix('.npz'), **arrays)
  path.write_text(json.dumps(RECORD | {'sha256': seal(RECORD, arrays)}))


def test_a_pair_of_0_1_0_is_read_and_replaced(path):
  path.parent.mkdir()
  write_as_0_1_0(path, [1.0])
  (path.parent / 'jacobian-notes.npz').touch()
  record, arrays = read_record(path)
  assert (record, list(arrays['singular_values'])) == (RECORD, [1.0])
  write(path, [2.0])
  assert list(read_record(path)[1]['singular_values']) == [2.0]
  assert 'jacobian.npz' not in files_of(path) and 'jacobian-notes.npz' in files_of(path)


def test_arrays_that_another_process_replaces_meanwhile_are_looked_up_again(path, monkeypatch):
  write(path, [1.0])
  read_json = files.read_json

  def replaced(file):
    monkeypatch.setattr(files, 'read_json', read_json)
    record = read_json(file)
    write(path, [2.0])
    return record

  monkeypatch.setattr(files, 'read_json', replaced)
  assert list(read_record(path)[1]['singular_values']) == [2.0]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / 'analysis').write_text('a file')
  with pytest.raises(UsageError, match='analysis: cannot be written'):
    write_record(tmp_path / 'analysis' / 'kde.json', RECORD, {})
