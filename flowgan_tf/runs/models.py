"""What the settings of a training describe: the generator, the critic and the objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
from ml_collections import config_dict

from flowgan_tf import objectives
from flowgan_tf.errors import UsageError, renamed
from flowgan_tf.generators import GENERATORS, Generator
from flowgan_tf.networks import CRITICS
from flowgan_tf.runs.config import objective_arguments

__all__ = ['make_critic', 'make_generator', 'make_objective']


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
  return objectives.make(**objective_arguments(config))


def _build(builders: dict[str, Callable], setting, config, image_shape, dtype):
  name = config[setting]
  try:
    return builders[name](image_shape, dtype=dtype, **config[name])
  except ValueError as error:
    message = renamed(error, {argument: f'{name}.{argument}' for argument in config[name]})
    fault = '' if f'`{name}.' in message else f'`{setting}` {name!r} does not fit: '
    raise UsageError(fault + message) from error
