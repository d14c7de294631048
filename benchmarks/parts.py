"""What parts of a batch gain on the cores of a CPU: times of flows with and without `flowgan_tf.cores`, without XLA.

  python -m benchmarks.parts
  python -m benchmarks.parts --flows=jet --dtypes=bfloat16 --rounds=1

A maximum-likelihood step and a density of each flow of `benchmarks.peers.work`, but Real-NVP with layer norm, because
batch norm needs the whole batch. The two ways take turns, each time in a process of its own. The median over the rounds
of the medians of 20 calls counts. NICE's step is not divided; only each of its operations runs on one core.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import tensorflow as tf
from absl import app, flags

import flowgan_tf as fg
from benchmarks.peers.work import TASKS, TINY
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.config import default_config
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep

FLOWS = flags.DEFINE_list('flows', ['jet', 'real_nvp', 'nice'], 'Flows: jet, real_nvp, nice.')
DTYPES = flags.DEFINE_list('dtypes', ['float32', 'bfloat16'], 'Dtypes of the networks: float32, bfloat16.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'Processes for each way.', lower_bound=1)
TINY_FLOW = flags.DEFINE_bool('tiny_flow', False, 'Whether flows are tiny, to try the benchmark itself.')
CHILD = flags.DEFINE_enum('child', None, ['whole', 'parts'], 'How to compute; a process that this program starts.')

CALLS = 20


def milliseconds(flow: str, dtype: str) -> dict[str, float]:
  """Times a step and a density of one flow."""
  task = (TINY if TINY_FLOW.value else TASKS)[f'{flow}_train']
  config = default_config()
  config.generator, config.objective, config.jit, config.batch_size = flow, 'mle', False, task.batch_size
  config.precision = {'float32': 'float32', 'bfloat16': 'mixed_bfloat16'}[dtype]
  config[flow].update(task.sizes)
  config.real_nvp.normalization = 'layer'
  objective = make_objective(config)
  state = TrainState(config, task.image_shape, objective)
  step = TrainStep(state, objective, config)
  images = tf.random.stateless_uniform((task.batch_size, *task.image_shape), seed=(0, 1))
  density = fg.replicas.SINGLE.map(tf.function(state.ema.log_prob, autograph=False))
  calls = {'step': lambda: step(images, gradient_norm=False)['loss'], 'density': lambda: density(images)}
  return {name: _median(call) for name, call in calls.items()}


def _median(call):
  seconds = []
  for _ in range(CALLS + 3):
    start = time.perf_counter()
    call().numpy()
    seconds.append(time.perf_counter() - start)
  return 1e3 * statistics.median(seconds[3:])


def main(argv: list[str]) -> None:
  if CHILD.value:
    if CHILD.value == 'parts':
      fg.cores.compute_parts()
    print(json.dumps(milliseconds(FLOWS.value[0], DTYPES.value[0])))
    return
  for flow in FLOWS.value:
    for dtype in DTYPES.value:
      found = {'whole': [], 'parts': []}
      for _ in range(ROUNDS.value):
        for way, times in found.items():
          command = [sys.executable, '-m', 'benchmarks.parts', f'--flows={flow}', f'--dtypes={dtype}', f'--child={way}']
          command += ['--tiny_flow'] * TINY_FLOW.value
          times.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout))
      for name in ('step', 'density'):
        whole, parts = (statistics.median(times[name] for times in found[way]) for way in ('whole', 'parts'))
        ratio = f'ratio {parts / whole:.2f}'
        print(f'{flow:8s} {dtype:8s} {name:8s}{whole:8.1f} ms {parts:8.1f} ms in parts   {ratio}', flush=True)


if __name__ == '__main__':
  app.run(main)
