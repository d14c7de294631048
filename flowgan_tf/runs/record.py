"""The record of a run, `config.json`: what it must say, and what it may name.

Only in a run of the user's own may the record name code to import and places to read. Such a record holds a mark: the
HMAC-SHA256 of all that it says, with a key that lies in the folder of the user's configuration. Whoever cannot read the
key cannot make the mark.
"""

from __future__ import annotations

import hmac
import logging
import math
import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

from flowgan_tf.data.names import is_local
from flowgan_tf.errors import UsageError
from flowgan_tf.files import check_inside, digest, fits, locked, read_record, sync, write_record
from flowgan_tf.plugins import is_plugin
from flowgan_tf.runs.pretrained import find_folder

_LOG = logging.getLogger(__name__)
_KEY_BYTES = 32

#: Settings that say where a program reads or keeps files. They have no effect in a run that is not the user's own.
PLACES = ('data_dir', 'cache_dir', 'inception_weights')
_NAMES = ('generator', 'critic', 'divergence', 'dataset')  # settings that may name a plug-in
_SETTINGS = dict.fromkeys(('objective', *_NAMES), str) | dict.fromkeys((*PLACES, 'init_from'), (str, None))
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
  'mark': (str, None),
}


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
    raise UsageError(f'{path}: was written by another version of flowgan_tf (it has not the form of a record)')
  return {name: found[0].get(name) for name in _FORM}


def _are_facts(data: Mapping[str, Any]) -> bool:
  """Whether there can be such data: their shape has values, their levels fit into a byte, and no more is said."""
  shape, condition = data['image_shape'], data.get('condition') or {}
  has_values = shape and min(shape) >= 1 and math.prod(shape) < 2**63
  has_levels = data.get('levels') is None or 2 <= data['levels'] <= 256
  return bool(has_values and has_levels and condition.keys() <= {'classes', 'condition_shape'})


def write(workdir: pathlib.Path, record: Mapping[str, Any]) -> None:
  """Writes the record of a run, with the user's mark if it names code or places.

  Args:
    workdir: The folder of the run.
    record: What it says, as in JSON.
  """
  record = {**record, 'mark': _mark_of(record, _key(make=True)) if _names_something(record) else None}
  write_record(workdir / 'config.json', {name: value for name, value in record.items() if value is not None})


def _names_something(record: Mapping[str, Any]) -> bool:
  settings = record['config']
  return bool(code_in(record)) or is_local(settings['dataset']) or any(map(settings.get, PLACES))


def is_own(record: Mapping[str, Any]) -> bool:
  """Whether a record has the mark of this user."""
  mark = _mark_of(record, _key())
  # A text of JSON may have what is no text in UTF-8.
  return mark is not None and hmac.compare_digest(mark.encode(), (record['mark'] or '').encode(errors='replace'))


def code_in(record: Mapping[str, Any]) -> list[str]:
  """Returns the plug-ins that a record names, and the folders in which it wants Python to look for them."""
  settings = record['config']
  parts = [*(settings[name] for name in _NAMES), *(settings.get('terms') or ())]
  return [*filter(is_plugin, parts), *(record['plugins'] or {}).values()]


def trust(workdir: str | os.PathLike) -> None:
  """Marks a run as the user's own: it may import the plug-ins and read the places that it names, now and later.

  The runs that this user trains are marked already.

  Args:
    workdir: Folder of the run.

  Raises:
    UsageError: If the folder is not a run, its `config.json` is damaged, or the file or the user's key cannot be
      written.
  """
  workdir = find_folder(workdir)
  record = read(workdir)
  assert record is not None
  if _names_something(record) and not is_own(record):
    write(workdir, record)


def check_data(workdir: pathlib.Path) -> None:
  """Checks, before the data of a run are read, that the user chose from where.

  It raises a `UsageError` if the data lie at a path and the run is not the user's own. A warning says which other
  places have no effect.
  """
  record = read(workdir)
  if record is None or is_own(record):
    return
  settings = record['config']
  if is_local(settings['dataset']):
    raise UsageError(f'{workdir}: was trained on {settings["dataset"]}, and {not_own(workdir)}')
  if ignored := [name for name in PLACES if settings.get(name)]:
    _LOG.warning(
      '%s: %s of its settings have no effect, because the run %s.', workdir, ', '.join(ignored), not_own(workdir)
    )


def not_own(workdir: pathlib.Path) -> str:
  """Says that a run is not the user's own, and how it becomes so."""
  return f'is not marked as yours; if you trust it, add --trust, or call flowgan_tf.runs.trust({str(workdir)!r}) once'


def _mark_of(record: Mapping[str, Any], key: bytes | None) -> str | None:
  said = {name: value for name, value in record.items() if name != 'mark' and value is not None}
  return hmac.digest(key, digest(said).encode(), 'sha256').hex() if key else None


def _key(*, make: bool = False) -> bytes | None:
  """Reads the key of this user, or makes it; None if that fails, which a warning says when it is made."""
  folder = pathlib.Path(os.environ.get('XDG_CONFIG_HOME') or '~/.config').expanduser() / 'flowgan_tf'
  path = folder / 'key'
  try:
    if make and not path.exists():
      folder.mkdir(parents=True, exist_ok=True)
      with locked(folder):
        if not path.exists():  # Another process may have been faster.
          temporary = folder / 'key.tmp'
          with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'wb') as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
          sync(temporary)
          temporary.replace(path)
    key = path.read_bytes()
  except OSError as error:
    if make:
      _LOG.warning('%s: cannot be used (%s), so the run is not marked as yours.', path, error.strerror)
    return None
  return key if len(key) == _KEY_BYTES else None
