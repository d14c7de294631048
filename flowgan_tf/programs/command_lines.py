"""The commands that make a run's numbers, from what its files say: they hold wherever the run was trained."""

from __future__ import annotations

import functools
import importlib
import shlex

from ml_collections import config_dict

from flowgan_tf.configs import cifar10
from flowgan_tf.runs.config import settings, used
from flowgan_tf.study.summary import Summary

__all__ = ['analyze_command', 'evaluate_command', 'train_command']

# Where things lie on a machine is nobody else's business.
_PLACES = ('data_dir', 'cache_dir', 'inception_weights')
_CONFIGS = ('digits', 'mnist', 'fashion_mnist')
_DEFAULT = 'configs/digits.py'  # of bin/train without --config
_FLAGS = (
  'dataset',
  'generator',
  'objective',
  'divergence',
  'critic_steps',
  'steps',
  'batch_size',
  'seed',
  'precision',
  'scorer',
)


def train_command(summary: Summary) -> str:
  """Trains the run anew: the shipped configuration nearest to its own, every setting that differs, and the folder."""
  config = summary.config
  wanted = {name: value for name, value in settings(used(config)).items() if name not in _PLACES}
  if config.objective != 'hybrid':
    del wanted['lambda']
  bases = {path: settings(base) for path, base in _shipped().items()}
  differences = {path: [n for n, value in wanted.items() if value != base[n]] for path, base in bases.items()}
  nearest = min(differences, key=lambda path: len(differences[path]))
  different = dict.fromkeys(['objective', *['lambda'] * (config.objective == 'hybrid'), *differences[nearest]])
  flags = [] if nearest == _DEFAULT else [f'--config={nearest}']
  for name in different:
    value = config['lambda'] if name == 'lambda' else wanted[name]
    if name == 'jit':
      flags.append('--jit' if value else '--nojit')
    elif name == 'lambda':
      flags.append(f'--lambda={_short(value)}')
    else:
      flags.append(f'--{name}={value}' if name in _FLAGS else f'--config.{name}={_literal(value)}')
  return shlex.join(['bin/train', *flags, f'--workdir={summary.path}'])


@functools.cache
def _shipped() -> dict[str, config_dict.ConfigDict]:
  """The configurations that come with the package by their path, that of `bin/train` without one first."""
  others = {f'configs/{name}.py': importlib.import_module(f'flowgan_tf.configs.{name}') for name in _CONFIGS}
  found = {path: module.get_config() for path, module in others.items()}
  return found | {f'configs/cifar10.py:{variant}': cifar10.get_config(variant) for variant in cifar10.VARIANTS}


def evaluate_command(summary: Summary, record: dict) -> str:
  """Measures again what a record of `evaluation.json` holds."""
  words = ['bin/evaluate', summary.path, f'--split={record["split"]}', f'--samples={record.get("score_samples", 0)}']
  if 'scorer' in record and (scorer := record['scorer'].removesuffix('_v3')) != summary.config.scorer:
    words.append(f'--scorer={scorer}')
  return shlex.join(words + ['--float64'] * ('nll_float64' in record))


def analyze_command(summary: Summary, what: str) -> str:
  """Applies an analysis again."""
  record = summary.studies[what].record
  words = ['bin/analyze', summary.path, f'--what={what}', f'--checkpoint={record["checkpoint"]}']
  words += [f'--{name}={value}' for name, value in record['settings'].items() if value != '']
  return shlex.join(words)


def _short(number):
  """As few digits as give the number back."""
  return short if float(short := f'{number:g}') == number else repr(number)


def _literal(value):
  return str(tuple(value)) if isinstance(value, list) else value
