"""Compares the numbers and the speed of a GPU with the CPU's, on a page to paste into an issue.

  make gpu-check
  python -m benchmarks.gpu_check --device=CPU:0 --tiny_flow --flows=nice

NICE, Real-NVP and Jet start from the same weights on the CPU, in float32 without XLA, and on the GPU, in each precision
with and without XLA. The table has the largest differences of densities, in nats per dimension, of samples from the
same noise, in units of pixels from 0 to 1, and of the loss of the third step; then the time of a step, its share of the
peak, which is a product of two square matrices in the same dtype, and the memory. A density or sample that is too far
from the CPU's ends the program with status 1.
"""

from __future__ import annotations

import dataclasses
import platform
import statistics
import sys
import time

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from absl import app, flags

import flowgan_tf as fg
from benchmarks.flops import count_flops, matmul_gflops
from benchmarks.peers.work import TASKS, TINY, Task
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.config import default_config
from flowgan_tf.runs.settings import PRECISIONS
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep

DEVICE = flags.DEFINE_string('device', None, 'Device to check; by default the first GPU.')
TINY_FLOW = flags.DEFINE_bool('tiny_flow', False, 'Whether flows are tiny, to try the check itself.')
FLOWS = flags.DEFINE_list('flows', ['nice', 'real_nvp', 'jet'], 'Flows to check.')
STEPS = flags.DEFINE_integer('steps', 7, 'Timed steps.', lower_bound=1)

ALLOWED = {'float32': 1e-3, 'mixed_bfloat16': 0.05, 'mixed_float16': 0.01}  # nats per dimension, and pixels


@dataclasses.dataclass
class Numbers:
  """What one device computes."""

  log_probs: np.ndarray
  samples: np.ndarray
  loss: float
  ms: float
  gflop: float


def compute(task: Task, device: str, precision: str, jit: bool) -> Numbers:
  """Computes densities and samples of a flow with random weights, and then makes steps."""
  with tf.device(device):
    config = default_config()
    config.generator, config.objective, config.precision, config.jit = task.flow, 'mle', precision, jit
    config.batch_size = task.batch_size
    config[task.flow].update(task.sizes)
    objective = make_objective(config)
    state = TrainState(config, task.image_shape, objective)
    flow, rng = state.generator, np.random.default_rng(0)
    for weight in flow.trainable_variables:  # The networks of a new flow return zero.
      weight.assign_add(rng.normal(scale=0.02, size=weight.shape).astype(np.float32))
    images = tf.constant(rng.uniform(0.05, 0.95, (task.batch_size, *task.image_shape)).astype(np.float32))
    noise = tf.constant(rng.normal(size=images.shape).astype(np.float32))
    log_probs = tf.function(flow.log_prob, jit_compile=jit)(images).numpy()
    samples = tf.function(flow.decode, jit_compile=jit)(noise).numpy()
    step, seconds, losses = TrainStep(state, objective, config), [], []
    for _ in range(3 + STEPS.value):
      start = time.perf_counter()
      losses.append(float(step(images, gradient_norm=False)['loss'].numpy()))
      seconds.append(time.perf_counter() - start)
    gflop = count_flops(step, tf.TensorSpec(images.shape)) / 1e9
  return Numbers(log_probs, samples, losses[2], 1e3 * statistics.median(seconds[3:]), gflop)


def compare(task: Task, device: str) -> list[dict]:
  """Returns a record for each precision, with and without XLA."""
  expected = compute(task, 'CPU:0', 'float32', jit=False)
  dimensions = np.prod(task.image_shape)
  records = []
  for precision in PRECISIONS:
    with tf.device(device):
      dtype = keras.DTypePolicy(precision).compute_dtype
      peak = matmul_gflops(256, 256, dtype) if TINY_FLOW.value else matmul_gflops(4096, 4096, dtype)
    for jit in (False, True):
      print(f'{task.flow}, {precision}{", XLA" if jit else ""} ...', file=sys.stderr, flush=True)
      if 'GPU' in device:
        tf.config.experimental.reset_memory_stats(device)
      own = compute(task, device, precision, jit)
      densities = np.max(np.abs(own.log_probs - expected.log_probs)) / dimensions
      samples = np.max(np.abs(own.samples - expected.samples))
      records.append(
        {
          'case': f'{task.flow}, {precision}{", XLA" if jit else ""}',
          'densities': densities,
          'samples': samples,
          'loss': abs(own.loss - expected.loss) / dimensions,
          'agrees': 'yes' if max(densities, samples) <= ALLOWED[precision] else 'NO',
          'ms': own.ms,
          'share': own.gflop / (own.ms / 1e3) / peak,
          'times': expected.ms / own.ms,
          'memory': tf.config.experimental.get_memory_info(device)['peak'] / 2**20 if 'GPU' in device else None,
        }
      )
  return records


def main(argv: list[str]) -> None:
  del argv
  tf.config.experimental.enable_tensor_float_32_execution(False)  # As in the programs.
  gpus = tf.config.list_logical_devices('GPU')
  device = DEVICE.value or (gpus[0].name.removeprefix('/device:') if gpus else 'CPU:0')
  if not (gpus or DEVICE.value):
    print('There is no GPU: the CPU is compared with itself.', file=sys.stderr)
  tasks = TINY if TINY_FLOW.value else TASKS
  records = [record for flow in FLOWS.value for record in compare(tasks[f'{flow}_train'], device)]
  details = tf.config.experimental.get_device_details(tf.config.list_physical_devices('GPU')[0]) if gpus else {}
  print(
    f'flowgan_tf {fg.__version__}, TensorFlow {tf.__version__}, Keras {keras.__version__}, TFP {tfp.__version__}, '
    f'Python {platform.python_version()}, {platform.platform()}; {device}: '
    f'{details.get("device_name", platform.processor() or platform.machine())}\n'
  )
  columns = [
    Column('flow', 'case'),
    Column('nats/dim apart', 'densities', '.2g'),
    Column('samples apart', 'samples', '.2g'),
    Column('loss apart', 'loss', '.2g'),
    Column('agrees', 'agrees'),
    Column('ms a step', 'ms', '.4g'),
    Column('of peak', 'share', '.0%'),
    Column('CPU / this', 'times', '.2f'),
    Column('peak MiB', 'memory', '.0f'),
  ]
  print(Table('', columns, [Row({'': record}) for record in records]))
  if any(record['agrees'] == 'NO' for record in records):
    sys.exit(1)


if __name__ == '__main__':
  app.run(main)
