"""Size of a configuration: parameters, FLOPs and the memory of one training step.

  python -m benchmarks.size
  python -m benchmarks.size --config=configs/mnist.py --image_shape=28,28,1 --batch_size=100 --objectives=mle

FLOPs count matrix products and convolutions, 2 per multiply-add. The step that is run has a small batch, so that a
model made for a GPU can be tried on any machine. Each objective has its own process, whose peak of resident memory
includes TensorFlow. For the time of a full training, divide its FLOPs by what a device delivers.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import pathlib
import resource
import sys
import time

import tensorflow as tf
from absl import app, flags
from ml_collections import config_dict, config_flags

from benchmarks.flops import count_flops
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.config import validate
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep, batches_per_step

CONFIG = config_flags.DEFINE_config_file(
  'config', str(pathlib.Path(__file__).parent.parent / 'flowgan_tf/configs/cifar10.py'), 'Config file.'
)
IMAGE_SHAPE = flags.DEFINE_list('image_shape', ['32', '32', '3'], 'Height, width and channels.')
OBJECTIVES = flags.DEFINE_list('objectives', ['mle', 'adversarial', 'hybrid'], 'Objectives to measure.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', 4, 'Batch size of the step that is run.', lower_bound=1)
flags.register_validator(
  'image_shape', lambda v: len(v) == 3 and all(n.isdigit() for n in v), 'expected three integers, such as 32,32,3'
)


def measure(config: config_dict.ConfigDict, image_shape: tuple[int, ...]) -> dict:
  """Builds, counts and runs one training step on random images.

  Returns:
    `loss`, `step_flops`, `build_seconds` and `step_seconds` of the step, the `peak_gib` of this process, and under
    `networks` the trainable parameters and the FLOPs of one pass over one image, by name.
  """
  start = time.perf_counter()
  objective = make_objective(config)
  state = TrainState(config, image_shape, objective)
  step = TrainStep(state, objective, config)
  count = config.batch_size * batches_per_step(objective, config.critic_steps, config.reuse_batch)
  images = tf.random.stateless_uniform((count, *image_shape), seed=(0, 1))
  result = {'step_flops': count_flops(step, tf.TensorSpec(images.shape))}
  result['build_seconds'] = time.perf_counter() - start
  start = time.perf_counter()
  result['loss'] = float(step(images)['loss'])
  result['step_seconds'] = time.perf_counter() - start
  # Linux counts in KiB, macOS in bytes.
  per_gib = 2**30 if sys.platform == 'darwin' else 2**20
  result['peak_gib'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_gib
  # A sample, which every generator has; a flow's log-density costs the same.
  passes = {'generator': count_flops(lambda: state.generator.sample(1, seed=(0, 2)))}
  if state.critic is not None:
    passes['critic'] = count_flops(state.critic, tf.TensorSpec((1, *image_shape)))
  result['networks'] = {
    name: (sum(v.shape.num_elements() for v in getattr(state, name).trainable_variables), flops)
    for name, flops in passes.items()
  }
  return result


def tables(config: config_dict.ConfigDict, results: dict[str, dict]) -> str:
  """Formats the tables of sizes, FLOPs and runs.

  Args:
    config: The configuration with its own batch size.
    results: By objective, what `measure` returned with the batch size of the flag.
  """
  networks = {}
  for r in results.values():
    networks |= r['networks']
  sizes = [{'name': name, 'parameters': n, 'gflop': flops / 1e9} for name, (n, flops) in networks.items()]
  steps = []
  for name, r in results.items():
    per_image = r['step_flops'] / BATCH_SIZE.value
    per_step = per_image * config.batch_size
    totals = {'gflop': per_image / 1e9, 'tflop': per_step / 1e12, 'pflop': per_step * config.steps / 1e15}
    steps.append({'name': name, **totals, **r})
  columns = [
    (Column('network', 'name'), Column('parameters', 'parameters', ','), Column('GFLOP per image', 'gflop', ',.4g')),
    (
      Column('training step', 'name'),
      Column('GFLOP per image', 'gflop', ',.4g'),
      Column(f'TFLOP, batch {config.batch_size}', 'tflop', ',.4g'),
      Column(f'PFLOP, {config.steps:,} steps', 'pflop', ',.4g'),
    ),
    (
      Column(f'one step here, batch {BATCH_SIZE.value}', 'name'),
      Column('loss', 'loss', '.4g'),
      Column('build (s)', 'build_seconds', '.1f'),
      Column('first step (s)', 'step_seconds', '.1f'),
      Column('peak memory (GiB)', 'peak_gib', '.2f'),
    ),
  ]
  tables = [
    Table('', shown, [Row({'': record}) for record in records])
    for shown, records in zip(columns, (sizes, steps, steps), strict=True)
  ]
  return '\n\n'.join(map(str, tables))


def main(argv: list[str]) -> None:
  del argv
  config, image_shape = CONFIG.value, tuple(map(int, IMAGE_SHAPE.value))
  results = {}
  for name in OBJECTIVES.value:
    tried = config.copy_and_resolve_references()
    tried.objective, tried.batch_size = name, BATCH_SIZE.value
    tried.critic_warmup = 0  # The first step trains both.
    validate(tried)
    # A forked process would start with the memory of this one.
    fresh = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(max_workers=1, mp_context=fresh) as executor:
      results[name] = executor.submit(measure, tried, image_shape).result()
  print(tables(config, results))


if __name__ == '__main__':
  app.run(main)
