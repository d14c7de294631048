"""A run is a folder: what it was trained with, and the generator that came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator

from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.files import make_writable, write_atomically
from flowgan_tf.generators import Generator
from flowgan_tf.training.checkpoints import available, restore_generator
from flowgan_tf.training.config import default_config, settings, validate
from flowgan_tf.training.state import make_generator

__all__ = ['Run', 'describe_run', 'exclusive', 'find_run', 'load_data', 'load_run', 'open_workdir']

# Settings that may differ when a run is continued: where things lie, how often it reports.
_FREE = {'cache_dir', 'data_dir', 'inception_weights', 'log_every'}


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained generator and what is known of it.

  Attributes:
    workdir: Folder of the run.
    config: Its configuration.
    image_shape: `(height, width, channels)` of its images.
    levels: Number of grey levels of its data.
    fingerprint: Hash of its data.
    checkpoint: Name of the checkpoint that was restored.
    step: Training step of that checkpoint.
    generator: The generator, with averaged weights.
  """

  workdir: pathlib.Path
  config: config_dict.ConfigDict
  image_shape: tuple[int, int, int]
  levels: int
  fingerprint: str
  checkpoint: str
  step: int
  generator: Generator


def load_run(workdir: str | os.PathLike, checkpoint: str | None = None) -> Run:
  """Restores the generator of a run.

  Args:
    workdir: Folder of the run.
    checkpoint: One of `checkpoints.CHECKPOINTS`. By default the best by NLL or, for an adversarial run, whose NLL is
      best before it has learned anything, the best by score; `latest` where there is no best one.

  Raises:
    UsageError: If the folder is not a run, or has no such checkpoint, or something in it is damaged.
  """
  workdir = find_run(workdir)
  config, facts = _read_description(workdir)
  best = 'best_score' if config.objective == 'adversarial' else 'best_nll'
  checkpoint = checkpoint or (best if best in available(workdir) else 'latest')
  image_shape = tuple(facts['image_shape'])
  generator = make_generator(config, image_shape)
  step = restore_generator(workdir, checkpoint, generator)
  return Run(workdir, config, image_shape, facts['levels'], facts['fingerprint'], checkpoint, step, generator)


def load_data(run: Run) -> data.Dataset:
  """The data that a run was trained on.

  Raises:
    UsageError: If they cannot be read, or are other data now.
  """
  dataset = data.load(run.config.dataset, run.config.data_dir or None)
  if dataset.fingerprint != run.fingerprint:
    raise UsageError(f'{run.workdir}: was trained on other data than --dataset={run.config.dataset} is now')
  return dataset


def find_run(workdir: str | os.PathLike) -> pathlib.Path:
  """The folder of a run that has something to restore.

  Raises:
    UsageError: If the folder is not a run, or has no checkpoint yet.
  """
  workdir = pathlib.Path(workdir)
  if not workdir.is_dir():
    raise UsageError(f'{workdir}: no such folder; expected the --workdir of a training')
  if not (workdir / 'config.json').exists():
    raise UsageError(f'{workdir}: holds no config.json, so it is not the --workdir of a training')
  if not available(workdir):
    raise UsageError(f'{workdir}: has no checkpoint yet')
  return workdir


def describe_run(workdir: str | os.PathLike) -> tuple[config_dict.ConfigDict, dict]:
  """The configuration of a run, and of its data `name`, `image_shape`, `levels` and `fingerprint`; nothing is restored.

  Raises:
    UsageError: If the folder is not a run, or its description is damaged.
  """
  return _read_description(find_run(workdir))


def open_workdir(workdir: str | os.PathLike, config: config_dict.ConfigDict, dataset: data.Dataset) -> pathlib.Path:
  """Makes the folder of a run, or checks that the one which is there belongs to the same configuration and data.

  A run that has saved nothing yet, such as one that failed at its start, may take another configuration.

  Args:
    workdir: Folder of the run.
    config: The configuration of the training about to start or to go on.
    dataset: Its data.

  Returns:
    The folder.

  Raises:
    UsageError: If the folder cannot be written, or holds a run with another configuration, other data or something that
      is not a run.
  """
  workdir = _writable_folder(workdir)
  facts = {
    'name': dataset.name,
    'image_shape': list(dataset.image_shape),
    'levels': dataset.levels,
    'fingerprint': dataset.fingerprint,
  }
  description = _read_description(workdir)
  if description is None:
    if any(workdir.iterdir()):
      raise UsageError(f'--workdir={workdir}: is not empty and holds no run; expected a new folder or that of a run')
  elif available(workdir):
    _check_same(workdir, config, facts, *description)
  description = {'config': json.loads(config.to_json_best_effort()), 'data': facts}
  write_atomically(workdir / 'config.json', json.dumps(description, indent=2) + '\n')
  return workdir


@contextlib.contextmanager
def exclusive(workdir: str | os.PathLike) -> Iterator[None]:
  """Makes the folder of a run, if need be, and keeps other trainings out until the block or the process ends.

  Raises:
    UsageError: If the folder cannot be written, or a training is running in it.
  """
  folder = os.open(_writable_folder(workdir), os.O_RDONLY)
  try:
    try:
      fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise UsageError(f'--workdir={workdir}: another training is running in this folder') from error
    yield
  finally:
    os.close(folder)


def _writable_folder(workdir: str | os.PathLike) -> pathlib.Path:
  workdir = pathlib.Path(workdir)
  try:
    make_writable(workdir)
  except OSError as error:
    raise UsageError(f'--workdir={workdir}: cannot be written ({error.strerror})') from error
  return workdir


def _read_description(workdir: pathlib.Path) -> tuple[config_dict.ConfigDict, dict] | None:
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


def _check_same(workdir, config, facts, old_config, old_facts):
  new, old = settings(config), settings(old_config)
  # How long it goes on may differ as well, unless the learning rate falls to zero at the last step.
  free = _FREE if 'cosine' in (config.optimizer.schedule, config.critic_optimizer.schedule) else _FREE | {'steps'}
  different = [key for key in new if key not in free and new[key] != old.get(key)]
  if different:
    changes = ', '.join(f'{key} {old.get(key)} -> {new[key]}' for key in different[:4])
    raise UsageError(f'--workdir={workdir}: holds a run with another configuration ({changes}); use another --workdir')
  if facts != old_facts:
    raise UsageError(f'--workdir={workdir}: holds a run on other data than --dataset={config.dataset} is now')
