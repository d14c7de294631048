"""A run is a folder: what it was trained with, and the generator that came of it."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.generators import Generator
from flowgan_tf.runs.checkpoints import available, restore_generator
from flowgan_tf.runs.config import make_generator
from flowgan_tf.runs.description import read_description

__all__ = ['Run', 'describe_run', 'find_run', 'load_data', 'load_run']


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
  config, facts = read_description(workdir)
  best = 'best_score' if config.objective == 'adversarial' else 'best_nll'
  checkpoint = checkpoint or (best if best in available(workdir) else 'latest')
  image_shape = tuple(facts['image_shape'])
  try:
    generator = make_generator(config, image_shape)
  except UsageError as error:
    raise UsageError(f'{workdir / "config.json"}: damaged ({error})') from error
  step = restore_generator(workdir, checkpoint, generator)
  return Run(workdir, config, image_shape, facts['levels'], facts['fingerprint'], checkpoint, step, generator)


def load_data(run: Run) -> data.Dataset:
  """The data that a run was trained on.

  Raises:
    UsageError: If they cannot be read, or are other data now.
  """
  dataset = data.load(run.config.dataset, run.config.data_dir or None)
  if dataset.fingerprint != run.fingerprint:
    raise UsageError(f'{run.workdir}: was trained on other data than {run.config.dataset} is now')
  return dataset


def find_run(workdir: str | os.PathLike) -> pathlib.Path:
  """The folder of a run that has something to restore.

  Raises:
    UsageError: If the folder is not a run, or has no checkpoint yet.
  """
  workdir = pathlib.Path(workdir)
  if not workdir.is_dir():
    raise UsageError(f'{workdir}: no such folder; expected that of a training')
  if not (workdir / 'config.json').exists():
    raise UsageError(f'{workdir}: holds no config.json, so it is not the folder of a training')
  if not available(workdir):
    raise UsageError(f'{workdir}: has no checkpoint yet')
  return workdir


def describe_run(workdir: str | os.PathLike) -> tuple[config_dict.ConfigDict, dict]:
  """The configuration of a run, and of its data `name`, `image_shape`, `levels` and `fingerprint`; nothing is restored.

  Raises:
    UsageError: If the folder is not a run, or its description is damaged.
  """
  return read_description(find_run(workdir))
