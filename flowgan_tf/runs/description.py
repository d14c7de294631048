"""`config.json`: what a run was trained with, and on which data."""

from __future__ import annotations

import json
import pathlib

from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.files import write_atomically
from flowgan_tf.runs.config import default_config, validate

__all__ = ['describe_data', 'read_description', 'write_description']


def describe_data(dataset: data.Dataset) -> dict:
  """What a run remembers of its data."""
  return {
    'name': dataset.name,
    'image_shape': list(dataset.image_shape),
    'levels': dataset.levels,
    'fingerprint': dataset.fingerprint,
  }


def write_description(workdir: pathlib.Path, config: config_dict.ConfigDict, facts: dict) -> None:
  """Writes what `read_description` reads; `facts` are those of `describe_data`."""
  description = {'config': json.loads(config.to_json_best_effort()), 'data': facts}
  write_atomically(workdir / 'config.json', json.dumps(description, indent=2) + '\n')


def read_description(workdir: pathlib.Path) -> tuple[config_dict.ConfigDict, dict] | None:
  """The configuration of a run, and of its data `name`, `image_shape`, `levels` and `fingerprint`.

  Returns:
    None if the folder has no `config.json`.

  Raises:
    UsageError: If the file is damaged.
  """
  path = workdir / 'config.json'
  if not path.exists():
    return None
  try:
    description = json.loads(path.read_text())
    config, facts = default_config(), description['data']
    with config.ignore_type():
      config.update(description['config'])
    validate(config)
    height, width, channels = facts['image_shape']
    if not all(isinstance(n, int) and n > 0 for n in (height, width, channels, facts['levels'])):
      raise ValueError('image_shape and levels must be positive integers')
    facts['fingerprint'].encode()
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UsageError(f'{path}: damaged or from another version ({type(error).__name__}: {error})') from error
  return config, facts
