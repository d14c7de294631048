"""Evaluates a run: likelihood of a split with the round-trip error, and scores of samples.

evaluate RUN
evaluate RUN --split=validation --checkpoint=best_score --samples=50000
evaluate RUN --float64
evaluate RUN --scorer=inception --inception_weights=FILE
evaluate RUN --check
evaluate RUN --images=my.png
"""

import sys

from absl import flags

import flowgan_tf as fg  # imports its parts when they are first used
from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.data.names import SPLITS
from flowgan_tf.programs import command
from flowgan_tf.runs.pretrained import held_out_of
from flowgan_tf.runs.settings import CHECKPOINTS, SCORERS

FLAGS = flags.FLAGS
command.define_trust(__name__)
flags.DEFINE_enum('checkpoint', 'all', ['all', *CHECKPOINTS], 'Checkpoint to evaluate.')
flags.DEFINE_enum('split', 'test', SPLITS, 'Images whose likelihood is measured.')
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
flags.DEFINE_string(
  'images', None, 'File or folder of your own images: how likely are they, and are they outliers? --check checks there.'
)
command.require_path('inception_weights')
command.require_path('images')

_CHECKED = 8  # images, by default
# Flags without effect on a check.
_OF_EVALUATION = ('samples', 'scorer', 'inception_weights', 'float64', 'strategy')


def main(arguments: list[str]) -> int:
  """Evaluates a run, prints a table, and saves the results in evaluation.json of the run; or checks the run."""
  workdir = command.run_argument(arguments)
  if mode := '--check' if FLAGS.check else '--images' if FLAGS.images else '':
    command.reject_idle(_OF_EVALUATION, f'with {mode}')
  if FLAGS.images or not FLAGS.check:
    command.reject_idle(['check_images'], 'with --images' if FLAGS.images else 'without --check')
  if FLAGS.samples == 0:
    command.reject_idle(('scorer', 'inception_weights'), 'with --samples=0')
  command.load_tensorflow()
  if mode:
    return _look_at_images(workdir, mode.removeprefix('--'), arguments[0])
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


def _look_at_images(workdir, mode, argument):
  """Prints what a check finds at images, and how likely they are if they are the user's own."""
  run = fg.runs.load_run(workdir, None if FLAGS.checkpoint == 'all' else FLAGS.checkpoint)
  if not run.generator.has_density:
    got = True if FLAGS.check else FLAGS.images
    raise UsageError(
      f'`{mode}` must be left out, as {run.config.generator} of {workdir} has no likelihood. Got: {got}.', mode
    )
  return _judge(run, argument) if FLAGS.images else _check(run)


def _check(run):
  """Checks the likelihood at the first images of the split, with what a conditional flow is given there."""
  dataset = fg.runs.load_data(run)
  part = getattr(dataset, FLAGS.split).take(slice(FLAGS.check_images or _CHECKED))
  given = dataset.condition.of_split(part)
  return _print_report(fg.checks.check(run.generator, part.images, condition=given, levels=dataset.levels))


def _print_report(report):
  print(report)
  return 0 if report.sound else 1


def _judge(run, argument):
  """Says how likely the user's own images are, which have no condition; checks the likelihood there with --check."""
  description = fg.runs.folder.read_description(run.workdir)
  assert description is not None
  levels, expected = description.data['levels'], f'left out, as {run.workdir} has no density p(x) of images'
  check('images', FLAGS.images, expected, levels is not None and run.generator.condition_shape is None)
  names, images = fg.data.images.read_images(FLAGS.images, run.image_shape, levels, run.config.image_size)
  status = _print_report(fg.checks.check(run.generator, images, levels=levels)) if FLAGS.check else 0
  statistics = fg.evaluation.Statistics(run.generator)
  held_out, whose = (None if FLAGS['split'].present else held_out_of(argument)), 'test'
  if held_out is None:
    held_out, whose = fg.evaluation.measure_held_out(statistics, run, FLAGS.split), FLAGS.split
  print(fg.evaluation.images_table(fg.evaluation.judge_images(statistics, images, levels, held_out, names)))
  rate = fg.evaluation.outliers.FALSE_ALARMS
  print(
    f'\nrank: share of samples that are less likely. p: share of {len(held_out):,} {whose} images that are as extreme; '
    f'of\nimages like these, at most {rate:.0%} are called outliers. Likelihood does not detect every outlier; '
    'see docs/outliers.md.'
  )
  return status


if __name__ == '__main__':
  command.run_program(sys.modules[__name__])
