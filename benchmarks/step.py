"""Speed of one training step, as a share of the machine's matmul peak measured in the same run.

  python -m benchmarks.step
  python -m benchmarks.step --nojit --precision=mixed_bfloat16 --objectives=mle

NICE at the paper's size on images of 28x28x1, batch 100: a maximum-likelihood step, and an adversarial and a hybrid
iteration with 5 critic steps. FLOPs are counted from the layer shapes (2 per multiply-add), the backward pass as twice
the forward pass. Two peaks stand beside the step: a product of two large squares, and one of the flow's own layers,
[100, 1000] x [1000, 1000], which is as fast as a layer can be at that batch size. Rounds of products and of steps
alternate, so that both see the same machine; the best round of each counts.
"""

from __future__ import annotations

import math
import time

import tensorflow as tf
from absl import app, flags

from flowgan_tf.training.config import PRECISIONS, default_config
from flowgan_tf.training.state import TrainState, make_objective
from flowgan_tf.training.step import batches_per_step, make_train_step

ROUNDS = flags.DEFINE_integer('rounds', 8, 'Rounds of matmul and steps.')
PRECISION = flags.DEFINE_enum('precision', 'float32', list(PRECISIONS), 'Of the networks.')
OBJECTIVES = flags.DEFINE_list('objectives', ['mle', 'adversarial', 'hybrid'], 'Which steps.')
NORMALIZATION = flags.DEFINE_string('normalization', 'layer', "Norm of the conditioners; scalar_batch is the paper's.")
JIT = flags.DEFINE_bool('jit', True, 'Whether the step is compiled with XLA.')

IMAGE_SHAPE = (28, 28, 1)


def matmul_gflops(rows: int, size: int) -> float:
  """float32 GFLOP/s of the matrix product [rows, size] x [size, size]."""
  a, b = (tf.random.stateless_uniform((n, size), seed=(0, n)) for n in (rows, size))
  repeats = math.ceil(2e10 / (2 * rows * size**2))

  @tf.function
  def products():
    # Each product needs the one before, so that none of them can be left out.
    return tf.foldl(lambda x, _: tf.matmul(x, b) / size, tf.range(repeats), initializer=a)

  products()
  start = time.perf_counter()
  products().numpy()
  return repeats * 2 * rows * size**2 / (time.perf_counter() - start) / 1e9


def flow_gflop(state: TrainState, images: int) -> float:
  """GFLOP of one pass of the flow's dense layers over a batch of images."""
  return (
    2 * images * sum(v.shape.num_elements() for v in state.generator.trainable_variables if v.shape.rank == 2) / 1e9
  )


def critic_gflop(state: TrainState, images: int) -> float:
  """GFLOP of one pass of the critic over a batch of images."""
  total, layers = 0, state.critic.layer.layers
  for layer in layers:
    if (kernel := getattr(layer, 'kernel', None)) is not None:
      positions = 1
      if len(kernel.shape) == 4:
        _, height, width, _ = layer.output.shape
        positions = height * width
      total += 2 * positions * kernel.value.shape.num_elements()
  return images * total / 1e9


def step_gflop(state: TrainState, config) -> float:
  """GFLOP of one training step.

  Per image and forward pass F of the flow and C of the critic. Likelihood or sample with its gradient: 3 F. Fake images
  of a critic update: F. Critic update: 3 C each for real and fake, and 6 C for the penalty (forward and gradient by
  the image, and twice that for their backward pass). Generator's update through the critic: 2 C, for its own
  weights need no gradient.
  """
  f = flow_gflop(state, config.batch_size)
  if config.objective == 'mle':
    return 3 * f
  c = critic_gflop(state, config.batch_size)
  return config.critic_steps * (f + 12 * c) + 3 * f + 2 * c + (3 * f if config.objective == 'hybrid' else 0)


def measure(objective_name: str) -> None:
  """Prints one line for one objective."""
  config = default_config()
  config.objective, config.precision, config.jit = objective_name, PRECISION.value, JIT.value
  config.generator.normalization = NORMALIZATION.value
  state, objective = TrainState(config, IMAGE_SHAPE), make_objective(config)
  step = make_train_step(state, objective, config)
  batches = batches_per_step(objective, config.critic_steps, config.reuse_batch)
  images = tf.random.stateless_uniform((batches * config.batch_size, *IMAGE_SHAPE), seed=(0, 1))
  start = time.perf_counter()
  step(images)['loss'].numpy()
  compile_s = time.perf_counter() - start
  peak = layer_peak = 0.0
  best = float('inf')
  steps = 6 if objective_name == 'mle' else 2
  for _ in range(ROUNDS.value):
    peak = max(peak, matmul_gflops(2048, 2048))
    layer_peak = max(layer_peak, matmul_gflops(config.batch_size, config.generator.hidden_units))
    start = time.perf_counter()
    for _ in range(steps):
      step(images)['loss'].numpy()
    best = min(best, (time.perf_counter() - start) / steps)
  gflop = step_gflop(state, config)
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
