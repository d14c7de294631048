import json

import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.log import read_lines, read_metrics, sealed_line

RECORDS = [{'kind': 'train', 'step': step, 'seconds': step / 8, 'nll': step + 0.1} for step in range(1, 8)]


def written(records, before=None):
  """The lines that a training writes."""
  contents = []
  for record in records:
    before = sealed_line(record, before)
    contents.append(before.content)
  return contents


def write(folder, contents, rest=b''):
  (folder / 'metrics.jsonl').write_bytes(b''.join(content + b'\n' for content in contents) + rest)


def test_no_metrics_yet(tmp_path):
  assert read_metrics(tmp_path) == []


def test_what_is_written_is_read(tmp_path, caplog):
  write(tmp_path, written([*RECORDS, {'step': 9, 'seconds': 2.0, 'nll': float('nan'), 'scorer': 'λ'}]))
  assert read_metrics(tmp_path) == [*RECORDS, {'step': 9, 'seconds': 2.0, 'nll': None, 'scorer': 'λ'}]
  assert caplog.messages == []
  # Each line is JSON whose last value is the seal.
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert [list(json.loads(line))[-1] for line in lines] == ['seal'] * 8


@pytest.mark.parametrize('end', [1, 20, -1])
def test_the_partial_line_that_a_kill_leaves_is_no_damage(tmp_path, caplog, end):
  contents = written(RECORDS)
  write(tmp_path, contents[:-1], rest=contents[-1][:end])
  assert read_metrics(tmp_path) == RECORDS[:-1]
  assert caplog.messages == []


def test_a_whole_line_without_its_end_counts(tmp_path, caplog):
  contents = written(RECORDS)
  write(tmp_path, contents[:-1], rest=contents[-1])
  assert read_metrics(tmp_path) == RECORDS
  assert caplog.messages == []


def without(contents, index):
  return contents[:index] + contents[index + 1 :]


def with_edit(contents, index, old=b'.1,', new=b'.2,'):
  assert old in contents[index]
  return [*contents[:index], contents[index].replace(old, new), *contents[index + 1 :]]


ORDER = 'missing, doubled or out of order: what is before '


@pytest.mark.parametrize(
  ('change', 'steps', 'warning'),
  [
    (lambda c: with_edit(c, 2), [1, 2, 4, 5, 6, 7], 'damaged and left out: line 3'),
    (lambda c: with_edit(c, 6), [1, 2, 3, 4, 5, 6], 'damaged and left out: line 7'),
    (lambda c: with_edit(c, 2, b'{', b'['), [1, 2, 4, 5, 6, 7], 'damaged and left out: line 3'),
    (lambda c: with_edit(c, 2, b'nll', b'\xff\xfe'), [1, 2, 4, 5, 6, 7], 'damaged and left out: line 3'),
    (lambda c: with_edit(c, 2, b'"seal"', b'"sale"'), [1, 2, 4, 5, 6, 7], 'damaged and left out: line 3'),
    (lambda c: [*c[:2], c[2] + b' ' + c[3], *c[4:]], [1, 2, 5, 6, 7], 'damaged and left out: line 3'),
    (lambda c: [*c[:2], b'[' * 200_000, *c[3:]], [1, 2, 4, 5, 6, 7], 'damaged and left out: line 3'),
    (lambda c: without(c, 2), [1, 2, 4, 5, 6, 7], f'{ORDER}line 3'),
    (lambda c: without(c, 0), [2, 3, 4, 5, 6, 7], f'{ORDER}line 1'),
    (lambda c: [*c[:3], c[2], *c[3:]], [1, 2, 3, 4, 5, 6, 7], f'{ORDER}line 4'),
    (lambda c: [c[0], c[2], c[1], *c[3:]], [1, 3, 2, 4, 5, 6, 7], f'{ORDER}lines 2, 3, 4'),
    (lambda c: with_edit(without(c, 4), 1), [1, 3, 4, 6, 7], f'damaged and left out: line 2; {ORDER}line 5'),
    (lambda c: [b'{}'] * 6 + [c[0]], [1], 'damaged and left out: lines 1, 2, 3, 4, 5 and 1 more'),
  ],
)
def test_damaged_and_missing_lines_are_named(tmp_path, caplog, change, steps, warning):
  write(tmp_path, change(written(RECORDS)))
  assert [record['step'] for record in read_metrics(tmp_path)] == steps
  assert caplog.messages == [f'{tmp_path}/metrics.jsonl: {warning}.']


def test_the_end_of_the_last_line_may_be_damaged(tmp_path, caplog):
  contents = written(RECORDS)
  write(tmp_path, contents[:-1], rest=contents[-1] + b'\x0b')
  assert read_metrics(tmp_path) == RECORDS[:-1]
  assert caplog.messages == [f'{tmp_path}/metrics.jsonl: damaged and left out: line 7.']


def older(records):
  return [json.dumps(record).encode() for record in records]


def test_lines_of_an_older_version_stand_before_those_with_seals(tmp_path, caplog):
  write(tmp_path, older(RECORDS[:3]))
  lines = read_lines(tmp_path)
  assert [line.record for line in lines] == RECORDS[:3]
  write(tmp_path, older(RECORDS[:3]) + written(RECORDS[3:], lines[-1]))
  assert read_metrics(tmp_path) == RECORDS
  assert caplog.messages == []
  # The first sealed line tells the one before it; and after it, a line without a seal has lost it.
  write(tmp_path, with_edit(older(RECORDS[:3]), 2, b'.1', b'.2') + written(RECORDS[3:], lines[-1]))
  read_metrics(tmp_path)
  write(tmp_path, written(RECORDS[:2]) + older(RECORDS[2:]))
  assert read_metrics(tmp_path) == RECORDS[:2]
  path = tmp_path / 'metrics.jsonl'
  assert caplog.messages == [f'{path}: {ORDER}line 4.', f'{path}: damaged and left out: lines 3, 4, 5, 6, 7.']


@pytest.mark.parametrize(
  'line',
  [
    b'\xff\xfe',
    b'5',
    b'{"a": 1}',
    b'{"step": "x", "seconds": 1.0}',
    b'{"step": 3, "seconds": "x"}',
  ],
)
def test_lines_without_a_seal_that_are_no_records_are_damaged(tmp_path, caplog, line):
  write(tmp_path, [*older(RECORDS[:1]), line])
  assert read_metrics(tmp_path) == RECORDS[:1]
  assert caplog.messages == [f'{tmp_path}/metrics.jsonl: damaged and left out: line 2.']


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
  write(tmp_path, written(RECORDS))

  def refuse(path):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr('pathlib.Path.read_bytes', refuse)
  with pytest.raises(UsageError) as caught:
    read_metrics(tmp_path)
  assert str(caught.value) == f'{tmp_path}/metrics.jsonl: cannot be read (Permission denied)'
