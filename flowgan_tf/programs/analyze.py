"""Applies analyses to runs, and saves numbers and figures in the folder `analysis` of each run.

analyze RUN... --what=gmm,kde,ais,jacobian
analyze RUN --what=jacobian --checkpoint=latest --noise_vectors=64
analyze RUN --what=outliers --other_dataset=fashion_mnist
"""

from __future__ import annotations

import contextlib
import sys

from absl import flags

from flowgan_tf.errors import UsageError
from flowgan_tf.programs import analysis_flags, command
from flowgan_tf.runs.config import CHECKPOINTS
from flowgan_tf.study import ANALYSES

FLAGS = flags.FLAGS
flags.DEFINE_list('what', None, 'Analyses to apply, separated by commas.')
flags.DEFINE_enum(
  'checkpoint',
  None,
  [*CHECKPOINTS],
  'Checkpoint to analyse. Default: best_score, as in the paper, if there is one.',
)


def run() -> None:
  """Entry point of `bin/analyze` and `flowgan-analyze`."""
  analysis_flags.define(__name__)
  command.run_program(main, __name__)


def main(arguments: list[str]) -> int:
  """Analyses each run, and prints the results and their files. A failed analysis does not stop the others."""
  if not arguments:
    raise UsageError('expected one or more run folders, as in `analyze runs/demo --what=jacobian`; got none')
  if not FLAGS.what:
    raise UsageError(f'`what` must be one or more of {", ".join(ANALYSES)}, separated by commas. Got: none.')
  settings = analysis_flags.settings_of(FLAGS.what, __name__)
  command.load_tensorflow()
  from flowgan_tf.runs.run import find_run

  failures = []
  for workdir in [find_run(argument) for argument in arguments]:
    _analyze(workdir, settings, failures)
  return max(map(command.status_of, failures), default=0)


def _analyze(workdir, settings, failures):
  from flowgan_tf.study import studying

  with _noted(failures), studying(workdir, FLAGS.checkpoint) as apply:
    for what, values in settings.items():
      with _noted(failures):
        _show(workdir, what, apply(what, **values))


@contextlib.contextmanager
def _noted(failures):
  try:
    yield
  except UsageError as error:
    failures.append(error)
    print(f'{command.program()}: {command.message(error)}', file=sys.stderr, flush=True)


def _show(workdir, what, study):
  from flowgan_tf.study import read_summary

  analysis = ANALYSES[what]
  print(f'{workdir}: {what}, {study.record["checkpoint"]} (step {study.record["step"]:,})')
  print('\n'.join(f'  {line}' for line in analysis.lines(study.record)))
  folder, summary = workdir / 'analysis', read_summary(workdir)
  files = [folder / f'{what}.json', *(f.save(folder / name) for name, f in analysis.figures([summary]).items())]
  print('\n'.join(f'  {file}' for file in files), flush=True)


if __name__ == '__main__':
  run()
