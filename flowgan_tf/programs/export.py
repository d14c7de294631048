"""Exports a run as a SavedModel with sample, log_prob, encode and decode, which loads without this package.

The functions of a conditional run take its labels or conditions, too. A run with labels also has class_log_probs.

export RUN
export RUN --checkpoint=best_score --out=DIR
"""

import pathlib
import sys

from absl import flags

import flowgan_tf as fg  # imports its parts when they are first used
from flowgan_tf.programs import command
from flowgan_tf.runs.settings import CHECKPOINTS

FLAGS = flags.FLAGS
flags.DEFINE_enum('checkpoint', None, CHECKPOINTS, 'Default: best_nll, or best_score for an adversarial run.')
flags.DEFINE_string('out', None, 'Folder of the SavedModel. Default: the folder export in the run.')
command.require_path('out')


def main(arguments: list[str]) -> None:
  """Writes the SavedModel."""
  argument = command.run_argument(arguments)
  command.load_tensorflow()
  run = fg.runs.load_run(argument, FLAGS.checkpoint)
  out = pathlib.Path(FLAGS.out or run.workdir / 'export')
  fg.saved_model.export(run.generator, out)
  print(f'{out}  (checkpoint {run.checkpoint}, step {run.step})')


if __name__ == '__main__':
  command.run_program(sys.modules[__name__])
