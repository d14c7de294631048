import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.training.rollbacks import read_rollbacks, write_rollbacks

RECORDS = [{'kind': kind} for kind in ('validation', 'rollback', 'train', 'rollback', 'validation')]


def test_the_file_counts_and_without_it_the_log(tmp_path):
  assert read_rollbacks(tmp_path, []) == 0
  assert read_rollbacks(tmp_path, RECORDS) == 2
  for count in (1, 3):
    write_rollbacks(tmp_path, count)
    assert read_rollbacks(tmp_path, RECORDS) == read_rollbacks(tmp_path, []) == count


def test_a_flipped_bit_gives_no_other_count(tmp_path):
  write_rollbacks(tmp_path, 3)
  [path] = tmp_path.iterdir()
  content, refused = path.read_bytes(), 0
  for bit in range(8 * len(content)):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)
    try:
      assert read_rollbacks(tmp_path, RECORDS) == 3  # As white space may be another.
    except UsageError as error:
      assert str(error).startswith(f'{path}: damaged (') and '\n' not in str(error)
      refused += 1
  assert refused > 0.9 * 8 * len(content)


@pytest.mark.parametrize('content', ['', '[]', '3', 'null', '{"rollbacks": 1}'])
def test_what_was_not_written_here_is_refused(tmp_path, content):
  (tmp_path / 'rollbacks.json').write_text(content)
  with pytest.raises(UsageError, match=r'rollbacks\.json: damaged \(.*\); remove it to count the rollbacks in metrics'):
    read_rollbacks(tmp_path, RECORDS)


def test_a_folder_in_its_place_is_refused(tmp_path):
  (tmp_path / 'rollbacks.json').mkdir()
  with pytest.raises(UsageError, match=r'rollbacks\.json: damaged'):
    read_rollbacks(tmp_path, RECORDS)
