"""The count of rollbacks, and trainings that roll back."""

import itertools
import time
import types

import numpy as np
import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.training import loop
from flowgan_tf.training.loop import TrainingDiverged, train
from flowgan_tf.training.rollbacks import read_rollbacks, write_rollbacks
from tests.training.trainings import assert_same_run, break_at, poison_after, records_of

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


def test_rollbacks_halve_the_learning_rate_and_survive_a_kill(config, tmp_path, monkeypatch):
  config.update({'on_nan': 'rollback', 'steps': 8, 'eval_every': 2})
  monkeypatch.setattr(loop, 'make_step', poison_after(5, 'generator', above=0.25))
  assert train(config, tmp_path / 'whole')
  records = records_of(tmp_path / 'whole')
  assert [r['step'] for r in records if r['kind'] == 'validation'] == [2, 4, 6, 8]
  rollbacks = [r for r in records if r['kind'] == 'rollback']
  assert rollbacks == [{'kind': 'rollback', 'step': 4, 'diverged_at': 5, 'reason': 'weights'}] * 2
  rates = {r['step']: r['learning_rate'] for r in records if r['kind'] == 'train'}
  assert list(rates) == [*range(1, 9)]
  np.testing.assert_allclose([*rates.values()], [0.01] * 4 + [0.0025] * 4, rtol=1e-6)

  with monkeypatch.context() as patch:
    break_at(patch, '_evaluate', 6)
    with pytest.raises(ZeroDivisionError):
      train(config, tmp_path / 'parts')
  # The log, whose last rollback is damaged, has no say.
  log = tmp_path / 'parts' / 'metrics.jsonl'
  content = log.read_bytes()
  log.write_bytes(content[::-1].replace(b'kcabllor', b'kcabllox', 1)[::-1])
  assert len(read_metrics(tmp_path / 'parts')) == content.count(b'\n') - 1
  assert train(config, tmp_path / 'parts')
  log.write_bytes(content + log.read_bytes()[len(content) :])
  assert_same_run(tmp_path / 'whole', tmp_path / 'parts')
  # A damaged count is no reason to train at another rate.
  count = tmp_path / 'parts' / 'rollbacks.json'
  count.write_text(count.read_text().replace('2', '1', 1))
  with pytest.raises(UsageError, match=rf'^{count}: damaged \(not what was written\); remove it to count'):
    train(config, tmp_path / 'parts')


def test_the_time_before_a_rollback_counts_once(config, tmp_path, monkeypatch):
  """By a clock that goes on by one second whenever someone looks at it."""
  config.update({'on_nan': 'rollback', 'steps': 8, 'eval_every': 2})
  monkeypatch.setattr(loop, 'make_step', poison_after(5, 'generator', above=0.25))
  looks = itertools.count()
  clock = types.SimpleNamespace(monotonic=lambda: next(looks), perf_counter=time.perf_counter)
  monkeypatch.setattr(loop, 'time', clock)
  with monkeypatch.context() as patch:
    break_at(patch, '_evaluate', 6)
    with pytest.raises(ZeroDivisionError):
      train(config, tmp_path)
  seconds = [record['seconds'] for record in read_metrics(tmp_path)]
  assert seconds == sorted(set(seconds))
  # The first look is the start.
  assert seconds[-1] == next(looks) - 1
  assert train(config, tmp_path)
  more = [record['seconds'] for record in read_metrics(tmp_path)]
  assert more[: len(seconds)] == seconds and len(more) > len(seconds)
  assert [b - a for a, b in itertools.pairwise(more[len(seconds) - 1 :])] == [1] * (len(more) - len(seconds))


def test_there_are_three_rollbacks_at_most_and_the_run_can_go_on_then(config, tmp_path, monkeypatch):
  config.update({'steps': 4, 'eval_every': 2})
  with monkeypatch.context() as patch:
    patch.setattr(loop, 'make_step', poison_after(3, 'generator'))
    with pytest.raises(TrainingDiverged, match=r'^not finite at step 3: weights; '):
      train(config, tmp_path)
    config.on_nan = 'rollback'
    with pytest.raises(TrainingDiverged, match=r'^not finite at step 3 after 3 rollbacks: weights; '):
      train(config, tmp_path)
  assert train(config, tmp_path)
  assert records_of(tmp_path)[-2]['learning_rate'] == pytest.approx(0.01 / 8)
