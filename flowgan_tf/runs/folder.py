"""The folder of a run, which only one training may use at a time: its `config.json`, and which checkpoints it has.

A program reads this before it loads TensorFlow.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ml_collections import config_dict

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import as_json, make_writable
from flowgan_tf.base.plugins import check_found, search_in
from flowgan_tf.objectives.objective import kinds_of
from flowgan_tf.runs import record as records
from flowgan_tf.runs.config import (
  check_values,
  current_settings,
  default_config,
  idle,
  in_one_line,
  plugins_of,
  recorded_config,
  settings,
  training_changes,
  untrainable_settings,
  used,
  without_plugins,
)
from flowgan_tf.runs.pretrained import find_folder
from flowgan_tf.runs.settings import CHECKPOINTS

if TYPE_CHECKING:
  from flowgan_tf import data

# What a kill leaves of the files that only a training writes; see `files.write_atomically`.
_TEMPORARY = re.compile(r'(config\.json|metrics\.jsonl)\.\d+\.tmp')
# A line of TensorFlow's list of checkpoints.
_LISTED = re.compile(r'^(?:all_)?model_checkpoint_paths?: "ckpt-([0-9]{1,18})"$', re.MULTILINE)
# What a training leaves after its first checkpoint, and what the other programs make from a run.
_LEFT = ('metrics.jsonl', 'evaluation.json', 'export', 'analysis')


class Description(NamedTuple):
  """The content of `config.json`."""

  config: config_dict.ConfigDict
  data: dict  # `name`, `image_shape`, `levels` and `fingerprint` of the data set, and `condition` of its images
  init: dict | None = None  # where the training started, from `initialize_from_run`; None for a new generator
  rollbacks: int = 0  # how often it went back to a checkpoint, with half the learning rates each time
  plugins: dict[str, str] | None = None  # the folder of each module from outside of the package that the run uses
  class_names: list[str] | None = None  # the names of the classes in the data, which identify nothing
  commands: list[list[str]] | None = None  # arguments of each `bin/train` that began the run or changed its settings


def write_description(workdir: pathlib.Path, description: Description, *, own: bool = True) -> None:
  """Writes `config.json`, without the settings of generators and critics that the run does not use.

  `own` says whether the run is the user's own, as for `record.write`.
  """
  config = as_json(used(description.config).to_dict())
  records.write(workdir, as_json(description._asdict() | {'config': config}), own=own)


def read_description(workdir: pathlib.Path, *, imports: bool = True) -> Description | None:
  """Reads `config.json`, which this version of flowgan_tf must have written; None if there is no such file.

  A run that is not the user's own may not name plug-ins. The places that it names are left out of its settings, and
  its commands if they would act; see `record.commands_of`.
  Without `imports` no plug-in is imported, and the configuration has the settings of plug-ins as they were written.
  """
  path = workdir / 'config.json'
  if (record := records.read(workdir)) is None:
    return None
  is_mine, named, plugins = records.is_own(record), records.code_in(record), record['plugins'] or {}
  if named and imports:
    if not is_mine:
      said = f'{path}: names code to import ({", ".join(named)})'
      raise UsageError(f'{said}, and the run {records.advice(workdir)}')
    for folder in (*plugins.values(), '.'):  # They may have moved.
      search_in(folder)
  recorded = current_settings(record['config'])
  recorded |= {} if is_mine else {name: '' for name in records.PLACES if name in recorded}
  try:
    if named and not imports:
      config = recorded_config(recorded)
      check_values(without_plugins(config))
    else:
      config = default_config(**recorded)
      check_values(config)
      check_found(plugins, plugins_of(config) or {})
    return Description(**record | {'config': config, 'commands': records.commands_of(record)})
  except UsageError as error:
    lost = isinstance(error.__cause__, ModuleNotFoundError) and plugins
    hint = (
      f'; the training found {", ".join(f"{name} in {folder}" for name, folder in plugins.items())}' if lost else ''
    )
    raise UsageError(f'{path}: {error}{hint}', error.argument) from error
  except (AttributeError, KeyError, TypeError, ValueError) as error:  # The file is intact, so its settings differ.
    raise UsageError(f'{path}: was written by another version of flowgan_tf ({in_one_line(error)})') from error


def available(workdir: pathlib.Path) -> list[str]:
  """Returns the names of the checkpoints that a run has, in the order of `CHECKPOINTS`."""
  return [name for name in CHECKPOINTS if steps_in(workdir / 'checkpoints' / name)]


def latest_step(workdir: pathlib.Path) -> int:
  """Returns the step at which the training of a run resumes, by the checkpoint's name; 0 if it has no `latest`."""
  return max(steps_in(workdir / 'checkpoints' / 'latest'), default=0)


def steps_in(folder: pathlib.Path) -> list[int]:
  """Returns the steps of the finished checkpoints in a folder, oldest first, without the ones that a user removed.

  TensorFlow keeps a list of them. Its own reader may see half of the list while a training replaces it.
  """
  listing = folder / 'checkpoint'
  try:
    text = listing.read_text()
  except (FileNotFoundError, NotADirectoryError):
    return []
  except (OSError, ValueError):
    text = ''
  steps = set(map(int, _LISTED.findall(text)))
  if not steps:  # TensorFlow would find no checkpoint, and a training would start again.
    raise UsageError(
      f'{listing}: damaged; make it the line model_checkpoint_path: "ckpt-N", with the largest N of the files beside it'
    )
  kept = {path.name.partition('.')[0] for path in folder.glob('ckpt-*.*')}  # Once, however long the list is.
  found = [step for step in sorted(steps) if f'ckpt-{step}' in kept]
  # A training may have replaced all of them since the list was read; a run must not seem to have none.
  return found if found or listing.read_text() == text else steps_in(folder)


