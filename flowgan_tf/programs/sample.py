"""Draws samples from a run, as a grid (PNG) and as an array (.npz). Samples of a table have no grid.

sample RUN --n=64
sample RUN --temperature=0.7 --seed=3
sample RUN --interpolate      rows that lead from one sample to another
sample RUN --neighbors        samples beside the training images nearest to them, which shows memorisation
sample RUN --label=3          samples of one class, by its number or name; by default there is a row for each class

If a run is conditioned on images or vectors, each row has the condition of a test image. It shows the samples and the
test image, and also the condition if that is an image. --condition=0.5,1.2 gives all samples this vector instead, and
--condition=my.png this image: one to enlarge, or one to fill in, whose hidden part does not count.
"""

import os
import pathlib
import sys
import zlib

from absl import flags

import flowgan_tf as fg  # imports its parts when they are first used
from flowgan_tf.base.errors import LARGEST_TEMPERATURE, UsageError, check
from flowgan_tf.base.files import IMAGE_SUFFIXES, save_arrays
from flowgan_tf.base.lazy import lazy_import
from flowgan_tf.programs import command
from flowgan_tf.runs.settings import CHECKPOINTS, DEFAULT_CHECKPOINT

layout = lazy_import('flowgan_tf.evaluation.rows')
pictures = lazy_import('flowgan_tf.evaluation.pictures')

FLAGS = flags.FLAGS
command.define_trust(__name__)
flags.DEFINE_enum('checkpoint', None, CHECKPOINTS, DEFAULT_CHECKPOINT)
flags.DEFINE_integer(
  'n',
  None,
  'Number of samples (default 64) or, if each row has a condition, of samples in a row (8). With --interpolate, number '
  'of rows (8), and with --neighbors, of samples (16); by default one for each condition, if rows have conditions.',
  lower_bound=1,
  upper_bound=10**6,
)
flags.DEFINE_string('label', None, 'Class of the samples, by name or number. Default: a row for each class.')
flags.DEFINE_string(
  'condition',
  None,
  'Vector that the samples are given, such as 0.5,1.2, or file of an image to enlarge or to fill in. Default: the '
  'conditions of test images.',
)
flags.DEFINE_float('temperature', 1.0, 'Factor of the noise; below 1, images are more typical.')
flags.DEFINE_integer('seed', 0, 'Seed of the noise.', lower_bound=0, upper_bound=2**31 - 1)
flags.DEFINE_bool('interpolate', False, 'Draw rows of images that lead from one sample to another.')
flags.DEFINE_bool('neighbors', False, 'Draw the training images nearest to each sample, in pixels, beside it.')
flags.DEFINE_string('out', None, 'Path of the files, without extension. Default: in the folder `samples` of the run.')
command.require_path('out')

_DEFAULT_N = {'samples': 64, 'interpolations': 8, 'neighbors': 16}
_IN_A_ROW = 8


def main(arguments: list[str]) -> None:
  """Writes the grid and the array."""
  _check_flags()
  file, vector = None, None
  if FLAGS.condition and FLAGS.condition.lower().endswith(IMAGE_SUFFIXES):
    file = FLAGS.condition
  elif FLAGS.condition is not None:
    vector = [_number(text) for text in FLAGS.condition.split(',')]
  argument = command.run_argument(arguments)
  command.load_tensorflow()
  run = fg.runs.load_run(argument, FLAGS.checkpoint)
  kind = 'interpolations' if FLAGS.interpolate else 'neighbors' if FLAGS.neighbors else 'samples'
  if kind != 'samples' and len(run.image_shape) == 1:
    raise UsageError(f'{run.workdir}: was trained on a table, for which there are no {kind}')
  rows = layout.row_of_file(run, file) if file else layout.rows_of_run(run, FLAGS.label, vector)
  default = _DEFAULT_N[kind]
  if rows.conditions is not None and FLAGS.label is None and FLAGS.condition is None:
    default = _IN_A_ROW if kind == 'samples' else rows.number
  picture = getattr(pictures, kind)(run, FLAGS.n or default, FLAGS.seed, FLAGS.temperature, rows)
  out = _path(run, kind, rows, [pathlib.Path(file).stem] if file else vector and map(command.short, vector))
  save_arrays(f'{out}.npz', picture.arrays)
  if picture.grid is not None:
    fg.display.save_png(picture.grid, f'{out}.png')
    print(f'{out}.png')
  print(f'{out}.npz' + (f'\n{picture.note}' if picture.note else ''))


def _check_flags():
  expected, holds = f'a number from 0 to {LARGEST_TEMPERATURE:g}', 0 <= FLAGS.temperature <= LARGEST_TEMPERATURE
  check('temperature', FLAGS.temperature, expected, holds)
  if FLAGS.interpolate and FLAGS.neighbors:
    raise UsageError('--interpolate must be left out with --neighbors.')
  if FLAGS.label is not None and FLAGS.condition is not None:
    raise UsageError('--label must be left out with --condition.')
  if FLAGS.out and (FLAGS.out.endswith('/') or os.path.isdir(FLAGS.out)):
    raise UsageError(f'--out must be the path of files, without extension, and not a folder. Got: {FLAGS.out}.')


def _path(run, kind, rows, given):
  """Returns the path of the files, without extension."""
  if FLAGS.out:
    out = pathlib.Path(FLAGS.out)
    return out.with_suffix('') if out.suffix in ('.png', '.npz') else out
  condition = ''
  if FLAGS.label is not None:
    condition = f'_label{rows.conditions[0]}'  # A name could hold a slash, or be the number of another class.
  elif given is not None:
    condition = f'_condition{",".join(given)}'
    if len(condition) > 100:  # A file name has an end.
      condition = f'{condition[:90]}_{zlib.crc32(condition.encode()):08x}'
  name = f'{kind}_{run.checkpoint}_{run.step}_seed{FLAGS.seed}_t{FLAGS.temperature:g}{condition}'
  return run.workdir / 'samples' / name


def _number(text):
  try:
    return float(text)
  except ValueError:
    raise UsageError(f'--condition must be numbers, such as 0.5,1.2. Got: {text}.') from None


if __name__ == '__main__':
  command.run_program(sys.modules[__name__])
