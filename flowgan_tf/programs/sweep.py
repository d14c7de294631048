"""Trains a run for each lambda and seed, and draws likelihood against sample quality. Repeat the command to resume.

  sweep --lambdas=0.01,0.1,1,10
  sweep --lambdas=0,0.1,1,inf --seeds=0,1 --config=configs/mnist.py --steps=2000 --data_dir=DIR

A lambda of 0 means adversarial training, inf means maximum likelihood. All flags of `train` except --objective,
--lambda, --seed and --evaluate can be set, and apply to all runs. The default of --workdir, which holds all runs, is
runs/DATASET-sweep[-CONDITION]. --strategy=multi_worker is rejected.
"""

import itertools
import math
import pathlib
import sys

from absl import flags

import flowgan_tf as fg  # imports its parts when they are first used
from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import as_json, write_atomically
from flowgan_tf.programs import command, options, train
from flowgan_tf.runs.folder import available, check_can_go_on, read_description
from flowgan_tf.study import ANALYSES

FLAGS = flags.FLAGS
_DECIDED = 'objective', 'lambda', 'seed', 'evaluate'  # by this program, so its help leaves them out
for _flag in FLAGS.get_key_flags_for_module(train):
  if _flag.name not in _DECIDED:
    flags.declare_key_flag(_flag.name)
FLAGS['workdir'].help = 'Folder of all runs. Default: runs/DATASET-sweep[-CONDITION].'
flags.DEFINE_list('lambdas', ['0.01', '0.1', '1'], 'Weights of the likelihood: numbers of at least 0, or inf.')
flags.DEFINE_list('seeds', ['0'], 'Seeds; each lambda is trained with each of them.')
flags.DEFINE_list('what', ['jacobian'], 'Analyses to apply to each run, as in `analyze`; none if empty.')
analysis_settings = options.define_analyses(__name__)


def main(arguments: list[str]) -> int:
  """Trains and analyses every run, then draws figures of all runs."""
  if arguments:
    raise UsageError(f'unexpected argument {arguments[0]!r}; flags start with --')
  if FLAGS.workdir and pathlib.Path(FLAGS.workdir).is_dir() and read_description(pathlib.Path(FLAGS.workdir)):
    raise UsageError(f'--workdir must be a folder for runs. Got: {FLAGS.workdir}, which is a run itself.')
  lambdas = _numbers('lambdas', float, lambda v: v >= 0, 'numbers of at least 0, or inf')
  seeds = _numbers('seeds', int, lambda v: 0 <= v < 2**31, 'integers from 0 to 2147483647')
  analyses = analysis_settings(FLAGS.what)
  points = list(itertools.product(seeds, lambdas))
  configs = _configurations(points)
  folder = _folder(configs[0])
  workdirs = [folder / f'lambda-{command.short(weight)}-seed-{seed}' for seed, weight in points]
  for workdir in workdirs:
    command.trust_if_asked(workdir)
  runs = dict(zip(workdirs, configs, strict=True))
  # Both must come before TensorFlow makes its devices. A run that has begun does not need --init_from any more.
  train.start(configs[0], next((workdir for workdir in runs if not available(workdir)), workdirs[0]))
  fg.devices.make_replicas(configs[0].strategy)
  _check(runs, analyses)
  for i, (point, workdir) in enumerate(zip(points, workdirs, strict=True), 1):
    print(f'{workdir} ({i} of {len(runs)})', file=sys.stderr)
    if status := _make_run(workdir, runs[workdir], point, analyses):
      return status
  _draw(workdirs, folder, configs[0])
  return 0


def _configurations(points):
  """Returns the configuration for each seed and lambda."""
  try:
    configs = options.configurations([_settings(*point) for point in points])
  except UsageError as error:
    if error.argument == 'objective':  # Other trainings than by maximum likelihood do not suit a table.
      raise UsageError(f'--lambdas={",".join(FLAGS.lambdas)} cannot be trained: {error}', error.argument) from error
    raise
  if configs[0].strategy == 'multi_worker':
    raise UsageError('--strategy must be for one machine, such as mirrored. Got: multi_worker.')
  return configs


def _folder(config):
  """Returns the folder of all runs, in which no link is where this program writes."""
  default = f'runs/{pathlib.Path(config.dataset).stem}-sweep{train.condition_suffix(config)}'
  folder = pathlib.Path(FLAGS.workdir or default)
  for written in ('report.html', 'front.*', 'condition_numbers.*'):
    for path in folder.glob(written):
      command.check_no_link(path)
  return folder


def _make_run(workdir, config, point, analyses):
  """Trains, evaluates and analyses a run, unless all that is there; returns an exit status, or None."""
  if _is_finished(workdir, config, analyses):
    return None
  if status := train.train_and_evaluate(config, workdir, _training_flags(workdir, *point)):
    return status
  if analyses:
    with fg.study.studying(workdir) as apply:
      for what, settings in analyses.items():
        apply(what, **settings)
  return None


