"""What parts of a batch gain on the cores of a CPU: times of flows with and without it, and with XLA.

  python -m benchmarks.parts
  python -m benchmarks.parts --flows=jet --dtypes=bfloat16 --rounds=1
  python -m benchmarks.parts --flows=nice --batch_size=500
  python -m benchmarks.parts --flows=jet,nice --labels

A maximum-likelihood step and a density of each flow of `benchmarks.peers.work`, but Real-NVP with layer norm, because
batch norm needs the whole batch. With --labels, it is p(y | x) instead: the densities of each image given each of 10
labels, which the networks see. XLA compiles only densities. The three ways take turns, each time in a process of
its own. The median over the rounds of the medians of 20 calls counts. NICE's step is not divided; only each of its
operations runs on one core.
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
from flowgan_tf.data.conditions import Condition, Label
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.config import default_config
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep

WAYS = ('whole', 'parts', 'XLA')

FLOWS = flags.DEFINE_list('flows', ['jet', 'real_nvp', 'nice'], 'Flows: jet, real_nvp, nice.')
DTYPES = flags.DEFINE_list('dtypes', ['float32', 'bfloat16'], 'Dtypes of the networks: float32, bfloat16.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'Processes for each way.', lower_bound=1)
LABELS = flags.DEFINE_bool('labels', False, 'Whether flows are given labels, and p(y | x) is timed.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', None, "Images. Default: the task's number.", lower_bound=1)
TINY_FLOW = flags.DEFINE_bool('tiny_flow', False, 'Whether flows are tiny, to try the benchmark itself.')
CHILD = flags.DEFINE_enum('child', None, WAYS, 'How to compute; a process that this program starts.')

CALLS = 20


def milliseconds(flow: str, dtype: str) -> dict[str, float]:
  """Times a step, unless by XLA, and a density of one flow; or p(y | x) alone."""
  task = (TINY if TINY_FLOW.value else TASKS)[f'{flow}_train']
  config = default_config()
  config.generator, config.objective, config.jit = flow, 'mle', False
  config.batch_size = BATCH_SIZE.value or task.batch_size
  config.precision = {'float32': 'float32', 'bfloat16': 'mixed_bfloat16'}[dtype]
  config[flow].update(task.sizes)
  config.real_nvp.normalization = 'layer'
  objective = make_objective(config)
  condition = Label('label', 256, task.image_shape, classes=10) if LABELS.value else Condition()
  state = TrainState(config, task.image_shape, objective, condition=condition)
  images = tf.random.stateless_uniform((config.batch_size, *task.image_shape), seed=(0, 1))
  name, log_prob = ('p(y | x)', state.ema.class_log_probs) if LABELS.value else ('density', state.ema.log_prob)
  density = fg.devices.replicas.SINGLE.map(tf.function(log_prob, autograph=False, jit_compile=CHILD.value == 'XLA'))
  calls = {}
  if CHILD.value != 'XLA' and not LABELS.value:
    step = TrainStep(state, objective, config)
    calls['step'] = lambda: step(images, gradient_norm=False)['loss']
  calls[name] = lambda: density(images)
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
      fg.devices.compute_parts()
    print(json.dumps(milliseconds(FLOWS.value[0], DTYPES.value[0])))
    return
  for flow in FLOWS.value:
    for dtype in DTYPES.value:
      found = {way: [] for way in WAYS}
      for _ in range(ROUNDS.value):
        for way, times in found.items():
          command = [sys.executable, '-m', 'benchmarks.parts', f'--flows={flow}', f'--dtypes={dtype}', f'--child={way}']
          command += ['--labels'] * LABELS.value + ['--tiny_flow'] * TINY_FLOW.value
          command += [f'--batch_size={BATCH_SIZE.value}'] * bool(BATCH_SIZE.value)
          times.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout))
      for name in found['whole'][0]:
        ms = {way: statistics.median(t[name] for t in times) for way, times in found.items() if name in times[0]}
        line = f'{flow:8s} {dtype:8s} {name:8s}{ms["whole"]:8.1f} ms {ms["parts"]:8.1f} ms in parts'
        with_xla = f'{ms["XLA"]:8.1f} ms with XLA' if 'XLA' in ms else ''
        print(f'{line}   ratio {ms["parts"] / ms["whole"]:.2f}{with_xla}', flush=True)


if __name__ == '__main__':
  app.run(main)
