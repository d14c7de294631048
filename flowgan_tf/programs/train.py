"""Trains a Flow-GAN, evaluates it and exports it.

  train --objective=hybrid --lambda=0.1
  train --config=configs/mnist.py --objective=mle --data_dir=DIR --workdir=runs/mnist-mle
  train --workdir=RUN                                     resumes a run with its own settings

Flags override the config file. --config.NAME=VALUE sets anything else, for example --config.nice.hidden_units=500.
"""

import pathlib
import re
import sys
import time
from collections.abc import Sequence

from absl import flags
from ml_collections import config_dict

import flowgan_tf as fg  # imports its parts when they are first used
from flowgan_tf.base import progress
from flowgan_tf.base.errors import UsageError
from flowgan_tf.flows.registry import traits_of
from flowgan_tf.programs import command, options

FLAGS = flags.FLAGS
options.define_settings(__name__)
command.define_trust(__name__)
flags.DEFINE_string(
  'workdir', None, 'Folder of a new run, or of a run to resume. Default: runs/DATASET-OBJECTIVE[-LAMBDA][-CONDITION].'
)
flags.DEFINE_integer(
  'samples',
  5000,
  'Samples behind the final scores.',
  lower_bound=10,
  upper_bound=10**6,
)
command.require_path('workdir')


def main(arguments: list[str]) -> int:
  """Trains, evaluates and exports."""
  if arguments:
    raise UsageError(f'unexpected argument {arguments[0]!r}; flags start with --')
  began = time.monotonic()
  named = FLAGS.workdir and pathlib.Path(FLAGS.workdir)
  if named:
    command.trust_if_asked(named)
  [config] = options.configurations(workdir=named)
  weight = f'-{command.short(config["lambda"])}' if config.objective == 'hybrid' else ''
  default = f'runs/{pathlib.Path(config.dataset).stem}-{config.objective}{weight}{condition_suffix(config)}'
  workdir = named or pathlib.Path(default)
  command.trust_if_asked(workdir)
  start(config, workdir)
  words = [word for word in sys.argv[1:] if not re.fullmatch('--?trust(=.*)?', word)]
  status = train_and_evaluate(config, workdir, words)
  if not status:
    progress.write(f'{time.monotonic() - began:,.0f} seconds in all, from the start of the program to the export.')
  return status


def start(config: config_dict.ConfigDict, workdir: pathlib.Path) -> None:
  """Checks what needs no TensorFlow and loads it; then lets each core compute a part of the batch.

  XLA, replicas and the products of some generators need all cores instead.
  """
  if why := _unscored(config):
    command.reject_idle(['samples'], f'with {why}')
  options.check_sources(config, workdir)
  command.load_tensorflow()
  if config.precision == 'mixed_bfloat16':
    command.warn_of_bfloat16()
  if not (config.jit or config.strategy or traits_of(config).computed_whole):
    fg.devices.compute_parts()


def _unscored(config):
  """Says why no samples are scored at the end; '' if they are. Who trains without scores may lack what they need."""
  if not config.evaluate:
    return '--evaluate=false'
  if traits_of(config).draws_rows:
    return f'generator {config.generator}'
  return '' if config.score_samples else '--config.score_samples=0'


def condition_suffix(config: config_dict.ConfigDict) -> str:
  """Returns what tells the default folder of a conditional run apart, such as -label or -low_resolution-4."""
  return f'-{config.condition}'.replace(':', '-') if config.condition else ''


def train_and_evaluate(config: config_dict.ConfigDict, workdir: pathlib.Path, command_line: Sequence[str]) -> int:
  """Trains a run, prints its evaluation unless the configuration says no, exports it, and returns the exit status.

  The run remembers the command line, the arguments of `bin/train`.
  """
  try:
    fg.training.train(config, workdir, scorer_required=FLAGS.scorer is not None, command=command_line)
  except fg.training.TrainingDiverged as error:
    print(f'{command.program()}: {command.message(error)}', file=sys.stderr)
    return 1
  if not fg.devices.make_replicas(config.strategy).is_chief:
    return 0
  if config.evaluate:
    checkpoints = fg.runs.folder.available(workdir)
    samples = 0 if _unscored(config) else FLAGS.samples
    strategy = '' if config.strategy == 'multi_worker' else config.strategy  # The other workers have ended.
    records = fg.evaluation.evaluate_run(workdir, checkpoints, 'test', samples, strategy=strategy)
    print(fg.evaluation.evaluation_table(records))
  run = fg.runs.load_run(workdir)
  with progress.Task('exporting'):
    fg.export.write_saved_model(run.generator, workdir / 'export')
  print('' if len(run.image_shape) == 1 else f'\nsamples      {workdir}/samples', end='')
  print(f"""
metrics      {workdir}/metrics.jsonl
TensorBoard  tensorboard --logdir {workdir}/tensorboard
SavedModel   {workdir}/export  (checkpoint {run.checkpoint})""")
  return 0


if __name__ == '__main__':
  command.run_program(sys.modules[__name__])
