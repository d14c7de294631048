"""The settings of a training, with their defaults and checks."""

from __future__ import annotations

import inspect
import json
import math
import numbers
import re
from collections.abc import Callable, Sequence

import keras
from ml_collections import config_dict

from flowgan_tf import objectives
from flowgan_tf.arguments import check, check_choice, check_integer, check_number, check_path
from flowgan_tf.errors import UsageError
from flowgan_tf.generators import GENERATORS, Generator
from flowgan_tf.networks import CRITICS

__all__ = [
  'ON_NAN',
  'PRECISIONS',
  'SCHEDULES',
  'SCORERS',
  'check_settings',
  'default_config',
  'make_critic',
  'make_generator',
  'make_objective',
  'settings',
  'training_settings',
  'used',
  'validate',
]

PRECISIONS = ('float32', 'mixed_bfloat16', 'mixed_float16')  # names of Keras dtype policies
SCHEDULES = ('constant', 'cosine', 'exponential')
SCORERS = ('classifier', 'inception')
ON_NAN = ('stop', 'rollback')

# The largest integers: far more than any training needs, and less than TensorFlow or a machine fails at.
_LARGEST = {
  'batch_size': 65_536,
  'steps': 10**9,
  'critic_steps': 1000,
  'penalty_interval': 10**9,
  'log_every': 10**9,
  'eval_every': 10**9,
}
# Settings that may differ when a run is resumed: where files are, how often it logs, and what it does if it diverges.
_FREE = {'cache_dir', 'data_dir', 'inception_weights', 'log_every', 'on_nan'}
_LARGEST_SCORE_SAMPLES = 10**6
_PATHS = ('dataset', 'data_dir', 'cache_dir', 'inception_weights', 'init_from')
_SMALLEST_FLOAT, _LARGEST_FLOAT = 1.2e-38, 3.4e38  # of float32, in which trainings compute

# For each type of a setting, what a value must be, and whether it is.
_KINDS = {
  bool: lambda v: ('True or False', isinstance(v, bool)),
  int: lambda v: ('an integer', isinstance(v, numbers.Integral) and not isinstance(v, bool)),
  float: lambda v: ('a number', isinstance(v, numbers.Real) and not isinstance(v, bool)),
  str: lambda v: ('a text', isinstance(v, str)),
  tuple: lambda v: ('a tuple', isinstance(v, tuple | list)),
}

_BELOW_ONE = ('a number of at least 0 and below 1', lambda v: 0 <= v < 1)


def default_config() -> config_dict.ConfigDict:
  """Returns all settings. The defaults are those of the paper's MNIST model where the paper states them."""
  config = config_dict.ConfigDict()
  config.seed = 0

  config.dataset = 'digits'  # a TFDS name, 'digits', a folder of images, or a .npz file
  config.data_dir = ''  # folder with data prepared by TFDS; TFDS_DATA_DIR if empty
  config.cache_dir = ''  # folder for classifiers and reference features of the scores; ~/.cache/flowgan_tf if empty
  config.flip = False  # random horizontal flips of training images
  config.batch_size = 100
  config.steps = 10_000

  config.objective = 'mle'  # 'mle', 'adversarial' or 'hybrid': V(G, D) - lambda E[log p]
  config['lambda'] = 0.1
  config.divergence = 'wasserstein'
  config.final_lambda = config_dict.placeholder(float)  # lambda at the last step; None for one that does not change
  config.gradient_penalty = config_dict.placeholder(float)  # weight; None for the divergence's own default
  config.penalty = config_dict.placeholder(str)  # 'one_centered' or 'zero_centered'; None for the divergence's own
  config.penalty_interval = 1  # critic updates from one penalty to the next, which counts that many times
  config.critic_warmup = 0  # steps at the start that train the critic alone
  config.init_from = ''  # run whose generator the training starts from; a new generator if empty
  config.critic_steps = 5
  config.reuse_batch = False  # one batch of images and noise for all critic steps, as in the paper's code

  # Each builder has a block of settings, named like its arguments.
  config.generator = 'nice'
  config.critic = 'dcgan_critic'
  for name, build in (GENERATORS | CRITICS).items():
    parameters = inspect.signature(build).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in ('dtype', 'name')}
    config[name] = config_dict.ConfigDict(defaults)

  for name in ('optimizer', 'critic_optimizer'):  # Adam for the generator and for the critic
    config[name] = config_dict.ConfigDict()
    config[name].learning_rate = 2e-4
    config[name].beta_1 = 0.5
    config[name].beta_2 = 0.9
    config[name].schedule = 'constant'  # or 'cosine', which falls to 0 at the last step, or 'exponential'
    config[name].decay_rate = 1.0  # factor of the learning rate per step of training, for 'exponential'
    config[name].warmup_steps = 0  # steps at the start in which the learning rate rises from 0
    config[name].clip_norm = 0.0  # largest global norm of the gradient; 0 for none
  config.ema_decay = 0.999  # average of the generator's weights, warmed up as (1 + t) / (10 + t); 0 for none

  config.on_nan = 'stop'  # or 'rollback', to the last checkpoint with half the learning rates, at most 3 times
  config.log_every = 50
  config.eval_every = 500
  config.score_samples = 2000  # samples behind each score during training; 0 trains without scores
  config.scorer = 'classifier'  # network behind the scores, trained on the data set; or 'inception', Inception-v3
  config.inception_weights = ''  # file with the weights of Inception-v3; downloaded if empty
  config.precision = 'float32'
  config.jit = True  # XLA for generator and optimizer: worth it for dense networks, not for convolutions on a CPU
  return config.lock()  # so that a misspelt setting is an error


