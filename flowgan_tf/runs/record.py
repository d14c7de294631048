"""The record of a run, `config.json`: what it must say, and what it may name.

Only in a run of the user's own may the record name code to import and places to read. The folder of the user's
configuration holds a file for each such record, whose name is the SHA-256 of all that the record says.
"""

from __future__ import annotations

import logging
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import check_inside, digest, fits, make_writable, read_record, write_atomically, write_record
from flowgan_tf.base.plugins import is_plugin
from flowgan_tf.data.names import is_local
from flowgan_tf.runs.pretrained import find_folder

_LOG = logging.getLogger(__name__)

#: Settings that say where a program reads or keeps files. They have no effect in a run that is not the user's own.
PLACES = ('data_dir', 'cache_dir', 'inception_weights')
#: Settings that may name a plug-in, besides `terms`.
NAMES = ('generator', 'critic', 'divergence', 'dataset')
_SETTINGS = dict.fromkeys(('objective', *NAMES), str) | dict.fromkeys((*PLACES, 'init_from'), (str, None))
_START = {'dataset': str, 'init_from': (str, None)}
_FORM = {
  'config': _SETTINGS | {'terms': ([str], None)},
  'data': {
    'name': str,
    'image_shape': [int],
    'levels': (int, None),
    'fingerprint': str,
    'condition': ({'classes': (int, None), 'condition_shape': ([int], None)}, None),
  },
  'init': ({'run': str, 'checkpoint': (str, None), 'step': int, 'config': (_START, None)}, None),
  'rollbacks': int,
  'plugins': ({str: str}, None),
  'class_names': ([str], None),
  'commands': ([[str]], None),
}
# Words of a command that let it execute a file that is not shipped, read flags from one, or trust a run.
_SHIPPED = '|'.join(path.stem for path in (pathlib.Path(__file__).parent.parent / 'configs').glob('*.py'))
_ACTS = re.compile(rf'--?(config|flagfile|trust)(=(?!configs/({_SHIPPED})\.py(:\w+)?\Z).*|)', re.DOTALL)


