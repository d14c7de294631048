"""Exports a run as a SavedModel with sample, log_prob, encode and decode, which loads without this package.

export RUN
export RUN --checkpoint=best_score --out=DIR
"""

from __future__ import annotations

import pathlib

from absl import flags

from flowgan_tf.programs import command
from flowgan_tf.runs.config import CHECKPOINTS

FLAGS = flags.FLAGS
flags.DEFINE_enum(
  'checkpoint',
  None,
  [*CHECKPOINTS],
  'Checkpoint to export. Default: best_nll, or best_score for an adversarial run.',
)
flags.DEFINE_string('out', None, 'Folder of the SavedModel. Default: the folder export in the run.')
command.require_path('out')


def run() -> None:
  """Entry point of `bin/export` and `flowgan-export`."""
  command.run_program(main, __name__)


def main(arguments: list[str]) -> None:
  """Writes the SavedModel."""
  argument = command.run_argument(arguments)
  command.load_tensorflow()
  from flowgan_tf.runs.run import load_run
  from flowgan_tf.saved_model import export

  run = load_run(argument, FLAGS.checkpoint)
  out = pathlib.Path(FLAGS.out or run.workdir / 'export')
  export(run.generator, out)
  print(f'{out}  (checkpoint {run.checkpoint}, step {run.step})')


if __name__ == '__main__':
  run()
