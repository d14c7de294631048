"""Trains a Flow-GAN, evaluates it and exports it. Repeat the command to resume.

  train --objective=hybrid --lambda=0.1
  train --config=configs/mnist.py --objective=mle --data_dir=DIR --workdir=runs/mnist-mle

Flags override the config file. --config.NAME=VALUE sets anything else, for example --config.nice.hidden_units=500.
"""

from __future__ import annotations

import os
import pathlib
import sys

from absl import flags
from ml_collections import config_dict

from flowgan_tf.errors import UsageError
from flowgan_tf.programs import command, config_flag
from flowgan_tf.runs.config import validate

FLAGS = flags.FLAGS

config_flag.define()
flags.DEFINE_string('workdir', None, 'Folder of the run. Default: runs/DATASET-OBJECTIVE.')
flags.DEFINE_string('dataset', None, 'Name of a data set, or path of a folder of images or .npy files, or an .npz.')
flags.DEFINE_string('data_dir', None, 'Folder with data prepared by TFDS. Default: TFDS_DATA_DIR.')
flags.DEFINE_string('generator', None, 'Name of the generator, such as nice.')
flags.DEFINE_string('objective', None, 'mle, adversarial or hybrid.')
flags.DEFINE_float('lambda', None, 'Weight of the likelihood in the hybrid objective, in V - lambda log p.')
flags.DEFINE_string('divergence', None, 'Name of the divergence that the critic estimates, such as wasserstein.')
flags.DEFINE_string('init_from', None, 'Run whose generator the training starts from.')
flags.DEFINE_integer('critic_steps', None, 'Updates of the critic per step.')
flags.DEFINE_integer('steps', None, 'Step at which training ends.')
flags.DEFINE_integer('batch_size', None, 'Images per batch.')
flags.DEFINE_integer('seed', None, 'Seed of everything random.')
flags.DEFINE_string('precision', None, 'float32, mixed_bfloat16 or mixed_float16.')
flags.DEFINE_bool('jit', None, 'Compile with XLA.')
flags.DEFINE_string('strategy', None, 'Devices that share each batch: mirrored, mirrored:N or multi_worker.')
flags.DEFINE_string('on_nan', None, 'When a loss is no longer finite: stop, or rollback with half the learning rate.')
flags.DEFINE_string('scorer', None, 'Network behind the scores: classifier or inception.')
flags.DEFINE_string('inception_weights', None, 'File with the weights of Inception-v3. Default: a download.')
flags.DEFINE_integer(
  'samples',
  5000,
  'Samples behind the final scores, unless --config.score_samples=0.',
  lower_bound=10,
  upper_bound=10**6,
)
command.require_path('workdir')

_OVERRIDES = (
  'dataset',
  'data_dir',
  'generator',
  'objective',
  'lambda',
  'divergence',
  'init_from',
  'critic_steps',
  'steps',
  'batch_size',
  'seed',
  'precision',
  'jit',
  'strategy',
  'on_nan',
  'scorer',
  'inception_weights',
)


def run() -> None:
  """Entry point of `bin/train` and `flowgan-train`."""
  config_flag.rewrite_arguments()
  command.run_program(main, __name__)


def main(arguments: list[str]) -> int:
  """Trains, evaluates and exports."""
  if arguments:
    raise UsageError(f'unexpected argument {arguments[0]!r}; flags start with --')
  config = configuration()
  return train_and_evaluate(config, pathlib.Path(FLAGS.workdir or _default_workdir(config)))


def train_and_evaluate(config: config_dict.ConfigDict, workdir: pathlib.Path) -> int:
  """Trains a run, prints its evaluation, exports it, and returns the exit status."""
  from flowgan_tf.evaluation.evaluate import evaluate_run
  from flowgan_tf.replicas import make_replicas
  from flowgan_tf.report import evaluation_table
  from flowgan_tf.runs.checkpoints import available
  from flowgan_tf.runs.run import load_run
  from flowgan_tf.saved_model import export
  from flowgan_tf.training.loop import TrainingDiverged, train

  try:
    train(config, workdir, scorer_required=FLAGS.scorer is not None)
  except TrainingDiverged as error:
    print(f'train: {command.message(error)}', file=sys.stderr)
    return 1
  if not make_replicas(config.strategy).is_chief:
    return 0
  checkpoints = available(workdir)
  # A user who trains without scores may lack what the scores need.
  samples = FLAGS.samples if config.score_samples else 0
  strategy = '' if config.strategy == 'multi_worker' else config.strategy  # The other workers have ended.
  print(evaluation_table(evaluate_run(workdir, checkpoints, 'test', samples, strategy=strategy)))
  run = load_run(workdir)
  export(run.generator, workdir / 'export')
  print(f"""
samples      {workdir}/samples
metrics      {workdir}/metrics.jsonl
TensorBoard  tensorboard --logdir {workdir}/tensorboard
SavedModel   {workdir}/export  (checkpoint {run.checkpoint})""")
  return 0


def configuration() -> config_dict.ConfigDict:
  """Returns the configuration that the flags describe. TensorFlow is loaded once they are checked.

  Raises:
    UsageError: If a setting is wrong.
  """
  config = FLAGS.config
  with config.ignore_type():  # Which a wrong type is, is said by `validate`.
    for name in _OVERRIDES:
      if (value := FLAGS[name].value) is not None:
        config[name] = value
  validate(config)
  # Absolute paths, so that they are valid in any working directory.
  for name in ('data_dir', 'cache_dir', 'inception_weights', 'init_from'):
    config[name] = config[name] and os.path.abspath(os.path.expanduser(config[name]))
  if weights := config.inception_weights:
    if config.scorer != 'inception':
      raise UsageError(f"`inception_weights` must go with `scorer` 'inception'. Got: {weights}.")
    if not os.path.isfile(weights):  # Before the training, which makes a folder.
      raise UsageError(f'{weights}: no such file; `inception_weights` must be weights of Inception-v3')
  command.load_tensorflow()
  from flowgan_tf import data

  if config.dataset not in data.NAMES and os.path.exists(os.path.expanduser(config.dataset)):
    config.dataset = os.path.abspath(os.path.expanduser(config.dataset))
  return config


def _default_workdir(config) -> str:
  from flowgan_tf.report.commands import short

  name = pathlib.Path(config.dataset).stem
  suffix = f'-{short(config["lambda"])}' if config.objective == 'hybrid' else ''
  return f'runs/{name}-{config.objective}{suffix}'


if __name__ == '__main__':
  run()
