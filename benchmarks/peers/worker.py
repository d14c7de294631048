"""A process that does the tasks of one peer, as lines of JSON on its standard input tell it to.

  python -m benchmarks.peers.worker torch_peer

Each request is an object with a key 'do', and is answered by one line: an object, with a key 'error' if it failed.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import sys
import time
import traceback

import numpy as np

from benchmarks.peers.work import TASKS, TINY, Inputs, Task


class Worker:
  """The tasks that one peer has prepared, by the names that the requests gave them."""

  def __init__(self, module: str):
    self._peer = importlib.import_module(f'benchmarks.peers.{module}')
    self._ready = {}

  def describe(self) -> dict:
    """What the peer can do."""
    supported = [name for name, task in TASKS.items() if self._peer.supports(task)]
    return {'versions': self._peer.versions(), 'variants': self._peer.VARIANTS, 'tasks': supported}

  def make_inputs(self, task: str, tiny: bool, folder: str) -> dict:
    """Writes what all peers start from."""
    self._peer.make_inputs(_task(task, tiny)).save(pathlib.Path(folder) / 'inputs.npz')
    return {}

  def prepare(self, name: str, task: str, tiny: bool, dtype: str, variant: str, folder: str) -> dict:
    """Builds a task, and calls it until it is warm: the first call may compile it.

    The outputs before and after training are written to the folder, so that they can be compared: after one step of a
    large flow, whose rounding errors grow to nats within three, or after three of a tiny one, which show Adam's
    moments. Outputs of single passes would compile the task itself, so its first call comes before them.
    """
    folder, seconds = pathlib.Path(folder), []
    prepared = self._peer.prepare(_task(task, tiny), Inputs.load(folder / 'inputs.npz'), dtype, variant)

    def call():
      called = time.perf_counter()
      prepared.call()
      seconds.append(time.perf_counter() - called)

    if _task(task, tiny).is_single_pass:
      call()
    outputs = prepared.outputs()
    while len(seconds) < 3:
      call()
      if len(seconds) == (3 if tiny else 1):
        outputs |= {f'{key}_after': value for key, value in prepared.outputs().items()}
    np.savez(folder / f'{name}.npz', **outputs)
    self._ready[name] = prepared.call
    answer = {'seconds': seconds[-1], 'first_seconds': seconds[0]}
    return answer | ({'flops': prepared.flops()} if prepared.flops else {})

  def prepare_product(self, name: str, size: int, dtype: str) -> dict:
    """Prepares a product of two square matrices."""
    call = self._peer.product(size, dtype)
    for _ in range(3):
      called = time.perf_counter()
      call()
    self._ready[name] = call
    return {'seconds': time.perf_counter() - called}

  def time(self, name: str, calls: int) -> dict:
    """Times calls of what was prepared: seconds for each."""
    call = self._ready[name]
    start = time.perf_counter()
    for _ in range(calls):
      call()
    return {'seconds': (time.perf_counter() - start) / calls}


def _task(name: str, tiny: bool) -> Task:
  return (TINY if tiny else TASKS)[name]


def main() -> None:
  # What libraries print goes to standard error; the answers have the output for themselves.
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  if hasattr(os, 'sched_setaffinity'):
    # Also holds libraries that know no other setting, such as JAX, to the number of threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(os.environ['OMP_NUM_THREADS'])])
  worker = None
  for line in sys.stdin:
    request = json.loads(line)
    do = request.pop('do')
    try:
      if worker is None:
        worker = Worker(sys.argv[1])
      answer = getattr(worker, do)(**request)
    except Exception as error:  # A peer may raise anything, which the other process says, and counts as a failure.
      traceback.print_exc()  # It goes to the log.
      answer = {'error': f'{type(error).__name__}: {" ".join(str(error).split())[:500]}'}
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == '__main__':
  main()
