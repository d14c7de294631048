"""Exports a run as a SavedModel with sample, log_prob, encode and decode, which loads without this package.

The functions of a conditional run take its labels or conditions, too. A run with labels also has class_log_probs.
`--format=npz` writes the weights alone, for programs without TensorFlow.

export RUN
export RUN --checkpoint=best_score --out=DIR
export RUN --format=npz --out=FILE.npz
"""

import pathlib
import sys

from absl import flags

import flowgan_tf as fg  # imports its parts when they are first used
from flowgan_tf.base.files import save_arrays
from flowgan_tf.programs import command
from flowgan_tf.runs.settings import CHECKPOINTS, DEFAULT_CHECKPOINT

# The name of what is written into the run, and the function that writes it.
_FORMATS = {
  'saved_model': ('export', lambda *args: fg.export.write_saved_model(*args)),
  'npz': ('weights.npz', lambda generator, path: save_arrays(path, fg.export.named_weights(generator))),
}

FLAGS = flags.FLAGS
command.define_trust(__name__)
flags.DEFINE_enum('checkpoint', None, CHECKPOINTS, DEFAULT_CHECKPOINT)
flags.DEFINE_enum('format', 'saved_model', list(_FORMATS), 'saved_model: a SavedModel. npz: arrays of the weights.')
flags.DEFINE_string('out', None, 'Where to write it. Default: the folder export, or weights.npz, in the run.')
command.require_path('out')


def main(arguments: list[str]) -> None:
  """Writes the SavedModel, or the weights."""
  argument = command.run_argument(arguments)
  command.load_tensorflow()
  run = fg.runs.load_run(argument, FLAGS.checkpoint)
  name, write = _FORMATS[FLAGS.format]
  out = pathlib.Path(FLAGS.out or run.workdir / name)
  write(run.generator, out)
  print(f'{out}  (checkpoint {run.checkpoint}, step {run.step})')


if __name__ == '__main__':
  command.run_program(sys.modules[__name__])