def _draw(workdirs, folder, config):
  """Prints the table of all runs, and writes their figures and their page."""
  summaries, damage = fg.study.summarize(workdirs)
  for line in damage:
    print(f'sweep: {command.message(line)}', file=sys.stderr)
  print(fg.report.tables.sweep_table(summaries))
  figures = {
    'front': fg.report.figures.front(summaries, fg.report.tables.nll_unit(config.dataset)),
    'condition_numbers': fg.study.jacobian.condition_numbers(summaries),
  }
  for name, figure in figures.items():
    if figure:
      print(figure.save(folder / name))
  page = folder / 'report.html'
  write_atomically(page, fg.report.render(fg.report.make_report(summaries, damage)))
  print(page)


def _training_flags(workdir, seed, weight):
  """Returns the arguments with which `train` trains the run for a seed and a lambda."""
  shared = {*FLAGS.get_key_flags_for_module(train), *FLAGS.flags_by_module_dict()[options.__name__]}
  shared = sorted((flag for flag in shared if flag.present), key=lambda flag: flag.name)
  words = [flag.serialize() for flag in shared if flag.name not in ('workdir', 'trust')]
  return [*words, *(f'--{name}={value}' for name, value in _settings(seed, weight).items()), f'--workdir={workdir}']


def _settings(seed, weight):
  """Returns the settings of the run for a seed and a lambda."""
  settings = {'seed': seed, 'evaluate': True}
  if weight in (0, math.inf):
    return settings | {'objective': 'mle' if weight else 'adversarial'}
  return settings | {'objective': 'hybrid', 'lambda': weight}


def _check(runs, analyses):
  """Finds mistakes before the first run, which may take hours and may not need what a later one needs."""
  configs = [*runs.values()]
  config = configs[0]
  objectives = list(map(fg.objectives.objective.make_objective, configs))
  dataset = fg.runs.run.data_of(config)
  if dataset.is_table and analyses:
    raise UsageError(f'--what must be empty for a table, as analyses need images. Got: {",".join(analyses)}.')
  generator = fg.runs.run.make_generator(config, dataset.image_shape, arguments=dataset.condition.arguments)
  if not generator.has_density:
    if any(objective.uses_likelihood for objective in objectives):
      lambdas = ','.join(FLAGS.lambdas)
      raise UsageError(f'--lambdas must be 0 for a generator without a likelihood, {config.generator}. Got: {lambdas}.')
    if needy := [what for what in analyses if ANALYSES[what].needs_density]:
      raise UsageError(f'--what must not contain {needy[0]}, which needs a likelihood. Got: {config.generator}.')
  for what in analyses:
    if why := ANALYSES[what].rejects(dataset.condition_kind):
      raise UsageError(f'--what must not contain {what} with condition {dataset.condition_kind}: {why}.')
  if any(objective.uses_critic for objective in objectives):
    fg.runs.run.make_critic(config, dataset.image_shape, condition_shape=dataset.condition.network_shape)
  for what, settings in analyses.items():
    ANALYSES[what].check(ANALYSES[what].Settings(**settings), config, dataset)
  for workdir, config in runs.items():
    check_can_go_on(workdir, config, dataset)


def _is_finished(workdir, config, analyses):
  """Whether there is a run of this configuration that is fully trained, evaluated, exported and analysed."""
  try:
    summary = fg.study.read_summary(workdir)  # Damaged results count as missing.
  except UsageError:  # There is no run, or the training will say what is wrong.
    return False
  tested = summary.tested()
  steps = {record['checkpoint']: record['step'] for record in tested}
  # Images without labels have no scores.
  samples = {record['score_samples'] for record in tested if 'score_samples' in record}
  measured = {
    study.record.get('plugin', what): study.record['settings']
    for what, study in summary.studies.items()
    if study.record['step'] == steps.get(study.record['checkpoint'])  # It may be of an earlier step of a resumed run.
  }
  trained = summary.step == config.steps and not fg.runs.config.training_changes(config, summary.config)
  evaluated = steps.get('latest') == config.steps and samples <= {FLAGS.samples}
  exported = pathlib.Path(workdir, 'export', 'saved_model.pb').exists()
  return trained and evaluated and exported and as_json(analyses).items() <= measured.items()


def _numbers(name, kind, allowed, expected):
  try:
    values = [kind(value) for value in FLAGS[name].value]
  except ValueError:
    values = []
  if not values or not all(map(allowed, values)) or len(set(values)) < len(values):
    raise UsageError(f'--{name} must be different {expected}. Got: {",".join(FLAGS[name].value)}.')
  return values


if __name__ == '__main__':
  command.run_program(sys.modules[__name__])
