"""The folder of a run, which one training at a time may use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
from collections.abc import Iterator

from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.files import make_writable
from flowgan_tf.runs.checkpoints import available, latest_step
from flowgan_tf.runs.config import training_settings
from flowgan_tf.runs.description import describe_data, read_description, write_description
from flowgan_tf.runs.log import read_lines

__all__ = ['exclusive', 'open_workdir', 'training_changes']

# What a kill leaves of the files that only a training writes; see `files.write_atomically`.
_TEMPORARY = re.compile(r'(config\.json|init\.json|metrics\.jsonl|rollbacks\.json)\.\d+\.tmp')


def training_changes(config: config_dict.ConfigDict, old: config_dict.ConfigDict) -> dict[str, tuple]:
  """Compares two configurations, apart from what does not change a training, such as where files are.

  Returns:
    The old and the new value of each setting that differs, by its dotted name.
  """
  before, now = training_settings(old), training_settings(config)
  return {name: (before.get(name), value) for name, value in now.items() if value != before.get(name)}


def open_workdir(workdir: str | os.PathLike, config: config_dict.ConfigDict, dataset: data.Dataset) -> pathlib.Path:
  """Makes the folder of a run, or checks that an existing one has the same configuration and data.

  A run that has no checkpoint yet, such as one that failed at its start, may change its configuration. One that has
  lost its checkpoints may not start again.

  Args:
    workdir: Folder of the run.
    config: Configuration of the training that starts or resumes.
    dataset: Data of that training.

  Returns:
    The folder.

  Raises:
    UsageError: If the folder cannot be written, or holds files that are not a run, or a run with another configuration,
      with other data, with more steps than `config.steps` or without the checkpoints that it had.
  """
  workdir = make_writable(workdir)
  for file in list(workdir.iterdir()):
    if _TEMPORARY.fullmatch(file.name):
      file.unlink()
  facts = describe_data(dataset)
  description = read_description(workdir)
  if description is None:
    if any(workdir.iterdir()):
      raise UsageError(f'{workdir}: is not empty and holds no run; `workdir` must be a new folder or hold a run')
  elif available(workdir):
    _check_same(workdir, config, facts, *description)
  elif had := _left_by_checkpoints(workdir):
    raise UsageError(
      f'{workdir}: has {had} but no checkpoint to go on from; put {workdir}/checkpoints back, or use another `workdir`'
    )
  write_description(workdir, config, facts)
  return workdir


@contextlib.contextmanager
def exclusive(workdir: str | os.PathLike) -> Iterator[None]:
  """Keeps other trainings out of a folder until the block or the process ends. A missing folder is made.

  Raises:
    UsageError: If the folder cannot be written, or a training is running in it.
  """
  folder = os.open(make_writable(workdir), os.O_RDONLY)
  try:
    try:
      fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise UsageError(f'{workdir}: another training is running in this folder') from error
    yield
  finally:
    os.close(folder)


def _left_by_checkpoints(workdir):
  """What shows that there was a checkpoint; empty if nothing does, as when a run failed at its start."""
  lines = read_lines(workdir)
  step = max((line.record['step'] for line in lines if line.record), default=0)
  if step or any(line.record is None for line in lines):
    return f'metrics up to step {step}'
  return next((name for name in ('evaluation.json', 'export', 'analysis') if (workdir / name).exists()), '')


def _check_same(workdir, config, facts, old_config, old_facts):
  changes = training_changes(config, old_config)
  if 'cosine' not in (config.optimizer.schedule, config.critic_optimizer.schedule) and config.final_lambda is None:
    changes.pop('steps', None)  # Otherwise a learning rate or lambda depends on the last step.
  if changes:
    changes = ', '.join(f'{name} {old} -> {new}' for name, (old, new) in [*changes.items()][:4])
    raise UsageError(f'{workdir}: holds a run with another configuration ({changes}); use another `workdir`')
  if facts != old_facts:
    raise UsageError(f'{workdir}: holds a run on other data than {config.dataset} holds now')
  if (done := latest_step(workdir)) > config.steps:
    raise UsageError(f'`steps` must be at least {done}, which the run in {workdir} has done. Got: {config.steps}.')
