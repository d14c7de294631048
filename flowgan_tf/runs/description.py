"""`config.json`: the configuration of a run, and the data that it was trained on."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator

from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.files import read_json, sealed, unsealed, write_json
from flowgan_tf.runs.config import default_config, used, validate

__all__ = ['describe_data', 'read_description', 'write_description']

# Version 1, which no file states: settings of all generators in the block `generator`, of the critic in `critic`.
# Version 2: a block for each builder, under its name.
# Version 3: with a seal; the norm 'scalar_batch' has the paper's epsilon and momentum, and before it was
# 'scalar_batch_1e-3'. A file of an older version must have no key that it did not have then, or a digit of the
# version that was damaged would remove the seal.
_VERSION = 3
_KEYS = {1: {'config', 'data'}, 2: {'version', 'config', 'data'}, 3: {'version', 'config', 'data', 'sha256'}}


def describe_data(dataset: data.Dataset) -> dict:
  """Returns what `config.json` records about the data."""
  return {
    'name': dataset.name,
    'image_shape': list(dataset.image_shape),
    'levels': dataset.levels,
    'fingerprint': dataset.fingerprint,
  }


def write_description(workdir: pathlib.Path, config: config_dict.ConfigDict, facts: dict) -> None:
  """Writes `config.json`, with `facts` from `describe_data`."""
  description = {'version': _VERSION, 'config': json.loads(used(config).to_json_best_effort()), 'data': facts}
  write_json(workdir / 'config.json', sealed(description))


def read_description(workdir: pathlib.Path) -> tuple[config_dict.ConfigDict, dict] | None:
  """Reads `config.json`.

  Returns:
    The configuration, and the facts that `describe_data` returned; None if there is no such file.

  Raises:
    UsageError: If the file was damaged or edited, or has an unknown version.
  """
  path = workdir / 'config.json'
  if not path.exists():
    return None
  with _damage_named(path):
    description = read_json(path)
    version = description.get('version', 1)
  if type(version) is not int or version not in _KEYS:
    raise UsageError(f'{path}: has version {version!r}, but this flowgan_tf reads only versions 1 to {_VERSION}')
  with _damage_named(path):
    if description.keys() != _KEYS[version]:
      raise ValueError(f'version {version} has other keys')
    if version == _VERSION:
      description = unsealed(description)
    config, found, facts = default_config(), description['config'], description['data']
    found = _from_version_1(found) if version == 1 else found
    found = _from_version_2(found) if version < 3 else found
    config.update({'ema_every': 1} | found)  # The average before it had a setting of its own.
    validate(config)
    if config.generator not in found or not isinstance(facts['name'], str):
      raise ValueError(f'the settings of {config.generator} and the name of the data must be there')
    height, width, channels = facts['image_shape']
    if not all(isinstance(n, int) and n > 0 for n in (height, width, channels, facts['levels'])):
      raise ValueError('image_shape and levels must be positive integers')
    facts['fingerprint'].encode()
  return config, facts


@contextlib.contextmanager
def _damage_named(path: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UsageError(f'{path}: damaged ({type(error).__name__}: {error})') from error


def _from_version_1(config: dict) -> dict:
  generator, critic = config.pop('generator'), config.pop('critic')
  name = generator['name']
  if name == 'dcgan':
    generator['channels'] = generator['upsampling_channels']
  block = {argument: generator[argument] for argument in default_config()[name] if argument in generator}
  return config | {'generator': name, name: block, 'critic': 'dcgan_critic', 'dcgan_critic': critic}


def _from_version_2(config: dict) -> dict:
  for block in config.values():
    if isinstance(block, dict) and block.get('normalization') == 'scalar_batch':
      block['normalization'] = 'scalar_batch_1e-3'
  return config
