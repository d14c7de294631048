"""The commands that make a run's numbers, from what its files say: they hold wherever the run was trained."""

from __future__ import annotations

import shlex

from flowgan_tf.reporting.summary import Summary
from flowgan_tf.training.config import default_config, settings

__all__ = ['analyze_command', 'evaluate_command', 'train_command']

# Where things lie on a machine is nobody else's business.
_PLACES = ('data_dir', 'cache_dir', 'inception_weights')
_FLAGS = (
  'dataset',
  'objective',
  'lambda',
  'divergence',
  'critic_steps',
  'steps',
  'batch_size',
  'seed',
  'precision',
  'scorer',
)


def train_command(summary: Summary) -> str:
  """Trains the run anew: every setting that is not the default, and the folder; data where TFDS finds them."""
  config = summary.config
  flags = [f'--objective={config.objective}']
  if config.objective == 'hybrid':
    flags.append(f'--lambda={config["lambda"]:g}')
  defaults = settings(default_config())
  for name, value in settings(config).items():
    if value == defaults[name] or name in _PLACES or name in ('objective', 'lambda'):
      continue
    if name == 'generator.name':
      flags.append(f'--generator={value}')
    elif name == 'jit':
      flags.append('--jit' if value else '--nojit')
    else:
      flags.append(f'--{name}={value}' if name in _FLAGS else f'--config.{name}={_literal(value)}')
  return shlex.join(['bin/train', *flags, f'--workdir={summary.path}'])


def evaluate_command(summary: Summary, record: dict) -> str:
  """Measures again what a record of `evaluation.json` holds."""
  words = ['bin/evaluate', summary.path, f'--split={record["split"]}']
  if record.get('score_samples'):
    words.append(f'--samples={record["score_samples"]}')
  if 'scorer' in record and (scorer := record['scorer'].removesuffix('_v3')) != summary.config.scorer:
    words.append(f'--scorer={scorer}')
  return shlex.join(words + ['--float64'] * ('nll_float64' in record))


def analyze_command(summary: Summary, what: str) -> str:
  """Applies an analysis again."""
  record = summary.studies[what].record
  words = ['bin/analyze', summary.path, f'--what={what}', f'--checkpoint={record["checkpoint"]}']
  words += [f'--{name}={value}' for name, value in record['settings'].items() if value != '']
  return shlex.join(words)


def _literal(value):
  return str(tuple(value)) if isinstance(value, list) else value
