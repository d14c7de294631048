"""Applies analyses to runs, and saves numbers and figures in the folder `analysis` of each run.

analyze RUN... --what=gmm,kde,ais,jacobian
analyze RUN --what=jacobian --checkpoint=latest --noise_vectors=64
analyze RUN --what=kde,jacobian --label=3
analyze RUN --what=outliers --other_dataset=fashion_mnist
"""

import contextlib
import sys
import traceback

from absl import flags

import flowgan_tf as fg  # imports its parts when they are first used
from flowgan_tf.base.errors import UsageError
from flowgan_tf.programs import command, options
from flowgan_tf.runs.settings import CHECKPOINTS, DEFAULT_CHECKPOINT
from flowgan_tf.study import ANALYSES

FLAGS = flags.FLAGS
command.define_trust(__name__)
flags.DEFINE_list('what', None, 'Analyses to apply, separated by commas.')
flags.DEFINE_enum('checkpoint', None, CHECKPOINTS, DEFAULT_CHECKPOINT)
flags.DEFINE_string('label', None, 'Class of a run with labels that is studied alone, by name or number.')
analysis_settings = options.define_analyses(__name__)


def main(arguments: list[str]) -> int:
  """Analyses each run, and prints the results and their files. A failed analysis does not stop the others."""
  if not arguments:
    raise UsageError('expected one or more run folders, as in `analyze runs/demo --what=jacobian`; got none')
  if not FLAGS.what:
    raise UsageError(f'--what must be one or more of {", ".join(ANALYSES)}, separated by commas. Got: none.')
  settings = analysis_settings(FLAGS.what)
  workdirs = [*map(command.find_trusted, arguments)]
  command.load_tensorflow()
  statuses = [0]

  @contextlib.contextmanager
  def noted():
    try:
      yield
    except BrokenPipeError:  # Nobody reads the others.
      raise
    except Exception as error:  # Even of a bug, whose traceback is shown.
      status = command.status_of(error)
      line = f'analyze: {command.message(error)}' if status else traceback.format_exc().rstrip()
      print(line, file=sys.stderr, flush=True)
      statuses.append(status or 1)

  for workdir in workdirs:
    with noted(), fg.study.studying(workdir, FLAGS.checkpoint, FLAGS.label) as apply:
      for what, values in settings.items():
        with noted():
          _show(workdir, what, apply(what, **values))
  return max(statuses)


def _show(workdir, what, study):
  analysis, folder = ANALYSES[what], workdir / 'analysis'
  print(f'{workdir}: {what}, {study.record["checkpoint"]} (step {study.record["step"]:,})')
  print('\n'.join(f'  {line}' for line in analysis.lines(study.record)))
  summary = fg.study.read_summary(workdir)
  files = [
    folder / f'{analysis.name}.json',
    *(f.save(folder / name) for name, f in analysis.figures([summary]).items()),
  ]
  print('\n'.join(f'  {file}' for file in files), flush=True)


if __name__ == '__main__':
  command.run_program(sys.modules[__name__])
