"""Trains a run for each lambda and seed, and draws likelihood against sample quality. Repeat the command to resume.

  sweep --lambdas=0.01,0.1,1,10
  sweep --lambdas=0,0.1,1,inf --seeds=0,1 --config=configs/mnist.py --steps=2000 --data_dir=DIR

A lambda of 0 means adversarial training, inf means maximum likelihood. All flags of `train` except --objective,
--lambda and --seed can be set, and apply to all runs.
"""

from __future__ import annotations

import itertools
import math
import pathlib
import sys

from absl import flags

from flowgan_tf.errors import UsageError
from flowgan_tf.programs import analysis_flags, command, config_flag, train
from flowgan_tf.runs.config import validate
from flowgan_tf.study import ANALYSES

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(train)
flags.DEFINE_list('lambdas', ['0.01', '0.1', '1'], 'Weights of the likelihood: numbers of at least 0, or inf.')
flags.DEFINE_list('seeds', ['0'], 'Seeds; each lambda is trained with each of them.')
flags.DEFINE_list('what', ['jacobian'], 'Analyses to apply to each run, as in `analyze`; none if empty.')


def run() -> None:
  """Entry point of `bin/sweep` and `flowgan-sweep`."""
  config_flag.rewrite_arguments()
  analysis_flags.define(__name__)
  command.run_program(main, __name__)


def main(arguments: list[str]) -> int:
  """Trains and analyses every run, then draws figures of all runs."""
  if arguments:
    raise UsageError(f'unexpected argument {arguments[0]!r}; flags start with --')
  for name, instead in (('objective', 'lambdas'), ('lambda', 'lambdas'), ('seed', 'seeds')):
    if FLAGS[name].value is not None:
      raise UsageError(f'`{name}` must be left out, as `{instead}` sets it. Got: {FLAGS[name].value}.')
  lambdas = _numbers('lambdas', float, lambda v: v >= 0, 'numbers of at least 0, or inf')
  seeds = _numbers('seeds', int, lambda v: 0 <= v < 2**31, 'integers from 0 to 2147483647')
  analyses = analysis_flags.settings_of(FLAGS.what, __name__)
  base = train.configuration()
  if base.strategy == 'multi_worker':
    raise UsageError('`strategy` must be for one machine, such as mirrored. Got: multi_worker.')
  from flowgan_tf.replicas import make_replicas

  make_replicas(base.strategy)  # Before TensorFlow makes its devices, for what follows.
  from flowgan_tf.display.tables import printable
  from flowgan_tf.files import write_atomically
  from flowgan_tf.report import make_report, render
  from flowgan_tf.report.commands import short
  from flowgan_tf.report.comparisons import condition_numbers, front, sweep_table
  from flowgan_tf.report.evaluations import nll_unit
  from flowgan_tf.study import studying, summarize

  folder = pathlib.Path(FLAGS.workdir or f'runs/{pathlib.Path(base.dataset).stem}-sweep')
  configs = {}
  for seed, weight in itertools.product(seeds, lambdas):
    config = base.copy_and_resolve_references()
    config.seed = seed
    config.objective = {0: 'adversarial', math.inf: 'mle'}.get(weight, 'hybrid')
    if config.objective == 'hybrid':
      config['lambda'] = weight
    configs[folder / f'lambda-{short(weight)}-seed-{seed}'] = config
  _check(base, configs.values(), analyses)
  for i, (workdir, config) in enumerate(configs.items(), 1):
    print(f'{workdir} ({i} of {len(configs)})', file=sys.stderr)
    if _is_finished(workdir, config, analyses):
      continue
    if status := train.train_and_evaluate(config, workdir):
      return status
    if analyses:
      with studying(workdir) as apply:
        for what, settings in analyses.items():
          apply(what, **settings)
  runs, damage = summarize(configs)
  for line in damage:
    print(f'sweep: {command.message(printable(line))}', file=sys.stderr)
  print(sweep_table(runs))
  figures = {'front': front(runs, nll_unit(base.dataset)), 'condition_numbers': condition_numbers(runs)}
  for name, figure in figures.items():
    if figure:
      print(figure.save(folder / name))
  page = folder / 'report.html'
  write_atomically(page, render(make_report(runs, damage)))
  print(page)
  return 0


def _check(base, configs, analyses):
  """Finds mistakes before the first run, which may take hours and may not need what a later one needs."""
  from flowgan_tf import data
  from flowgan_tf.runs.run import make_critic, make_generator, make_objective

  for config in configs:
    validate(config)
  objectives = [make_objective(config) for config in configs]
  dataset = data.load(base.dataset, base.data_dir, base.image_size)
  generator = make_generator(base, dataset.image_shape)
  if not generator.has_density:
    if any(objective.uses_likelihood for objective in objectives):
      lambdas = ','.join(FLAGS.lambdas)
      raise UsageError(f'`lambdas` must be 0 for a generator without a likelihood, {base.generator}. Got: {lambdas}.')
    if needy := [what for what in analyses if ANALYSES[what].needs_density]:
      raise UsageError(f'`what` must be without {needy[0]}, which needs a likelihood. Got: generator {base.generator}.')
  if any(objective.uses_critic for objective in objectives):
    make_critic(base, dataset.image_shape)
  for what, settings in analyses.items():
    ANALYSES[what].check(ANALYSES[what].Settings(**settings), base, dataset)


def _is_finished(workdir, config, analyses):
  """Whether there is a run of this configuration that is fully trained, evaluated and analysed."""
  from flowgan_tf.runs.folder import training_changes
  from flowgan_tf.study import read_summary

  if not (workdir / 'evaluation.json').exists():
    return False
  try:
    found = read_summary(workdir)  # What is damaged is missing, and is measured again.
  except UsageError:  # The training says what is wrong.
    return False
  tested = found.tested()
  steps = {record['checkpoint']: record['step'] for record in tested}

  def is_current(what):
    record = found.studies[what].record
    # A resumed run may still hold analyses of an earlier step.
    return record['step'] == steps.get(record['checkpoint']) and record['settings'] == analyses[what]

  # Images without labels have no scores.
  samples = {record['score_samples'] for record in tested if 'score_samples' in record}
  return bool(
    not training_changes(config, found.config)
    and found.step == config.steps
    and tested
    and samples <= {FLAGS.samples}
    and found.studies.keys() >= analyses.keys()
    and all(map(is_current, analyses))
  )


def _numbers(name, kind, allowed, expected):
  try:
    values = [kind(value) for value in FLAGS[name].value]
  except ValueError:
    values = []
  if not values or not all(map(allowed, values)) or len(set(values)) < len(values):
    raise UsageError(f'`{name}` must be different {expected}. Got: {",".join(FLAGS[name].value)}.')
  return values


if __name__ == '__main__':
  run()
