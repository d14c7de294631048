"""A run that was cut off goes on, in a new process, as if nothing had been: bit for bit."""

import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.runs.log import read_metrics
from tests.programs.conftest import TINY, assert_one_line, call, call_outside

# A process that ends itself with a signal after one of its steps.
SIGNAL_AFTER = """
import os
from flowgan_tf.runs.log import RunLog
advance, count = RunLog.advance, 0
def interrupted(log):
  global count
  advance(log)
  count += 1
  if count == {count}:
    os.kill(os.getpid(), {number})
RunLog.advance = interrupted
"""


def newest(workdir, name='latest'):
  found = (workdir / 'checkpoints' / name).glob('*.index')
  return max(found, key=lambda f: int(f.stem.rpartition('-')[2])).with_suffix('')


def everything(workdir, name='latest'):
  reader = tf.train.load_checkpoint(str(newest(workdir, name)))
  keys = [key for key in reader.get_variable_to_shape_map() if key != '_CHECKPOINTABLE_OBJECT_GRAPH']
  return {key: reader.get_tensor(key) for key in keys}


def records(workdir):
  return [{k: v for k, v in record.items() if k != 'seconds'} for record in read_metrics(workdir)]


def assert_same(first, second):
  for name in ('latest', 'best_nll', 'best_score'):
    a, b = everything(first, name), everything(second, name)
    assert a.keys() == b.keys()
    for key, value in a.items():
      np.testing.assert_array_equal(value, b[key], err_msg=f'{name} {key}')
  parts = {key.partition('/')[0] for key in everything(first)}
  assert {'generator', 'ema', 'critic', 'optimizer', 'critic_optimizer', 'step', 'best_nll', 'best_score'} <= parts
  assert records(first) == records(second)


@pytest.fixture(scope='module')
def in_parts(tmp_path_factory, cache):
  """The run of 20 steps, in three parts, and how each of them ended."""
  workdir = tmp_path_factory.mktemp('parts') / 'run'
  flags = (*TINY, f'--config.cache_dir={cache}', f'--workdir={workdir}')
  ends = [
    # Ten steps, over the border of the first epoch.
    call('train', *flags, '--steps=10'),
    # Killed in step 13, with step 12 in the log and a checkpoint of step 10.
    call_outside('train', *flags, '--steps=20', prelude=SIGNAL_AFTER.format(count=3, number=int(signal.SIGKILL))),
  ]
  ends.append(newest(workdir).name)
  ends.append([record['step'] for record in read_metrics(workdir)][-1])
  ends.append(call('train', *flags, '--steps=20'))
  return workdir, ends


def test_how_the_parts_ended(in_parts):
  _, (first, killed, checkpoint, logged, last) = in_parts
  assert first.status == 0, first
  assert killed.status == -signal.SIGKILL, killed
  assert (checkpoint, logged) == ('ckpt-10', 12)
  assert last.status == 0, last


def test_weights_optimizers_and_metrics_are_bit_equal(finished, in_parts):
  assert_same(finished[0], in_parts[0])
  steps = [(record['kind'], record['step']) for record in read_metrics(in_parts[0])]
  assert len(set(steps)) == len(steps) == 20 + 4


def test_the_tables_are_equal(finished, in_parts):
  def table(outcome):
    return outcome.out[: outcome.out.index('\nsamples  ')]

  assert table(finished[1]) == table(in_parts[1][-1])
  evaluations = [(run[0] / 'evaluation.json').read_text() for run in (finished, in_parts)]
  assert evaluations[0] == evaluations[1]


def test_the_same_command_again_trains_nothing(finished, cache, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(finished[0], workdir)
  before = records(workdir)
  again = call('train', *TINY, f'--config.cache_dir={cache}', '--steps=20', f'--workdir={workdir}')
  assert again.status == 0
  assert again.out.replace(str(workdir), str(finished[0])) == finished[1].out
  assert again.err.splitlines() == [f'Already at step 20 of 20 in {workdir}.']
  assert records(workdir) == before
  assert_same(workdir, finished[0])


def test_a_damaged_checkpoint_ends_in_one_line_and_trains_nothing(finished, cache, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(finished[0], workdir)
  data = newest(workdir).with_suffix('.data-00000-of-00001')
  data.write_bytes(data.read_bytes()[:-200])
  before = records(workdir)
  flags = (*TINY, f'--config.cache_dir={cache}', '--steps=20', f'--workdir={workdir}')
  assert_one_line(call('train', *flags), 'train', f'{newest(workdir)}: the checkpoint is damaged')
  newest(workdir).with_suffix('.index').unlink()
  assert_one_line(call('train', *flags), 'train', f'{workdir}/checkpoints/latest/ckpt-20: the checkpoint is damaged')
  assert records(workdir) == before
