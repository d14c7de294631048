"""Evaluates a run: likelihood of a split with the round-trip error, and scores of samples.

evaluate RUN
evaluate RUN --split=validation --checkpoint=best_score --samples=50000
evaluate RUN --float64
evaluate RUN --scorer=inception --inception_weights=FILE
evaluate RUN --check
"""

import pathlib
import sys

from absl import flags

import flowgan_tf as fg  # imports its parts when they are first used
from flowgan_tf.base.errors import UsageError
from flowgan_tf.programs import command
from flowgan_tf.runs.settings import CHECKPOINTS, SCORERS

FLAGS = flags.FLAGS
command.define_trust(__name__)
flags.DEFINE_enum('checkpoint', 'all', ['all', *CHECKPOINTS], 'Checkpoint to evaluate.')
flags.DEFINE_enum('split', 'test', ['train', 'validation', 'test'], 'Images whose likelihood is measured.')
flags.DEFINE_integer(
  'samples',
  None,
  'Number of samples to score; 0 measures only the likelihood. Default: 50,000 with Inception-v3, otherwise 5,000.',
  lower_bound=0,
  upper_bound=10**6,
)
flags.DEFINE_enum('scorer', None, SCORERS, "Network behind the scores. Default: the run's.")
flags.DEFINE_string('inception_weights', None, 'File with the weights of Inception-v3. Default: a download.')
flags.DEFINE_bool('float64', False, 'Measure the likelihood in double precision, too.')
flags.DEFINE_string('strategy', '', 'Devices that share the work: mirrored, mirrored:N or multi_worker.')
flags.DEFINE_bool(
  'check', False, 'Only look for mistakes in the log-likelihood. Exit status: 0 if none is found, otherwise 1.'
)
flags.DEFINE_integer(
  'check_images', None, 'Number of images for --check. Default: 8.', lower_bound=1, upper_bound=10**5
)
command.require_path('inception_weights')

_CHECKED = 8  # images, by default
# Flags without effect on a check.
_OF_EVALUATION = ('samples', 'scorer', 'inception_weights', 'float64', 'strategy')


def main(arguments: list[str]) -> int:
  """Evaluates a run, prints a table, and saves the results in evaluation.json of the run; or checks the run."""
  workdir = command.run_argument(arguments)
  command.refuse_idle(*((_OF_EVALUATION, 'with --check') if FLAGS.check else (['check_images'], 'without --check')))
  if FLAGS.samples == 0:
    command.refuse_idle(('scorer', 'inception_weights'), 'with --samples=0')
  command.load_tensorflow()
  if FLAGS.check:
    return _check(workdir)
  if not FLAGS.strategy:
    fg.devices.compute_parts()
  records = fg.evaluation.evaluate_run(
    workdir,
    fg.runs.folder.available(workdir) if FLAGS.checkpoint == 'all' else [FLAGS.checkpoint],
    FLAGS.split,
    FLAGS.samples,
    float64=FLAGS.float64,
    scorer=FLAGS.scorer,
    inception_weights=FLAGS.inception_weights,
    strategy=FLAGS.strategy,
  )
  if records:  # Only the chief of several workers has them.
    print(f'{fg.evaluation.evaluation_table(records)}\n\n{workdir}/evaluation.json')
  return 0


def _check(workdir: pathlib.Path) -> int:
  """Prints what is found at the first images of the split, with what a conditional flow is given there."""
  run = fg.runs.load_run(workdir, None if FLAGS.checkpoint == 'all' else FLAGS.checkpoint)
  if not run.generator.has_density:
    raise UsageError(
      f'`check` must be False, as {run.config.generator} of {workdir} has no likelihood. Got: True.', 'check'
    )
  dataset = fg.runs.load_data(run)
  part = getattr(dataset, FLAGS.split).take(slice(FLAGS.check_images or _CHECKED))
  given = dataset.condition.of_split(part)
  report = fg.checks.check(run.generator, part.images, condition=given, levels=dataset.levels)
  print(report)
  return 0 if report.sound else 1


if __name__ == '__main__':
  command.run_program(sys.modules[__name__])
