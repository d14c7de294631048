"""Processes that tests start: with the defaults of the signals, a time limit, and an end whatever happens.

The suite may run as a background job, in which SIGINT and SIGHUP are ignored. Its processes would inherit that.
`start_training` and `start_program` fork from a process that has imported everything, so that they start at once. That
process has run no operation of TensorFlow, because a fork would lose TensorFlow's threads.
"""

import contextlib
import importlib
import multiprocessing
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf.base.signals import SIGNALS
from flowgan_tf.programs import start as programs
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.training import train

# A server of processes imports this module once. The end of a training needs the report, which loads at its first use.
importlib.import_module('flowgan_tf.report.sections')

TIMEOUT = 120  # seconds, for a training that takes two on a quiet machine

_processes: list[subprocess.Popen | multiprocessing.Process] = []

_FORKS = multiprocessing.get_context('forkserver')
_FORKS.set_forkserver_preload([__name__])

STEPS = 12  # of the trainings that programs are interrupted in

# A training by the program that takes seconds; `--dataset`, `--workdir` and `--steps` are still to be named.
TINY = shlex.split("""--objective=mle --batch_size=8 --nojit
  --config.nice.couplings=2 --config.nice.hidden_units=8 --config.nice.hidden_layers=1 --config.nice.normalization=none
  --config.log_every=1 --config.eval_every=4 --config.score_samples=0""")


def start(command: list, **options) -> subprocess.Popen:
  """Starts a command; `options` are those of `subprocess.Popen`. Its output and errors are pipes of text by default."""
  pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
  process = subprocess.Popen(
    list(map(os.fspath, command)), start_new_session=True, preexec_fn=_default_signals, **pipes | options
  )
  _processes.append(process)
  return process


def run(command: list, **options) -> subprocess.CompletedProcess:
  """Runs a command to its end."""
  process = start(command, **options)
  out, err = process.communicate(timeout=TIMEOUT)
  return subprocess.CompletedProcess(command, process.returncode, out, err)


def end_all() -> None:
  """Kills whatever a test has started and left running, with the processes that it started in turn."""
  while _processes:
    process = _processes.pop()
    outside = isinstance(process, subprocess.Popen)
    if process.poll() is None if outside else process.is_alive():
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate() if outside else process.join()


def start_training(config: config_dict.ConfigDict, workdir: pathlib.Path) -> multiprocessing.Process:
  """Starts `train`; what it prints is appended to a file beside the run's folder."""
  return _started(_train, (config, workdir, workdir.with_suffix('.log')))


def start_program(program: str, arguments: tuple, output: pathlib.Path) -> multiprocessing.Process:
  """Starts `bin/<program> arguments...`; a file takes its output and errors."""
  return _started(_run, (program, list(map(str, arguments)), output))


def attempts(most: int = 20) -> Iterator[int]:
  """Yields the numbers of the attempts of a trial, which ends with the first in which the fault has struck in time."""
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
  for name in sorted(path.name for path in (first / 'checkpoints').iterdir()):
    a, b = (_numbers(newest(run, name)) for run in (first, second))
    assert a.keys() == b.keys() and a
    for key, value in a.items():
      np.testing.assert_array_equal(value, b[key], err_msg=f'{name} {key}')
  records = [[{k: v for k, v in r.items() if k != 'seconds'} for r in read_metrics(run)] for run in (first, second)]
  assert records[0] == records[1]


def newest(run: pathlib.Path, name: str = 'latest') -> pathlib.Path:
  """Returns the path of the newest checkpoint of a name, without the suffix of a file."""
  files = (run / 'checkpoints' / name).glob('*.index')
  return max(files, key=lambda file: int(file.stem.rpartition('-')[2])).with_suffix('')


def _numbers(path):
  reader = tf.train.load_checkpoint(str(path))
  # `save_counter` counts the saves of a process; TensorFlow keeps it.
  keys = [k for k in reader.get_variable_to_shape_map() if not k.startswith(('_CHECKPOINTABLE', 'save_counter'))]
  return {key: reader.get_tensor(key) for key in keys} | {'name': np.array(path.name)}


def _default_signals():
  for number in SIGNALS:
    signal.signal(number, signal.SIG_DFL)


def _forked():
  # As if the process had been started by `start`.
  os.setsid()
  _default_signals()
  signal.signal(signal.SIGINT, signal.default_int_handler)


def _train(config, workdir, output):
  _forked()
  _redirect(output)
  train(config, workdir)


def _run(program, arguments, output):
  _forked()
  signal.signal(signal.SIGINT, signal.SIG_DFL)  # As `run_program` does, but before there is output to wait for.
  _redirect(output)
  sys.argv = [f'bin/{program}', *arguments]
  programs.start(program)


def _started(function, arguments):
  process = _FORKS.Process(target=function, args=arguments)
  process.start()
  _processes.append(process)
  return process


def _redirect(output):
  file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(file, 1)
  os.dup2(file, 2)
