"""What labels cost: the time of a training step of a flow with classes, as a ratio to the step without labels.

  python -m benchmarks.labels
  python -m benchmarks.labels --nojit --precision=mixed_bfloat16 --most=1.1

NICE and Jet at their default sizes on images of 28x28x1 in 10 classes, maximum-likelihood steps at batch 100. Steps
with and without labels take turns, so that both see the same load of the machine. The median of the ratios of
neighbours counts. `--most` fails only if so many pairs have a larger ratio that chance does not explain it (a sign test
at 1 %): on a machine with other load, the median of one run is off by several percent.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import tensorflow as tf
from absl import app, flags
from scipy.stats import binomtest

from benchmarks.peers.work import TASKS, TINY
from flowgan_tf.data import Batch, Condition
from flowgan_tf.data.conditions import Label
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.config import default_config
from flowgan_tf.runs.settings import PRECISIONS
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep

ROUNDS = flags.DEFINE_integer('rounds', 25, 'Pairs of steps.', lower_bound=1)
PRECISION = flags.DEFINE_enum('precision', 'float32', list(PRECISIONS), 'Precision of the networks.')
JIT = flags.DEFINE_bool('jit', True, 'Compile the step with XLA.')
MOST = flags.DEFINE_float(
  'most', float('inf'), 'Exit with status 1 if ratios are larger, beyond chance; needs 7 rounds.', lower_bound=0.0
)
TINY_FLOW = flags.DEFINE_bool('tiny_flow', False, 'Whether flows are tiny, to try the benchmark itself.')

CLASSES = 10


def make_step(generator: str, condition: str) -> Callable[[], float]:
  """Returns a function that makes a step, and says how many seconds it took."""
  task = (TINY if TINY_FLOW.value else TASKS)[f'{generator}_train']
  config = default_config()
  config.generator, config.condition, config.objective = generator, condition, 'mle'
  config.precision, config.jit, config.batch_size = PRECISION.value, JIT.value, task.batch_size
  config[generator].update(task.sizes)
  objective = make_objective(config)
  given = Label('label', 256, task.image_shape, classes=CLASSES) if condition else Condition()
  state = TrainState(config, task.image_shape, objective, condition=given)
  step = TrainStep(state, objective, config)
  images = tf.random.stateless_uniform((task.batch_size, *task.image_shape), seed=(0, 1))
  batch = Batch(images, tf.range(task.batch_size) % CLASSES if condition else None)

  def timed() -> float:
    start = time.perf_counter()
    step(batch, gradient_norm=False)['loss'].numpy()
    return time.perf_counter() - start

  return timed


def main(argv: list[str]) -> None:
  del argv
  slow = []
  for generator in ('nice', 'jet'):
    plain, labelled = make_step(generator, ''), make_step(generator, 'label')
    for _ in range(2):  # Traces and compiles.
      plain(), labelled()
    pairs = [(plain(), labelled()) for _ in range(ROUNDS.value)]
    ratios = [b / a for a, b in pairs]
    without, with_labels = (1e3 * statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    print(
      f'{generator:5s} {PRECISION.value:15s} {"XLA" if JIT.value else "graph":6s}'
      f'{without:8.1f} ms without labels {with_labels:8.1f} ms with labels   ratio {statistics.median(ratios):.3f}',
      flush=True,
    )
    larger = sum(ratio > MOST.value for ratio in ratios)
    if binomtest(larger, len(ratios), alternative='greater').pvalue < 0.01:
      slow.append(
        f'{generator}: {larger} of {len(ratios)} steps with labels take more than {MOST.value:g} of a step without.'
      )
  if slow:
    sys.exit('\n'.join(slow))


if __name__ == '__main__':
  app.run(main)
