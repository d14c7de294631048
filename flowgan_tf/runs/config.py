"""Every setting of a training, its default and its check."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from ml_collections import config_dict

from flowgan_tf import flows, generators, networks, objectives
from flowgan_tf.errors import UsageError

__all__ = [
  'GENERATORS',
  'PRECISIONS',
  'SCHEDULES',
  'SCORERS',
  'default_config',
  'make_generator',
  'make_objective',
  'settings',
  'validate',
]

GENERATORS = ('nice', 'real_nvp', 'dcgan')
PRECISIONS = ('float32', 'mixed_bfloat16', 'mixed_float16')  # names of Keras dtype policies
SCHEDULES = ('constant', 'cosine', 'exponential')
SCORERS = ('classifier', 'inception')


def default_config() -> config_dict.ConfigDict:
  """All settings, with the paper's MNIST model as default where the paper has one."""
  config = config_dict.ConfigDict()
  config.seed = 0

  config.dataset = 'digits'  # a TFDS name, 'digits', a folder of images, or a .npz file
  config.data_dir = ''  # where TFDS finds prepared data; TFDS_DATA_DIR if empty
  config.cache_dir = ''  # where classifiers and reference features of the scores are kept; the user's if empty
  config.flip = False  # random horizontal flips of training images
  config.batch_size = 100
  config.steps = 10_000

  config.objective = 'mle'  # 'mle', 'adversarial' or 'hybrid': V(G, D) - lambda E[log p]
  config['lambda'] = 0.1
  config.divergence = 'wasserstein'
  config.gradient_penalty = config_dict.placeholder(float)  # weight; None for the divergence's own default
  config.critic_steps = 5
  config.reuse_batch = False  # one batch of images and noise for all critic steps, as the paper's code does

  config.generator = config_dict.ConfigDict()
  config.generator.name = 'nice'  # or 'real_nvp'; or 'dcgan', which has no likelihood
  config.generator.prior = 'logistic'
  config.generator.alpha = 1e-7
  config.generator.normalization = 'layer'
  config.generator.couplings = 4  # NICE
  config.generator.hidden_units = 1000
  config.generator.hidden_layers = 6
  config.generator.scales = 2  # Real-NVP
  config.generator.channels = 64
  config.generator.blocks = 8
  config.generator.batch_norm_between = False
  config.generator.log_scale_bound = 2.0
  config.generator.upsampling_channels = (256, 128, 64)  # DCGAN

  config.critic = config_dict.ConfigDict()
  config.critic.channels = (1, 64)
  config.critic.dense_units = 1024
  config.critic.layer_norm = False

  for name in ('optimizer', 'critic_optimizer'):  # Adam, of the generator and of the critic
    config[name] = config_dict.ConfigDict()
    config[name].learning_rate = 2e-4
    config[name].beta_1 = 0.5
    config[name].beta_2 = 0.9
    config[name].schedule = 'constant'  # 'cosine' to zero at the last step, or 'exponential'
    config[name].decay_rate = 1.0  # factor of the learning rate per step of training, for 'exponential'
    config[name].clip_norm = 0.0  # largest global norm of the gradient; 0 for none
  config.ema_decay = 0.999  # of the generator's weights, warmed up as (1 + t) / (10 + t); 0 for none

  config.log_every = 50
  config.eval_every = 500
  config.score_samples = 2000  # samples behind each score during training; 0 trains without scores
  config.scorer = 'classifier'  # network behind the scores: trained on the data set, or 'inception' for Inception-v3
  config.inception_weights = ''  # file with the weights of Inception-v3; downloaded if empty
  config.precision = 'float32'
  config.jit = True  # XLA for generator and optimizer: worth it for dense networks, not for convolutions on a CPU
  return config.lock()  # A misspelt setting is an error and not a new one.


