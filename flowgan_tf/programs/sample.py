"""Draws samples from a run, as a grid (PNG) and as an array (.npz).

sample RUN --n=64
sample RUN --temperature=0.7 --seed=3
sample RUN --interpolate
"""

from __future__ import annotations

import math
import pathlib

from absl import flags

from flowgan_tf.programs import command

FLAGS = flags.FLAGS
flags.DEFINE_enum(
  'checkpoint', None, ['latest', 'best_nll', 'best_score'], 'Default: best_nll; best_score of an adversarial run.'
)
flags.DEFINE_integer('n', None, 'Number of samples, 64 if not given; with --interpolate of rows, 8.', lower_bound=1)
flags.DEFINE_float('temperature', 1.0, 'Factor of the noise; below 1 for more typical images.', lower_bound=0.0)
flags.DEFINE_integer('seed', 0, 'Seed of the noise.', lower_bound=0, upper_bound=2**31 - 1)
flags.DEFINE_bool('interpolate', False, 'Rows that lead from one sample to another.')
flags.DEFINE_string('out', None, 'Path of the files, without ending. Default: in the samples folder of the run.')

_STEPS = 10


def run() -> None:
  """Entry point of `bin/sample` and `flowgan-sample`."""
  command.run_program(main, __name__)


def main(arguments: list[str]) -> None:
  """Writes the grid and the array."""
  import numpy as np
  import tensorflow as tf

  from flowgan_tf.errors import UsageError
  from flowgan_tf.reporting.grids import image_grid, save_png
  from flowgan_tf.training.runs import load_run

  if not FLAGS.temperature <= tf.float32.max:
    raise UsageError(f'--temperature={FLAGS.temperature}: expected a finite number of at least 0')
  run = load_run(command.run_argument(arguments), FLAGS.checkpoint)
  n = FLAGS.n or (8 if FLAGS.interpolate else 64)
  count = 2 * n if FLAGS.interpolate else n
  noise = FLAGS.temperature * run.generator.distribution.sample(count, seed=[FLAGS.seed, 0])
  if FLAGS.interpolate:
    # Along a quarter of a circle, so that the noise on the way has the variance of the prior.
    angles = tf.cast(tf.linspace(0.0, math.pi / 2, _STEPS), noise.dtype)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    rows = [tf.cos(angles) * a + tf.sin(angles) * b for a, b in zip(noise[:n], noise[n:], strict=True)]
    noise = tf.concat(rows, axis=0)
  images = np.concatenate([run.generator.decode(noise[i : i + 500]) for i in range(0, len(noise), 500)])
  kind = 'interpolation' if FLAGS.interpolate else 'samples'
  default = run.workdir / 'samples' / f'{kind}_{run.checkpoint}_{run.step}_seed{FLAGS.seed}_t{FLAGS.temperature:g}'
  out = pathlib.Path(FLAGS.out or default)
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(f'{out}.npz', images=images, noise=noise)
    save_png(image_grid(images[:1024], _STEPS if FLAGS.interpolate else None), f'{out}.png')
  except (OSError, tf.errors.OpError) as error:
    raise UsageError(f'--out={out}: cannot be written ({error})') from error
  print(f'{out}.png\n{out}.npz')