def read(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Reads the record of a run; None if there is no such file. All that it names may still be a stranger's.

  Raises:
    UsageError: If the file is damaged or of another form, or the folder holds what `check_inside` rejects.
  """
  path = workdir / 'config.json'
  if not os.path.lexists(path):  # It may be any folder, and a large one.
    return None
  check_inside(workdir)
  if (found := read_record(path)) is None:
    return None
  if not fits(found[0], _FORM) or (found[0].keys() - _FORM.keys()) or not _are_facts(found[0]['data']):
    raise UsageError(f'{path}: was written by another version of flowgan_tf (it does not have the form of a record)')
  return {name: found[0].get(name) for name in _FORM}


def _are_facts(data: Mapping[str, Any]) -> bool:
  """Whether there can be such data: their shape has values, their levels fit into a byte, and nothing else is there."""
  shape, condition = data['image_shape'], data.get('condition') or {}
  has_values = shape and min(shape) >= 1 and math.prod(shape) < 2**63
  has_levels = data.get('levels') is None or 2 <= data['levels'] <= 256
  return bool(has_values and has_levels and condition.keys() <= {'classes', 'condition_shape'})


def write(workdir: pathlib.Path, record: Mapping[str, Any], *, own: bool = True) -> None:
  """Writes the record of a run.

  Args:
    workdir: The folder of the run.
    record: What it says, as in JSON.
    own: Whether the run is the user's own, and may name what the record names.

  Raises:
    UsageError: If the record, or the file that says whose it is, cannot be written.
  """
  if own:
    _remember(workdir, record)
  write_record(workdir / 'config.json', {name: value for name, value in record.items() if value is not None})


def is_own(record: Mapping[str, Any]) -> bool:
  """Whether a record is of a run of this user's own."""
  path = _memory_of(record)
  return path is not None and path.is_file()


def code_in(record: Mapping[str, Any]) -> list[str]:
  """Returns the plug-ins that a record names, and the folders in which it wants Python to look for them."""
  settings = record['config']
  parts = [*(settings[name] for name in NAMES), *(settings.get('terms') or ())]
  return [*filter(is_plugin, parts), *(record['plugins'] or {}).values()]


def commands_of(record: Mapping[str, Any]) -> list[list[str]] | None:
  """Returns the commands that trained a run, as lists of arguments of `bin/train`; None if it has none.

  A stranger could write any command, so none of a run that is not the user's own acts on what the stranger made.
  """
  return record['commands'] if is_own(record) or not _acts(record) else None


def _acts(record: Mapping[str, Any]) -> bool:
  return any(_ACTS.fullmatch(word) for command in record.get('commands') or () for word in command)


def trust(workdir: str | os.PathLike) -> None:
  """Makes a run the user's own: it may import the plug-ins and read the places that it names, now and later.

  The runs that this user trains are their own already. Nothing is written into the folder of the run.

  Args:
    workdir: Folder of the run.

  Raises:
    UsageError: If the folder is not a run, its `config.json` is damaged, or the folder of the user's configuration
      cannot be written.
  """
  workdir = find_folder(workdir)
  record = read(workdir)
  assert record is not None
  _remember(workdir, record)


def check_data(workdir: pathlib.Path) -> None:
  """Checks, before the data of a run are read, that no stranger says where they lie.

  A warning names the settings of a stranger's run that have no effect.

  Args:
    workdir: The folder of the run.

  Raises:
    UsageError: If the run names its data by a path and is not the user's own.
  """
  record = read(workdir)
  if record is None or is_own(record):
    return
  settings = record['config']
  if is_local(settings['dataset']):
    raise UsageError(f'{workdir}: was trained on {settings["dataset"]}, and {advice(workdir)}')
  if ignored := [name for name in PLACES if settings.get(name)]:
    names = ', '.join(ignored)
    _LOG.warning('%s: %s of its settings have no effect, because the run %s.', workdir, names, advice(workdir))


def check_resumes(workdir: pathlib.Path) -> None:
  """Checks that a training may go on with the settings of a run: it names nothing, or is the user's own.

  Args:
    workdir: The folder of the run.

  Raises:
    UsageError: If it is neither.
  """
  record = read(workdir)
  if record is None or is_own(record) or not (named := _named(record)):
    return
  raise UsageError(f'{workdir}: names {", ".join(named)}, and {advice(workdir)}')


def advice(workdir: pathlib.Path) -> str:
  """Says that a run is not the user's own, and how it becomes so."""
  return f'is not one of your runs; if you trust it, call flowgan_tf.runs.trust({str(workdir)!r}), or add --trust, once'


def _named(record: Mapping[str, Any]) -> list[str]:
  """Returns the code and the places that a record names."""
  settings, dataset = record['config'], record['config']['dataset']
  places = [settings.get(name) for name in (*PLACES, 'init_from')]
  local = is_local(dataset) or os.path.isabs(dataset)  # They may be away for a while.
  return [*code_in(record), *([dataset] if local else []), *filter(None, places)]


def _remember(workdir: pathlib.Path, record: Mapping[str, Any]) -> None:
  """Keeps in mind that a record is of the user's own run, if it names anything or a command of it acts."""
  named = _named(record)
  if not (named or _acts(record)) or is_own(record):
    return
  try:
    if (path := _memory_of(record)) is None:
      raise UsageError(f'{workdir}: there is no home folder; set XDG_CONFIG_HOME to a folder that you can write')
    make_writable(path.parent)
    write_atomically(path, f'{os.path.abspath(workdir)}\n')
  except UsageError:
    if named:  # Otherwise only a page does without the commands.
      raise


def _memory_of(record: Mapping[str, Any]) -> pathlib.Path | None:
  """Returns the path of the file that makes a record the user's own; None without a home folder."""
  folder = os.environ.get('XDG_CONFIG_HOME', '')
  if not os.path.isabs(folder):  # The specification of XDG says to ignore it.
    folder = os.path.expanduser('~/.config')
  said = digest({name: value for name, value in record.items() if value is not None})
  return pathlib.Path(folder, 'flowgan_tf', 'runs', said) if os.path.isabs(folder) else None
