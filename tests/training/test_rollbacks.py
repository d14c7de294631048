"""The count of rollbacks, and trainings that roll back."""

import itertools
import time
import types

import numpy as np
import pytest

from flowgan_tf.runs.log import read_metrics
from flowgan_tf.training import loop
from flowgan_tf.training.loop import TrainingDiverged, train
from tests.training.trainings import assert_same_run, break_at, poison_after, records_of


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
  # `config.json` counts, and not the log.
  log = tmp_path / 'parts' / 'metrics.jsonl'
  lines = log.read_bytes().splitlines(keepends=True)
  *_, last = [number for number, line in enumerate(lines) if b'"rollback"' in line]
  log.write_bytes(b''.join(lines[:last] + lines[last + 1 :]))
  assert train(config, tmp_path / 'parts')
  log.write_bytes(b''.join(lines) + log.read_bytes()[len(b''.join(lines)) - len(lines[last]) :])
  assert_same_run(tmp_path / 'whole', tmp_path / 'parts')


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
