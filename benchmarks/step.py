"""Speed of one training step, as a share of the machine's matmul peak measured in the same run.

  python -m benchmarks.step
  python -m benchmarks.step --nojit --precision=mixed_bfloat16 --objectives=mle

NICE at the paper's size on images of 28x28x1, batch 100: a maximum-likelihood step, and an adversarial and a hybrid
iteration with 5 critic steps. `benchmarks.flops` counts the FLOPs of the step's matrix products and convolutions, 2 per
multiply-add. Each step is compared with two peaks: a product of two large square matrices, and one of the flow's own
layers, [100, 1000] x [1000, 1000], which bounds the speed of a layer at that batch size. Rounds of products and of
steps alternate, so that both see the same load of the machine; the best round of each counts.
"""

from __future__ import annotations

import time

import keras
import tensorflow as tf
from absl import app, flags

from benchmarks.flops import count_flops, matmul_gflops
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.config import default_config
from flowgan_tf.runs.settings import PRECISIONS
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep, batches_per_step

ROUNDS = flags.DEFINE_integer('rounds', 8, 'Rounds of matmul and steps.')
PRECISION = flags.DEFINE_enum('precision', 'float32', list(PRECISIONS), 'Precision of the networks.')
OBJECTIVES = flags.DEFINE_list('objectives', ['mle', 'adversarial', 'hybrid'], 'Objectives to measure.')
NORMALIZATION = flags.DEFINE_string('normalization', 'layer', "Norm of the conditioners; scalar_batch is the paper's.")
JIT = flags.DEFINE_bool('jit', True, 'Compile the step with XLA.')

IMAGE_SHAPE = (28, 28, 1)


def measure(objective_name: str) -> None:
  """Prints one line for one objective."""
  config = default_config()
  config.objective, config.precision, config.jit = objective_name, PRECISION.value, JIT.value
  config.nice.normalization = NORMALIZATION.value
  objective = make_objective(config)
  state = TrainState(config, IMAGE_SHAPE, objective)
  step = TrainStep(state, objective, config)
  batches = batches_per_step(objective, config.critic_steps, config.reuse_batch)
  images = tf.random.stateless_uniform((batches * config.batch_size, *IMAGE_SHAPE), seed=(0, 1))
  start = time.perf_counter()
  step(images)['loss'].numpy()
  compile_s = time.perf_counter() - start
  peak = layer_peak = 0.0
  best = float('inf')
  steps = 6 if objective_name == 'mle' else 2
  dtype = keras.DTypePolicy(PRECISION.value).compute_dtype
  for _ in range(ROUNDS.value):
    peak = max(peak, matmul_gflops(2048, 2048, dtype))
    layer_peak = max(layer_peak, matmul_gflops(config.batch_size, config.nice.hidden_units, dtype))
    start = time.perf_counter()
    for _ in range(steps):
      step(images)['loss'].numpy()
    best = min(best, (time.perf_counter() - start) / steps)
  gflop = count_flops(step, tf.TensorSpec(images.shape)) / 1e9
  print(
    f'{objective_name:12s} {PRECISION.value:15s} {"XLA" if JIT.value else "graph":6s}'
    f'{1e3 * best:8.0f} ms {gflop:8.1f} GFLOP {gflop / best:8.0f} GFLOP/s'
    f'{gflop / best / peak:8.0%} of {peak:.0f}{gflop / best / layer_peak:8.0%} of {layer_peak:.0f} GFLOP/s'
    f'   first step {compile_s:.1f} s',
    flush=True,
  )


def main(argv: list[str]) -> None:
  del argv
  for objective_name in OBJECTIVES.value:
    measure(objective_name)


if __name__ == '__main__':
  app.run(main)