def find_run(workdir: str | os.PathLike) -> pathlib.Path:
  """Returns the path of a run, after checking that the folder holds a run and a checkpoint."""
  workdir = find_folder(workdir)
  if not (workdir / 'config.json').exists():
    raise UsageError(f'{workdir}/config.json: damaged (a link to a file that does not exist)')
  if not available(workdir):
    raise UsageError(f'{workdir}: has no checkpoint yet')
  return workdir


def count_rollback(workdir: pathlib.Path) -> int:
  """Adds one to the `rollbacks` in `config.json`, and returns the sum."""
  description = read_description(workdir)
  assert description is not None
  description = description._replace(rollbacks=description.rollbacks + 1)
  write_description(workdir, description)
  return description.rollbacks


def open_workdir(
  workdir: str | os.PathLike,
  config: config_dict.ConfigDict,
  dataset: data.Dataset,
  init: dict | None = None,
  command: Sequence[str] = (),
) -> pathlib.Path:
  """Makes the folder of a run, or rejects one that holds something else or a run with another configuration or data.

  A run that has no checkpoint yet, such as one that failed at its start, may change its configuration. One that has
  lost its checkpoints may not start again. `init` says where a new training starts, as in `Description`; a run that
  resumes keeps its own. `command` are the arguments of `bin/train`, if that calls this.
  """
  workdir = make_writable(workdir)
  for file in list(workdir.iterdir()):
    if _TEMPORARY.fullmatch(file.name):
      file.unlink()
  names = as_json(dataset.class_names)
  new = Description(config, _facts(dataset), init, plugins=plugins_of(config), class_names=names)
  old = read_description(workdir)
  if old is None:
    if any(workdir.iterdir()):
      said = f'{workdir}: is not empty and holds no run; `workdir` must be a new folder or hold a run'
      raise UsageError(said, 'workdir')
  elif available(workdir):
    check_can_go_on(workdir, config, dataset)
    new = old._replace(config=config, plugins=new.plugins, class_names=new.class_names)
  elif had := next((name for name in _LEFT if (workdir / name).exists()), None):
    said = f'{workdir}: has {had} but no checkpoint to resume from; put {workdir}/checkpoints back, or use another '
    raise UsageError(f'{said}`workdir`', 'workdir')
  write_description(workdir, new._replace(commands=_commands(old, config, command)))
  return workdir


def _commands(
  old: Description | None, config: config_dict.ConfigDict, command: Sequence[str]
) -> list[list[str]] | None:
  """Returns the commands that make a run: the one that began it, and those that went on with other settings."""
  if old is None or training_changes(config, old.config).keys() - {'steps'}:
    before: list[list[str]] = []
  elif old.commands is None or settings(used(config)) == settings(used(old.config)):
    return old.commands  # Commands that only go on would not train the run in another folder.
  else:
    before = old.commands
  return [*before, *([[*command]] if command else [])] or None


def _facts(dataset: data.Dataset) -> dict:
  """Returns what a description says of the data."""
  facts = {name: getattr(dataset, name) for name in ('name', 'image_shape', 'levels', 'fingerprint')}
  return as_json(facts | ({'condition': dataset.condition.arguments} if dataset.condition_kind else {}))


def check_can_go_on(workdir: pathlib.Path, config: config_dict.ConfigDict, dataset: data.Dataset) -> None:
  """Rejects a configuration or data with which the run in a folder cannot go on, if a run has begun there."""
  old = read_description(workdir)
  if old is None or not available(workdir):
    return
  check_trains_on(workdir)
  check_same_training(workdir, config, old.config)
  if _facts(dataset) != old.data:
    raise UsageError(f'{workdir}: holds a run on other data than {config.dataset} holds now')
  if (done := latest_step(workdir)) > config.steps:
    said = f'`steps` must be at least {done}, which the run in {workdir} has done. Got: {config.steps}.'
    raise UsageError(said, 'steps')


@contextlib.contextmanager
def exclusive(workdir: str | os.PathLike) -> Iterator[None]:
  """Makes a folder, and keeps other trainings out of it until the block or the process ends."""
  folder = os.open(make_writable(workdir), os.O_RDONLY)
  try:
    try:
      fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise UsageError(f'{workdir}: another training is running in this folder') from error
    yield
  finally:
    os.close(folder)


def check_trains_on(workdir: pathlib.Path) -> None:
  """Rejects a run whose critic or generator only an earlier version could train on."""
  record = records.read(workdir)
  for name, value in untrainable_settings(record['config'] if record else {}).items():
    said = f'was trained with {name} {value!r}, which this version cannot train on; use another `workdir`'
    raise UsageError(f'{workdir}: {said}', 'workdir')


def check_same_training(
  workdir: str | os.PathLike, config: config_dict.ConfigDict, old: config_dict.ConfigDict
) -> None:
  """Rejects a configuration with which the run in a folder, which has the configuration `old`, cannot go on."""
  changes = training_changes(config, old)
  moving = any(kind.moves(config) for kind in kinds_of(config))
  optimizers = [name for name in ('optimizer', 'critic_optimizer') if not idle(name, config)]
  if 'cosine' not in [config[name].schedule for name in optimizers] and not moving:
    changes.pop('steps', None)  # Otherwise a learning rate or a weight depends on the last step.
  if changes:
    said = ', '.join(f'{name} {old} -> {new}' for name, (old, new) in [*changes.items()][:4])
    why = ', on which a learning rate or a weight depends' if 'steps' in changes else ''
    said = f'{workdir}: holds a run with another configuration ({said}{why}); use another `workdir`'
    raise UsageError(said, 'workdir')
