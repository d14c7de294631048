"""`ckpt-N.run.json`, beside a checkpoint: the settings and the data of the run that saved it."""

from __future__ import annotations

import pathlib

from flowgan_tf.errors import UsageError
from flowgan_tf.files import as_json, read_json, sealed, unsealed, write_json
from flowgan_tf.runs.config import training_settings
from flowgan_tf.runs.description import read_description

__all__ = ['check_origin', 'write_origin']


def write_origin(path: pathlib.Path, workdir: pathlib.Path) -> None:
  """Writes which run a checkpoint belongs to.

  Args:
    path: Path of the checkpoint, without an ending.
    workdir: Folder of the run. Without a `config.json` nothing is written.

  Raises:
    UsageError: If the file cannot be written.
  """
  if origin := _origin(workdir):
    write_json(_file(path), sealed(origin))


def check_origin(path: pathlib.Path, workdir: pathlib.Path) -> None:
  """Checks that a checkpoint belongs to a run. Those of versions that did not write it are accepted.

  Args:
    path: Path of the checkpoint, without an ending.
    workdir: Folder of the run.

  Raises:
    UsageError: If the checkpoint is of a run with other settings or data, or the file is damaged.
  """
  file, here = _file(path), _origin(workdir)
  if here is None or not file.exists():
    return
  try:
    found = unsealed(read_json(file))
  except (OSError, ValueError, AttributeError) as error:
    raise UsageError(f'{file}: damaged ({error}); remove {path.name}.* to skip this checkpoint') from error
  # Settings that only one of the two versions has say nothing.
  differing = [name for name, value in here.items() if value != found.get(name, value)]
  if differing:
    changes = ', '.join(f'{name} {found[name]} and not {here[name]}' for name in differing[:4])
    raise UsageError(f'{path}: is a checkpoint of another run ({changes}); put back that of this run')


def _origin(workdir):
  description = read_description(workdir)
  if description is None:
    return None
  config, facts = description
  origin = as_json(training_settings(config)) | {'data': facts['fingerprint']}
  del origin['steps']  # They may grow.
  return origin


def _file(path):
  return path.with_name(f'{path.name}.run.json')
