"""Applies the paper's analyses to runs; numbers and figures are kept in the folder `analysis` of each run.

analyze RUN... --what=gmm,kde,ais,jacobian
analyze RUN --what=jacobian --checkpoint=latest --noise_vectors=64
analyze RUN --what=histograms --other_dataset=fashion_mnist

  gmm         mixture of Gaussians on the training images over its bandwidth (Figures 3, 6 and 7)
  kde         Parzen window of samples (Table 3)
  ais         annealed importance sampling (Table 3)
  jacobian    singular values and log-determinant of the generator's Jacobian (Figures 4 and 8)
  histograms  log-likelihood of training and test images, another data set's and uniform noise
  critic      gap between training and validation images that an independent critic sees
"""

from __future__ import annotations

import contextlib
import os
import sys

from absl import flags

from flowgan_tf.programs import command

FLAGS = flags.FLAGS
flags.DEFINE_list('what', None, 'Analyses, separated by commas: gmm, kde, ais, jacobian, histograms, critic.')
flags.DEFINE_enum(
  'checkpoint', None, ['latest', 'best_nll', 'best_score'], 'Default: best_score, as in the paper, where there is one.'
)
flags.DEFINE_integer('seed', 0, 'Seed of all that is random.', lower_bound=0, upper_bound=2**31 - 1)
flags.DEFINE_integer(
  'samples', 5000, 'kde, gmm: samples of the generator, and of each mixture.', lower_bound=10, upper_bound=10**7
)
flags.DEFINE_integer('noise_vectors', 64, 'jacobian: noise vectors.', lower_bound=1, upper_bound=10**7)
flags.DEFINE_integer('ais_images', 16, 'ais: test images.', lower_bound=1, upper_bound=10**7)
flags.DEFINE_integer('ais_chains', 4, 'ais: chains per image.', lower_bound=1, upper_bound=10**7)
flags.DEFINE_integer('ais_steps', 300, 'ais: temperatures.', lower_bound=1, upper_bound=10**7)
flags.DEFINE_integer('images', 5000, 'histograms: images of each set.', lower_bound=2, upper_bound=10**7)
flags.DEFINE_string('other_dataset', '', 'histograms: name or path of other images of the same shape.')
flags.DEFINE_integer(
  'critic_steps', 2000, 'critic: updates of the independent critic.', lower_bound=1, upper_bound=10**7
)


def run() -> None:
  """Entry point of `bin/analyze` and `flowgan-analyze`."""
  command.run_program(main, __name__)


def main(arguments: list[str]) -> int:
  """Analyses each run, and says what was found and where it lies; what one cannot have does not stop the others."""
  import dataclasses

  from flowgan_tf.errors import UsageError
  from flowgan_tf.runs.run import find_run
  from flowgan_tf.study.analyses import ANALYSES, Settings

  if not arguments:
    raise UsageError('expected one or more run folders, as in `analyze runs/demo --what=jacobian`; got none')
  if not FLAGS.what:
    raise UsageError(f'--what: expected one or more of {", ".join(ANALYSES)}, separated by commas')
  if unknown := [what for what in FLAGS.what if what not in ANALYSES]:
    raise UsageError(f'--what={",".join(FLAGS.what)}: no analysis {unknown[0]!r}; expected {", ".join(ANALYSES)}')
  workdirs = [find_run(argument) for argument in arguments]
  settings = Settings(**{field.name: FLAGS[field.name].value for field in dataclasses.fields(Settings)})
  failures = []
  for workdir in workdirs:
    _analyze(workdir, settings, failures)
  return command.USAGE_ERROR if failures else 0


def _analyze(workdir, settings, failures):
  from flowgan_tf.study.study import studying

  with _noted(failures), studying(workdir, FLAGS.checkpoint, settings) as apply:
    for what in FLAGS.what:
      with _noted(failures):
        _show(workdir, what, apply(what))


@contextlib.contextmanager
def _noted(failures):
  from flowgan_tf.errors import UsageError

  try:
    yield
  except UsageError as error:
    failures.append(error)
    print(f'{os.path.basename(sys.argv[0])}: {" ".join(str(error).split())}', file=sys.stderr, flush=True)


def _show(workdir, what, study):
  from flowgan_tf.report import figures
  from flowgan_tf.report.tables import study_lines
  from flowgan_tf.study.summary import summarize

  print(f'{workdir}: {what}, {study.record["checkpoint"]} (step {study.record["step"]:,})')
  print('\n'.join(f'  {line}' for line in study_lines(study.record)))
  files = [workdir / 'analysis' / f'{what}.json']
  if draw := figures.ANALYSIS_FIGURES.get(what):
    files += [figures.save(f, workdir / 'analysis' / name) for name, f in draw(summarize([workdir])).items()]
  print('\n'.join(f'  {file}' for file in files), flush=True)
