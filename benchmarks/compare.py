"""Speed of this project and of its peers, on the same work, in one run.

  python -m benchmarks.compare
  python -m benchmarks.compare --tasks=nice_train,nice_sample --peers=pytorch,saved_model --json=bench.json

Every library does each task of `benchmarks.peers.work` from the same weights and images, in a process of its own with
the same number of threads. Before it is timed, its log-densities are compared with this project's: for each image
before a training step, and on average after it. In each round every library is timed once, and so are products of two
large square matrices in the libraries that have them; rounds start with another library each. The median over the
rounds counts. The fastest product of a dtype, on all cores, is the peak of that dtype. The first call of a library may
compile the task; it has a column of its own.

Peers run in an environment of their own, which `make bench` installs. A peer that is not installed is left out.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
from absl import app, flags

from benchmarks.peers.work import TASKS
from flowgan_tf.display.tables import Column, Row, Table

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
REFERENCE = 'flowgan_tf'
# Module, whether it runs in the peers' own environment, and whether its matrix products count as a peak.
PEERS = {
  REFERENCE: ('flowgan_peer', False, True),
  'saved_model': ('saved_model_peer', False, False),
  'tfp': ('tfp_peer', False, False),
  'pytorch': ('torch_peer', True, True),
  'normflows': ('normflows_peer', True, False),
  'jax': ('jax_peer', True, True),
}
DTYPES = ('float32', 'bfloat16')
PRODUCT_SIZE = 2048
# Largest difference of anything that is computed, as a share of its largest value.
TOLERANCE = {'float32': 1e-3, 'bfloat16': 1e-1}

TASK_NAMES = flags.DEFINE_list('tasks', list(TASKS), 'Tasks to measure.')
PEER_NAMES = flags.DEFINE_list('peers', [name for name in PEERS if name != REFERENCE], 'Peers to measure.')
DTYPE_NAMES = flags.DEFINE_list('dtypes', list(DTYPES), 'Dtypes to measure.')
ROUNDS = flags.DEFINE_integer('rounds', 7, 'Rounds, at least 5 for a result.', lower_bound=1)
SECONDS = flags.DEFINE_float('seconds', 0.5, 'Least time for which a library runs in a round.', lower_bound=0.0)
THREADS = flags.DEFINE_integer('threads', os.cpu_count(), 'Threads of each library.', lower_bound=1)
TINY = flags.DEFINE_bool('tiny', False, 'Whether flows are tiny, to try the benchmark itself.')
PEER_PYTHON = flags.DEFINE_string('peer_python', str(CHECKOUT / '.venv-bench/bin/python'), 'Interpreter of the peers.')
JSON = flags.DEFINE_string('json', '', 'File for all numbers.')
LEAST_SHARE = flags.DEFINE_float('least_share', 0.0, 'Exit with status 1 if our share of a peak is smaller.')

for flag, choices in (('tasks', TASKS), ('peers', PEERS), ('dtypes', DTYPES)):
  flags.register_validator(
    flag, lambda names, choices=choices: set(names) <= set(choices), f'expected some of {", ".join(choices)}'
  )


class PeerError(Exception):
  """A peer is missing, or cannot do what it was asked to do."""


class Worker:
  """A process that runs one peer."""

  def __init__(self, name: str, folder: pathlib.Path):
    module, in_own_environment, self.has_product = PEERS[name]
    self.name, self._log = name, folder / f'{name}.log'
    threads = str(THREADS.value)
    settings = dict.fromkeys(('OMP_NUM_THREADS', 'TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS'), threads)
    command = [PEER_PYTHON.value if in_own_environment else sys.executable, '-m', 'benchmarks.peers.worker', module]
    with self._log.open('w') as log:
      try:
        self._process = subprocess.Popen(
          command,
          cwd=CHECKOUT,
          env=os.environ | settings,
          stdin=subprocess.PIPE,
          stdout=subprocess.PIPE,
          stderr=log,
          text=True,
        )
      except OSError as error:
        raise PeerError(f'{error.strerror}: {command[0]}') from error

  def ask(self, do: str, **arguments) -> dict:
    """Sends a request, and waits for its answer.

    Raises:
      PeerError: If the answer is an error, or no answer comes.
    """
    try:
      self._process.stdin.write(json.dumps({'do': do} | arguments) + '\n')
      self._process.stdin.flush()
      line = self._process.stdout.readline()
    except BrokenPipeError:
      line = ''
    if not line:
      raise PeerError(f'it ended: {self._log.read_text()[-500:]}')
    answer = json.loads(line)
    if 'error' in answer:
      raise PeerError(answer['error'])
    return answer

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()
    self._process.stdout.close()


@dataclasses.dataclass
class Timed:
  """One library at one task or at matrix products, with its measurements."""

  worker: Worker
  name: str
  calls: int
  record: dict
  seconds: list[float] = dataclasses.field(default_factory=list)

  def run(self) -> None:
    self.seconds.append(self.worker.ask('time', name=self.name, calls=self.calls)['seconds'])


def start_workers(names: list[str], folder: pathlib.Path) -> tuple[dict[str, Worker], dict[str, dict]]:
  """Starts the peers that are installed, and removes the others from `names`. Returns what each says of itself, too."""
  workers, described = {}, {}
  for name in tuple(names):
    try:
      worker = Worker(name, folder)
      described[name] = worker.ask('describe')
      workers[name] = worker
    except PeerError as error:
      if name == REFERENCE:
        raise
      say(f'{name} is left out: {error}')
      names.remove(name)
  return workers, described


def prepare(
  task: str, workers: dict[str, Worker], described: dict, folder: pathlib.Path, faults: list[str]
) -> tuple[list[Timed], int]:
  """Prepares a task in every library. Returns what can be timed, and the operations of the task.

  A library that fails is left out, and added to the `faults`.
  """
  workers[REFERENCE].ask('make_inputs', task=task, tiny=TINY.value, folder=str(folder))
  found, flops = [], 0
  for dtype in DTYPES:  # Ours in float32 comes first: it counts the operations.
    for peer, worker in workers.items():
      if task not in described[peer]['tasks']:
        continue
      if dtype not in DTYPE_NAMES.value and not (peer == REFERENCE and dtype == 'float32'):
        continue
      for variant in described[peer]['variants'][dtype]:
        name = f'{peer}-{dtype}-{variant}'
        arguments = {'task': task, 'tiny': TINY.value, 'dtype': dtype, 'variant': variant, 'folder': str(folder)}
        try:
          answer = worker.ask('prepare', name=name, **arguments)
        except PeerError as error:
          if peer == REFERENCE:
            raise
          faults.append(f'{task}: {name} failed and is left out: {error}')
          say(faults[-1])
          continue
        flops = answer.get('flops', flops)
        if dtype in DTYPE_NAMES.value:
          record = {'task': task, 'peer': peer, 'variant': variant, 'dtype': dtype}
          record |= {'first_seconds': answer['first_seconds']} | differences(task, name, dtype, folder)
          found.append(Timed(worker, name, calls(answer['seconds']), record))
  return found, flops


def differences(task: str, name: str, dtype: str, folder: pathlib.Path) -> dict:
  """Compares what a library computed with this project's.

  After a step of NICE, log-densities of single images differ by up to 0.6 nats although every library is right. Of 2.4
  million inputs of ReLU, a few dozen are closer to 0 than float32 rounds. Where one rounds to the other side, the
  gradients of earlier layers change by up to a percent, and Adam's first step is as long for small gradients as for
  large ones. The mean over a batch hardly moves: by 0.005 nats of the 70 that the step gains. It still shows a wrong
  learning rate, gradient or average.

  Returns:
    `difference`, the largest difference of log-densities in nats, of single images before training and, in float32, of
    their mean after it; `relative_difference`, the largest difference of anything that was computed, as a share of its
    largest value.
  """
  absolute, relative = [0.0], [0.0]
  with np.load(folder / f'{name}.npz') as found, np.load(folder / f'{REFERENCE}-{dtype}-default.npz') as expected:
    for key in expected.files:
      # Each library draws the noise of a hybrid, and bfloat16 rounds small gradients, whose signs Adam follows.
      if key.endswith('_after') and (TASKS[task].action == 'hybrid' or dtype == 'bfloat16'):
        continue
      average = np.mean if key.endswith('_after') else np.asarray
      wanted = average(expected[key])
      difference = float(np.abs(average(found[key]) - wanted).max())
      if key.startswith('log_prob'):
        absolute.append(difference)
      relative.append(difference / float(np.abs(wanted).max()))
  # Unlike `max`, these return NaN if there is one.
  return {'difference': float(np.max(absolute)), 'relative_difference': float(np.max(relative))}


def calls(seconds: float) -> int:
  return max(1, math.ceil(SECONDS.value / seconds))


def measure(
  task: str, workers: dict[str, Worker], described: dict, folder: pathlib.Path, faults: list[str]
) -> list[dict]:
  """Prepares and times one task, and ends the workers."""
  say(f'{task}: preparing')
  timed, flops = prepare(task, workers, described, folder, faults)
  products = []
  for dtype in DTYPE_NAMES.value:
    for peer, worker in workers.items():
      if worker.has_product:
        name = f'{peer}-{dtype}-product'
        seconds = worker.ask('prepare_product', name=name, size=PRODUCT_SIZE, dtype=dtype)['seconds']
        products.append(Timed(worker, name, calls(2 * seconds), {'peer': peer, 'dtype': dtype}))
  say(f'{task}: measuring')
  everything = timed + products
  for i in range(ROUNDS.value):
    shift = i * 5 % len(everything)
    for one in everything[shift:] + everything[:shift]:
      one.run()
  for worker in workers.values():
    worker.close()
  peaks = {}
  for one in products:
    speed = 2 * PRODUCT_SIZE**3 / statistics.median(one.seconds) / 1e9
    peaks[one.record['dtype']] = max(peaks.get(one.record['dtype'], 0.0), speed)
  ours = {one.record['dtype']: statistics.median(one.seconds) for one in timed if one.record['peer'] == REFERENCE}
  for one in timed:
    seconds, peak = statistics.median(one.seconds), peaks[one.record['dtype']]
    one.record |= {
      'ms': 1e3 * seconds,
      'ms_of_rounds': [1e3 * s for s in one.seconds],
      'ratio': seconds / ours[one.record['dtype']],
      'gflop': flops / 1e9,
      'peak_gflops': peak,
      'share': flops / 1e9 / seconds / peak,
    }
  return [one.record for one in timed]


def table(records: list[dict]) -> str:
  columns = [
    Column('task', 'task'),
    Column('library', 'peer'),
    Column('mode', 'variant'),
    Column('dtype', 'dtype'),
    Column('first call (s)', 'first_seconds', '.1f'),
    Column('ms', 'ms', '.4g'),
    Column('time / ours', 'ratio', '.2f'),
    Column('of peak', 'share', '.0%'),
    Column('nats apart', 'difference', '.1g'),
  ]
  return str(Table('', columns, [Row({'': record}) for record in records]))


def find_faults(records: list[dict]) -> Iterator[str]:
  """Says which libraries differ from this project, and where this project is too slow."""
  for r in records:
    what = f'{r["task"]} in {r["dtype"]}'
    if not r['relative_difference'] <= TOLERANCE[r['dtype']]:
      yield f'{what}: {r["peer"]} {r["variant"]} differs from {REFERENCE} by {r["relative_difference"]:.1g} of it'
    if r['peer'] == REFERENCE and r['share'] < LEAST_SHARE.value:
      yield f'{what} runs at {r["share"]:.2%} of the peak; expected at least {LEAST_SHARE.value:.2%}'


def processor() -> str:
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    return next(line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
  except (OSError, StopIteration):
    return platform.processor() or platform.machine()


def say(message: str) -> None:
  print(message, file=sys.stderr, flush=True)


def main(argv: list[str]) -> None:
  del argv
  faults = []
  result = {'processor': processor(), 'threads': THREADS.value, 'rounds': ROUNDS.value, 'tiny': TINY.value}
  with tempfile.TemporaryDirectory() as folder:
    folder, names = pathlib.Path(folder), list(dict.fromkeys([REFERENCE, *PEER_NAMES.value]))
    result['results'] = []
    for task in TASK_NAMES.value:
      # New processes for each task: TensorFlow cannot change its threads after its first operation.
      workers, described = start_workers(names, folder)
      result['versions'] = {k: v for peer in described.values() for k, v in peer['versions'].items()}
      result['results'] += measure(task, workers, described, folder, faults)
      if JSON.value:  # Write after each task, so that a run that is cut short leaves something.
        pathlib.Path(JSON.value).write_text(json.dumps(result, indent=1) + '\n')
  print(f'{result["processor"]}, {THREADS.value} threads\n\n{table(result["results"])}\n')
  peaks = {}
  for record in result['results']:
    peaks.setdefault(record['dtype'], []).append(record['peak_gflops'])
  for dtype, found in peaks.items():
    print(f'peak of {dtype}: {min(found):.0f} to {max(found):.0f} GFLOP/s, by a product of {PRODUCT_SIZE} rows')
  faults += find_faults(result['results'])
  for fault in faults:
    say(fault)
  sys.exit(1 if faults else 0)


if __name__ == '__main__':
  app.run(main)