def check_settings(config: config_dict.ConfigDict) -> None:
  """Checks that a configuration has the settings of `default_config`, no others, and values of the same kinds.

  Raises:
    UsageError: If it does not. The message says what the setting must be and what it is.
  """
  try:
    check('config', config, 'a ConfigDict', isinstance(config, config_dict.ConfigDict))
    _check_settings(config, default_config(), '')
  except ValueError as error:
    raise UsageError(str(error)) from error


def validate(config: config_dict.ConfigDict) -> None:
  """Checks, before any work, the settings that are not checked as arguments of another function.

  Raises:
    UsageError: If a setting is wrong. The message says what it must be and what it is.
  """
  check_settings(config)
  try:
    for name in _PATHS:
      check_path(name, config[name])
    for name, choices in (
      ('generator', GENERATORS),
      ('critic', CRITICS),
      ('precision', PRECISIONS),
      ('scorer', SCORERS),
      ('on_nan', ON_NAN),
    ):
      check_choice(name, config[name], choices)
    for name, largest in _LARGEST.items():
      check_integer(name, config[name], 1, largest)
    samples, most = config.score_samples, _LARGEST_SCORE_SAMPLES
    check('score_samples', samples, f'0 or an integer from 10 to {most}', samples == 0 or 10 <= samples <= most)
    check_integer('critic_warmup', config.critic_warmup, 0, _LARGEST['steps'])
    check('critic_warmup', config.critic_warmup, f'below `steps` {config.steps}', config.critic_warmup < config.steps)
    check_number('ema_decay', config.ema_decay, *_BELOW_ONE)
    check_integer('seed', config.seed, 0, 2**31 - 1)
    for name in ('optimizer', 'critic_optimizer'):
      check_choice(f'{name}.schedule', config[name].schedule, SCHEDULES)
      for key, expected in {
        'learning_rate': ('a positive number', lambda v: v > 0),
        'decay_rate': ('a number above 0 and at most 1', lambda v: 0 < v <= 1),
        'clip_norm': ('a number of at least 0', lambda v: v >= 0),
        'beta_1': _BELOW_ONE,
        'beta_2': _BELOW_ONE,
      }.items():
        check_number(f'{name}.{key}', config[name][key], *expected)
      check_integer(f'{name}.warmup_steps', config[name].warmup_steps, 0, _LARGEST['steps'])
  except ValueError as error:
    raise UsageError(str(error)) from error


