import io
import math
import os

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.log import RunLog, read_metrics

TRAIN = {'nll': -12.345678, 'critic_gap': 0.5, 'gradient_norm': 3.0}
VALIDATION = {'nll': -11.25, 'bits_per_dim': 3.5, 'round_trip_error': 1e-6, 'mode_score': 7.5, 'classifier': 'abcdef'}


def test_files_and_terminal_show_the_same_numbers(tmp_path, capsys):
  log = RunLog(tmp_path, 0, 10)
  assert (log.records, log.seconds) == ([], 0.0)
  log.advance()
  log.record('train', 5, TRAIN, 1.25)
  log.record('validation', 5, VALIDATION, 2.0)
  log.close()
  first, second = read_metrics(tmp_path)
  assert first == {'kind': 'train', 'step': 5, 'seconds': 1.25} | TRAIN
  assert second == {'kind': 'validation', 'step': 5, 'seconds': 2.0} | VALIDATION

  events = EventAccumulator(str(tmp_path / 'tensorboard'))
  events.Reload()
  expected = {f'train/{k}': v for k, v in TRAIN.items()} | {f'validation/{k}': v for k, v in VALIDATION.items()}
  del expected['validation/classifier']
  assert set(events.Tags()['tensors']) == set(expected)
  for tag, value in expected.items():
    [event] = events.Tensors(tag)
    assert (event.step, tf.make_ndarray(event.tensor_proto)) == (5, pytest.approx(value, rel=1e-6))

  captured = capsys.readouterr()
  assert captured.out == ''
  assert captured.err == 'step 5: nll -11.25, bits_per_dim 3.500, round_trip_error 1.0e-06, mode_score 7.50\n'


def test_progress_bar_on_a_terminal(tmp_path, monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr('sys.stderr', terminal)
  log = RunLog(tmp_path, 0, 4)
  for _ in range(2):
    log.advance()
  log.record('train', 2, TRAIN, 0.0)
  log.record('validation', 2, VALIDATION | {'fid': math.nan}, 0.0)
  log.close()
  shown = terminal.getvalue()
  assert '50%' in shown and '2/4' in shown
  assert 'nll=-12.35' in shown and 'val_nll=-11.25' in shown and 'val_mode_score=7.5' in shown
  assert 'step 2:' in shown and 'fid nan' in shown and read_metrics(tmp_path)[1]['fid'] is None


def logged(folder, steps, start=0, first=0.0):
  log = RunLog(folder, start, 9)
  for step in steps:
    log.record('train', step, {'nll': first + step}, log.seconds + 1.0)
  log.close()
  return (folder / 'metrics.jsonl').read_bytes().split(b'\n')[:-1]


def test_records_that_a_killed_run_made_after_its_checkpoint_are_removed(tmp_path, caplog):
  before = logged(tmp_path, (0, 2, 4, 6))
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"kind": "train", "step": 8, "nl')
  log = RunLog(tmp_path, 4, 9)
  assert [r['step'] for r in log.records] == [0, 2, 4] and log.seconds == log.records[-1]['seconds'] == 1.0
  log.record('train', 6, {'nll': -6.0}, 14.5)
  log.close()
  lines = (tmp_path / 'metrics.jsonl').read_bytes().split(b'\n')
  assert lines[:3] == before[:3] and len(lines) == 5
  assert read_metrics(tmp_path)[3] == {'kind': 'train', 'step': 6, 'seconds': 14.5, 'nll': -6.0}
  assert caplog.messages == []


def test_damaged_lines_are_left_out_and_named(tmp_path, caplog):
  lines = logged(tmp_path, range(8))
  broken = [
    lines[1][:-9],
    lines[2].replace(b'"step": 2', b'"stop": 2'),
    lines[3].replace(b'"step": 3', b'"step": 3.0'),
    lines[4].replace(b'"kind"', b'"king"'),
    lines[5].replace(b'"seconds": 1.0', b'"seconds": null'),
    b'\xff',
    b'[' * 100_000,
    b'3',
  ]
  content = b'\n'.join([lines[0], *broken, lines[6], b''])
  (tmp_path / 'metrics.jsonl').write_bytes(content)
  assert [record['step'] for record in read_metrics(tmp_path)] == [0, 6]
  said = f'{tmp_path}/metrics.jsonl: damaged lines are left out: '
  assert caplog.messages == [f'{said}2, 3, 4, 5, 6 and 3 more.']
  # Neither the line that a kill cut off nor one without an end of line is damage.
  caplog.clear()
  (tmp_path / 'metrics.jsonl').write_bytes(b'\n'.join([lines[0], lines[1][:20]]))
  assert len(read_metrics(tmp_path)) == 1
  (tmp_path / 'metrics.jsonl').write_bytes(b'\n'.join(lines))
  assert len(read_metrics(tmp_path)) == 8
  assert caplog.messages == []


def test_a_log_that_is_gone_is_announced(tmp_path, caplog):
  assert read_metrics(tmp_path) == []
  logged(tmp_path, (6,), start=4)
  assert caplog.messages == [f'{tmp_path}/metrics.jsonl: is missing or empty; the records up to step 4 are lost.']
  assert [record['step'] for record in read_metrics(tmp_path)] == [6]
  (tmp_path / 'metrics.jsonl').unlink()
  (tmp_path / 'metrics.jsonl').mkdir()
  with pytest.raises(UsageError, match=r'metrics\.jsonl: cannot be read \(Is a directory\)'):
    read_metrics(tmp_path)


def test_records_of_validation_and_rollbacks_are_on_the_disk(tmp_path, monkeypatch):
  on_disk, fsync = [], os.fsync
  log = RunLog(tmp_path, 0, 9)
  monkeypatch.setattr(os, 'fsync', lambda descriptor: (on_disk.append(len(read_metrics(tmp_path))), fsync(descriptor)))
  for kind in ('validation', 'train', 'train', 'rollback', 'train', 'validation', 'train'):
    log.record(kind, 0, {'nll': 0.5}, 1.0)
  assert on_disk == [1, 4, 6]
  log.sync()
  assert on_disk == [1, 4, 6, 7]
  log.close()


def test_pictures_reach_tensorboard(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
  log = RunLog(tmp_path, 0, 1)
  log.image('samples', 7, pixels)
  log.close()
  events = EventAccumulator(str(tmp_path / 'tensorboard'))
  events.Reload()
  [event] = events.Tensors('samples')
  width, height, png = tf.make_ndarray(event.tensor_proto)[:3]
  assert (event.step, int(width), int(height)) == (7, 5, 6)
  np.testing.assert_array_equal(tf.io.decode_png(png), pixels)


def test_an_error_of_tensorflow_is_an_os_error_that_names_tensorboard(tmp_path, monkeypatch):
  def full(*_, **__):
    raise tf.errors.ResourceExhaustedError(None, None, 'No space left on device\nmore')

  log = RunLog(tmp_path, 0, 1)
  with monkeypatch.context() as patch:
    patch.setattr(tf.summary, 'scalar', full)
    with pytest.raises(OSError) as caught:
      log.record('train', 1, TRAIN, 0.0)
  assert str(caught.value) == f'{tmp_path}/tensorboard: cannot be written (No space left on device)'
  log.close()
