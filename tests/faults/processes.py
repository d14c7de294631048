"""Trainings and programs in processes that are forked from one that has imported everything, and start at once.

That process has run no operation of TensorFlow, whose threads a fork would lose.
"""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

import flowgan_tf.report  # noqa: F401
from flowgan_tf.programs import start
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.signals import SIGNALS
from flowgan_tf.training import train

TIMEOUT = 120  # seconds, for a training that takes two on a quiet machine

_FORKS = multiprocessing.get_context('forkserver')
_FORKS.set_forkserver_preload([__name__])

STEPS = 12  # of the trainings that programs are interrupted in

# A training by the program that takes seconds; `--dataset`, `--workdir` and `--steps` are still to be named.
TINY = (
  '--objective=mle',
  '--batch_size=8',
  '--nojit',
  '--config.nice.couplings=2',
  '--config.nice.hidden_units=8',
  '--config.nice.hidden_layers=1',
  '--config.log_every=1',
  '--config.eval_every=4',
  '--config.score_samples=0',
)


def start_training(config: config_dict.ConfigDict, workdir: pathlib.Path) -> multiprocessing.Process:
  """Starts `train`; what it prints is appended to a file beside the run's folder."""
  return _started(_train, (config, workdir, workdir.with_suffix('.log')))


def start_program(program: str, arguments: tuple, output: pathlib.Path) -> multiprocessing.Process:
  """Starts `bin/<program> arguments...`, whose output and errors are appended to a file.

  Once that file exists, the program handles SIGINT and SIGTERM.
  """
  return _started(_run, (program, list(map(str, arguments)), output))


def attempts(most: int = 20) -> Iterator[int]:
  """Yields the numbers of the attempts of a trial, which ends with the first in which the fault has struck.

  It may come too late, when the process has ended. Then nothing was tried.

  Raises:
    AssertionError: If it has struck in none.
  """
  yield from range(most)
  raise AssertionError(f'the fault has not struck in {most} attempts')


def status_of(process: multiprocessing.Process) -> int:
  """Waits for the end of a process."""
  process.join(TIMEOUT)
  if process.exitcode is None:
    process.kill()
    raise AssertionError(f'still running after {TIMEOUT} seconds')
  return process.exitcode


def wait_for(condition: Callable[[], object], process: multiprocessing.Process) -> None:
  """Waits until a condition holds or the process has ended."""
  until = time.monotonic() + TIMEOUT
  while not condition() and process.is_alive():
    assert time.monotonic() < until, f'not within {TIMEOUT} seconds'


def wait_for_records(workdir: pathlib.Path, count: int, process: multiprocessing.Process) -> None:
  """Waits until a training has logged some number of records."""
  log = workdir / 'metrics.jsonl'
  wait_for(lambda: not count or (log.exists() and log.read_bytes().count(b'\n') >= count), process)


def assert_same_run(first: pathlib.Path, second: pathlib.Path) -> None:
  """The newest checkpoints and the metrics are the same, bit for bit; apart from the seconds."""
  for name in ('latest', 'best_nll'):
    a, b = _numbers(first / 'checkpoints' / name), _numbers(second / 'checkpoints' / name)
    assert a.keys() == b.keys() and a
    for key, value in a.items():
      np.testing.assert_array_equal(value, b[key], err_msg=f'{name} {key}')
  records = [[{k: v for k, v in r.items() if k != 'seconds'} for r in read_metrics(run)] for run in (first, second)]
  assert records[0] == records[1]


def _numbers(folder):
  newest = max(folder.glob('*.index'), key=lambda file: int(file.stem.rpartition('-')[2])).with_suffix('')
  reader = tf.train.load_checkpoint(str(newest))
  keys = [key for key in reader.get_variable_to_shape_map() if key != '_CHECKPOINTABLE_OBJECT_GRAPH']
  return {key: reader.get_tensor(key) for key in keys} | {'name': np.array(newest.name)}


def _train(config, workdir, output):
  _redirect(output)
  train(config, workdir)


def _run(program, arguments, output):
  # As the scripts in bin/ do.
  signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
  _redirect(output)
  sys.argv = [f'bin/{program}', *arguments]
  start.start(program)


def _started(function, arguments):
  process = _FORKS.Process(target=function, args=arguments)
  process.start()
  return process


def _redirect(output):
  file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(file, 1)
  os.dup2(file, 2)