def make_generator(config: config_dict.ConfigDict, image_shape: Sequence[int], dtype: str = 'float32') -> Generator:
  """Builds the generator that a configuration describes.

  Args:
    config: A training configuration.
    image_shape: `(height, width, channels)`.
    dtype: Name of a Keras dtype policy.

  Raises:
    UsageError: If a setting is wrong or does not fit the shape of the images.
  """
  return _build(GENERATORS, 'generator', config, image_shape, dtype)


def make_critic(config: config_dict.ConfigDict, image_shape: Sequence[int], dtype: str = 'float32') -> keras.Layer:
  """Builds the critic that a configuration describes. Arguments and errors are those of `make_generator`."""
  return _build(CRITICS, 'critic', config, image_shape, dtype)


def make_objective(config: config_dict.ConfigDict) -> objectives.Objective:
  """Builds the objective that a configuration describes.

  Raises:
    UsageError: If one of its settings is wrong.
  """
  try:
    return objectives.make(
      config.objective,
      lambda_=config['lambda'],
      final_lambda=config.final_lambda,
      divergence=config.divergence,
      gradient_penalty_weight=config.gradient_penalty,
      penalty=config.penalty,
      penalty_interval=config.penalty_interval,
    )
  except ValueError as error:
    names = {'name': 'objective', 'lambda_': 'lambda', 'gradient_penalty_weight': 'gradient_penalty'}
    raise UsageError(_renamed(error, names)) from error


def settings(config: config_dict.ConfigDict) -> dict[str, object]:
  """Returns the settings by dotted name, with values as in JSON: `{'seed': 0, 'nice.couplings': 4, ...}`."""

  def flatten(nested, prefix):
    for key, value in nested.items():
      yield from flatten(value, f'{prefix}{key}.') if isinstance(value, dict) else [(prefix + key, value)]

  return dict(flatten(json.loads(config.to_json_best_effort()), ''))


def used(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
  """Returns the settings that a training uses, without the blocks of the other generators and critics."""
  unused = {*GENERATORS, *CRITICS} - {config.generator, config.critic}
  return config_dict.ConfigDict({name: value for name, value in config.items() if name not in unused})


def training_settings(config: config_dict.ConfigDict) -> dict[str, object]:
  """Returns the `settings` on which a training depends."""
  return {name: value for name, value in settings(used(config)).items() if name not in _FREE}


def _check_settings(found, expected, prefix):
  for name, value in found.items():
    if name not in expected:
      raise ValueError(f'`{prefix}{name}` must be left out, as there is no such setting. Got: {value!r}.')
  for name, default in expected.items():
    if name not in found:
      raise ValueError(f'`{prefix}{name}` must be set. Got: nothing.')
    path, value = f'{prefix}{name}', found[name]
    if isinstance(default, config_dict.ConfigDict):
      check(path, value, 'a block of settings', isinstance(value, config_dict.ConfigDict))
      _check_settings(value, default, f'{path}.')
    elif value is not None or default is not None:  # None is the default of a setting that may be left open.
      kind = expected.get_type(name)
      if kind in _KINDS:
        check(path, value, *_KINDS[kind](value))
      if kind is float:
        held = value == 0 or _SMALLEST_FLOAT <= abs(value) <= _LARGEST_FLOAT or math.isnan(value)
        check(path, value, f'0 or a finite number from {_SMALLEST_FLOAT} to {_LARGEST_FLOAT} in absolute value', held)
      if isinstance(default, tuple) and default and type(default[0]) in _KINDS:
        alike = all(_KINDS[type(default[0])](element)[1] for element in value)
        check(path, value, f'a tuple like {default}', alike)


def _build(builders: dict[str, Callable], setting, config, image_shape, dtype):
  name = config[setting]
  try:
    return builders[name](image_shape, dtype=dtype, **config[name])
  except ValueError as error:
    message = _renamed(error, {argument: f'{name}.{argument}' for argument in config[name]})
    fault = '' if f'`{name}.' in message else f'`{setting}` {name!r} does not fit: '
    raise UsageError(fault + message) from error


def _renamed(error: ValueError, names: dict[str, str]) -> str:
  """Turns a message about arguments into one about settings."""
  return re.sub(r'`(\w+)`', lambda match: f'`{names.get(match[1], match[1])}`', str(error))
