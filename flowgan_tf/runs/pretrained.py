"""Trained flows that come with the package. Each is the folder of a run, packed in a zip file; see `packing`."""

import hashlib
import io
import os
import pathlib
import tempfile
import zipfile
import zlib

from flowgan_tf.errors import UsageError, did_you_mean
from flowgan_tf.files import check_inside, refusal_named

#: SHA-256 of the file of each flow, `flowgan_tf/pretrained/NAME.zip`.
PRETRAINED = {
  'mnist': '82103ae963264c91f3ccaf2b4fb80774cf772c50b87ddcc5bb824150d7e754e6',
  'mnist-best': '7142ed8cd8161f71ad7809c17311929586cc35b36a0a688c494852de5f047485',
}

_FOLDER = pathlib.Path(__file__).parent.parent / 'pretrained'
PREFIX = 'pretrained:'  # of the name of a flow, in place of the folder of a run


def _locate(workdir: str | os.PathLike) -> pathlib.Path:
  """Returns the path of a run. `pretrained:NAME` is unpacked into `runs/pretrained-NAME`, unless it is there."""
  if not os.fspath(workdir).startswith(PREFIX):
    return pathlib.Path(workdir)
  name = os.fspath(workdir).removeprefix(PREFIX)
  folder = pathlib.Path('runs', f'pretrained-{name}')
  content = _read(name)
  if not folder.exists():
    with refusal_named(folder):
      folder.parent.mkdir(exist_ok=True)
      with tempfile.TemporaryDirectory(dir=folder.parent) as new:
        content.extractall(pathlib.Path(new, 'run'))
        try:
          os.rename(pathlib.Path(new, 'run'), folder)
        except OSError:
          if not folder.is_dir():  # Otherwise another process has just unpacked it.
            raise
  for part in content.infolist():
    path = folder / part.filename
    if not path.is_file() or zlib.crc32(path.read_bytes()) != part.CRC:
      raise UsageError(f'{path}: differs from the one of {workdir}, as if of another version; move {folder} away')
  return folder


def find_folder(workdir: str | os.PathLike) -> pathlib.Path:
  """Returns the path of a run after checking that a folder holds a run, which may be damaged; see `_locate`.

  The run holds only regular files and folders, and no links that leave it.
  """
  path = _locate(workdir)
  if not os.path.isdir(path):  # Also False for what cannot be a path.
    runs = [other.parent.name for other in path.parent.glob('*/config.json')] if os.path.isdir(path.parent) else []
    hint = did_you_mean(path.name, runs, '' if path.parent == pathlib.Path() else f'{path.parent}/')
    raise UsageError(f'{path}: no such folder; expected the folder of a training{hint}')
  if not os.path.lexists(path / 'config.json'):
    raise UsageError(f'{path}: holds no config.json, so it is not the folder of a training')
  check_inside(path)
  return path


def unpack(name: str, folder: pathlib.Path) -> None:
  """Writes the run of a pretrained flow into a new folder."""
  _read(name).extractall(folder)


def _read(name: str) -> zipfile.ZipFile:
  if name not in PRETRAINED:
    hint = did_you_mean(name, PRETRAINED, PREFIX) or f'; expected {PREFIX}{f" or {PREFIX}".join(PRETRAINED)}'
    raise UsageError(f'{PREFIX}{name}: no such flow{hint}')
  path = _FOLDER / f'{name}.zip'
  content = path.read_bytes() if path.exists() else b''
  if hashlib.sha256(content).hexdigest() != PRETRAINED[name]:
    raise UsageError(f'{path}: is missing or damaged; install flowgan_tf again')
  return zipfile.ZipFile(io.BytesIO(content))