def validate(config: config_dict.ConfigDict) -> None:
  """Checks every value that a user can get wrong, before any work.

  Raises:
    UsageError: Naming the setting, what was got and what is expected.
  """
  if not isinstance(config.dataset, str):
    raise UsageError(f'dataset: got {config.dataset!r}, expected a name or a path')
  objective = objectives.make(
    config.objective,
    lambda_=config['lambda'],
    divergence=config.divergence,
    gradient_penalty_weight=config.gradient_penalty,
  )
  _one_of(config, 'generator.name', GENERATORS)
  if config.generator.name == 'dcgan' and objective.uses_likelihood:
    raise UsageError(
      f'objective: got {config.objective!r}, add --objective=adversarial: generator dcgan is not invertible and has no '
      'likelihood; nice and real_nvp have one'
    )
  _one_of(config, 'generator.prior', flows.PRIORS)
  _one_of(config, 'generator.normalization', networks.NORMALIZATIONS)
  _one_of(config, 'precision', PRECISIONS)
  _one_of(config, 'scorer', SCORERS)
  for key in (
    'batch_size',
    'steps',
    'critic_steps',
    'log_every',
    'eval_every',
    'generator.hidden_units',
    'generator.channels',
  ):
    _number(config, key, lambda v: v >= 1, 'an integer of at least 1')
  for key in ('generator.hidden_layers', 'generator.blocks', 'generator.scales'):
    _number(config, key, lambda v: v >= 1, 'an integer of at least 1')
  _number(config, 'critic.dense_units', lambda v: v >= 0, 'an integer of at least 0')
  for key in ('critic.channels', 'generator.upsampling_channels'):
    channels = _lookup(config, key)
    if not channels or not all(isinstance(n, int) and n >= 1 for n in channels):
      raise UsageError(f'{key}: got {channels}, expected one or more integers of at least 1')
  _number(config, 'generator.couplings', lambda v: v >= 2, 'an integer of at least 2')
  _number(config, 'generator.alpha', lambda v: 0 <= v < 0.5, 'a number of at least 0 and below 0.5')
  _number(config, 'generator.log_scale_bound', lambda v: v > 0, 'a positive number')
  _number(config, 'score_samples', lambda v: v == 0 or v >= 10, '0 or an integer of at least 10')
  _number(config, 'ema_decay', lambda v: 0 <= v < 1, 'a number of at least 0 and below 1')
  _number(config, 'seed', lambda v: 0 <= v < 2**31, 'an integer from 0 to 2147483647')
  for optimizer in ('optimizer', 'critic_optimizer'):
    _one_of(config, f'{optimizer}.schedule', SCHEDULES)
    _number(config, f'{optimizer}.learning_rate', lambda v: v > 0, 'a positive number')
    _number(config, f'{optimizer}.decay_rate', lambda v: 0 < v <= 1, 'a number above 0 and at most 1')
    _number(config, f'{optimizer}.clip_norm', lambda v: v >= 0, 'a number of at least 0')
    for beta in ('beta_1', 'beta_2'):
      _number(config, f'{optimizer}.{beta}', lambda v: 0 <= v < 1, 'a number of at least 0 and below 1')


def make_generator(
  config: config_dict.ConfigDict, image_shape: Sequence[int], dtype: str = 'float32'
) -> generators.Generator:
  """The generator that a configuration describes.

  Args:
    config: A training configuration.
    image_shape: `(height, width, channels)`.
    dtype: Name of a Keras dtype policy.

  Raises:
    UsageError: If there is no such generator of images of this shape.
  """
  c = config.generator
  try:
    if c.name == 'nice':
      return flows.nice(
        image_shape, c.couplings, c.hidden_units, c.hidden_layers, c.normalization, c.prior, c.alpha, dtype
      )
    if c.name == 'dcgan':
      return generators.dcgan(image_shape, c.upsampling_channels, c.prior, dtype)
    return flows.real_nvp(
      image_shape,
      c.scales,
      c.channels,
      c.blocks,
      c.normalization,
      c.batch_norm_between,
      c.log_scale_bound,
      c.prior,
      c.alpha,
      dtype,
    )
  except ValueError as error:
    raise UsageError(f'generator {c.name!r}: {error}') from error


def make_objective(config: config_dict.ConfigDict) -> objectives.Objective:
  """The objective that a configuration describes."""
  return objectives.make(
    config.objective,
    lambda_=config['lambda'],
    divergence=config.divergence,
    gradient_penalty_weight=config.gradient_penalty,
  )


def settings(config: config_dict.ConfigDict) -> dict[str, object]:
  """Every setting by its dotted name, as JSON would have it: `{'seed': 0, 'generator.name': 'nice', ...}`."""

  def flatten(nested, prefix):
    for key, value in nested.items():
      yield from flatten(value, f'{prefix}{key}.') if isinstance(value, dict) else [(prefix + key, value)]

  return dict(flatten(json.loads(config.to_json_best_effort()), ''))


def _lookup(config, key):
  for part in key.split('.'):
    config = config[part]
  return config


def _one_of(config, key, choices):
  if (value := _lookup(config, key)) not in choices:
    raise UsageError(f'{key}: got {value!r}, expected one of {", ".join(choices)}')


def _number(config, key, holds, expected):
  value = _lookup(config, key)
  if not math.isfinite(value) or not holds(value):
    raise UsageError(f'{key}: got {value}, expected {expected}')
