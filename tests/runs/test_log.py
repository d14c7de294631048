import math
import os
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flowgan_tf.base import progress
from flowgan_tf.base.errors import UsageError
from flowgan_tf.runs.log import RunLog, read_metrics

TRAIN = {'nll': -12.345678, 'critic_gap': 0.5, 'gradient_norm': 3.0}
VALIDATION = {
  **{'nll': -11.25, 'standard_error': 1.5, 'bits_per_dim': 3.5, 'round_trip_error': 1e-6, 'mode_score': 7.5},
  **{'mode_score_std': 0.25, 'classifier': 'abcdef'},
}


def test_files_and_terminal_show_the_same_numbers(tmp_path, capsys):
  log = RunLog(tmp_path, 0, 10)
  assert (log.records, log.seconds) == ([], 0.0)
  log.advance({})
  log.record('train', 5, TRAIN, 1.25)
  log.record('validation', 5, VALIDATION, 2.0)
  pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3)).astype(np.uint8)
  log.image('samples', 5, pixels)
  log.close()
  first, second = read_metrics(tmp_path)
  assert first == {'kind': 'train', 'step': 5, 'seconds': 1.25} | TRAIN
  assert second == {'kind': 'validation', 'step': 5, 'seconds': 2.0} | VALIDATION
  events = EventAccumulator(str(tmp_path / 'tensorboard'))
  events.Reload()
  expected = {f'train/{k}': v for k, v in TRAIN.items()} | {f'validation/{k}': v for k, v in VALIDATION.items()}
  del expected['validation/classifier']
  found = {tag: events.Tensors(tag) for tag in events.Tags()['tensors']}
  [picture] = found.pop('samples')
  np.testing.assert_array_equal(tf.io.decode_png(tf.make_ndarray(picture.tensor_proto)[2]), pixels)
  assert picture.step == 5 and found.keys() == expected.keys()
  for tag, [event] in found.items():
    assert (event.step, tf.make_ndarray(event.tensor_proto)) == (5, pytest.approx(expected[tag], rel=1e-6))
  said = 'step 5: nll -11.25 +- 1.50, bits_per_dim 3.500, round_trip_error 1.0e-06, mode_score 7.50 +- 0.25\n'
  assert capsys.readouterr() == ('', said)


def test_the_line_of_a_conditional_training_is_one_line(tmp_path, capsys):
  """TensorBoard has no list of numbers, the file has."""
  log = RunLog(tmp_path, 0, 10**6)
  of_labels = {'class_accuracy': 0.971, 'label_share': 0.9512, 'label_shares': [0.9, None], 'calibration_error': 0.02}
  of_labels |= {'standard_error': 12.34, 'mode_score_std': 0.25}
  numbers = VALIDATION | {'nll': -3334.56} | of_labels | {'inception_score': 7.4, 'saturated': 0.0, 'fid': 123.456}
  log.record('validation', 10**6, numbers, 2.0)
  log.record('validation', 10**6, {'nll': -3.0, 'psnr': 20.11, 'consistency': 35.52, 'saturated': 0.0}, 3.0)
  log.close()
  of_labels, of_images = capsys.readouterr().err.splitlines()
  said = 'nll -3,334.56 +- 12.34, class_accuracy 97.1%, label_share 95.1%, mode_score 7.50 +- 0.25, fid 123.46'
  assert of_labels == f'step 1000000: {said}' and len(of_labels) <= 120
  assert of_images == 'step 1000000: nll -3.00, psnr 20.1, consistency 35.5'
  assert read_metrics(tmp_path)[0]['label_shares'] == [0.9, None]


def test_progress_shows_the_losses_of_the_newest_step(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(progress, '_INTERVAL', 0.0)
  with progress.Task(''):
    log = RunLog(tmp_path, 2, 4)
    monkeypatch.setattr(progress, '_last_line', -math.inf)
    log.advance({'loss': tf.constant(1.0), 'nll': tf.constant(-1234.56), 'critic_gap': tf.constant(math.nan)})
    log.close()
  said = capsys.readouterr().err.splitlines()[-1]
  assert said.startswith('training: 3 of 4 steps, ') and said.endswith(', critic_gap nan, nll -1,234.6')


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
  edits = ('step', 'stop'), ('"step": 1', '"step": 1.0'), ('kind', 'king'), ('"seconds": 1.0', '"seconds": null')
  broken = [lines[1].replace(old.encode(), new.encode()) for old, new in edits]
  content = [lines[0], *broken, lines[1][:-9], b'\xff', b'[' * 100_000, b'3', lines[6], b'']
  (tmp_path / 'metrics.jsonl').write_bytes(b'\n'.join(content))
  assert [record['step'] for record in read_metrics(tmp_path)] == [0, 6]
  assert caplog.messages == [f'{tmp_path}/metrics.jsonl: damaged lines are left out: 2, 3, 4, 5, 6 and 3 more.']
  # Values of another kind, or beyond all numbers of NumPy.
  values = ('"nll": "abc"', f'"nll": {10**400}', '"nll": []', '"nll": true', '"score_samples": null', '"scorer": 3')
  good = ('"nll": null', '"nll": 3', '"scorer": "classifier"', '"of_others": "abc"')
  odd = [lines[1][:-1] + f', {value}}}'.encode() for value in (*values, *good)]
  (tmp_path / 'metrics.jsonl').write_bytes(b'\n'.join([*odd, f'{{"step": {10**400}, "kind": "train"}}'.encode(), b'']))
  assert len(read_metrics(tmp_path)) == len(good)
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


def test_an_error_of_tensorflow_is_an_os_error_that_names_tensorboard(tmp_path):
  log = RunLog(tmp_path, 0, 1)
  full = tf.errors.ResourceExhaustedError(None, None, 'No space left on device\nmore')
  said = rf'^{tmp_path}/tensorboard: cannot be written \(No space left on device\)$'
  with mock.patch.object(tf.summary, 'scalar', side_effect=full), pytest.raises(OSError, match=said):
    log.record('train', 1, TRAIN, 0.0)
  log.close()
