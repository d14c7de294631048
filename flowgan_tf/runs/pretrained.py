"""Trained flows that come with the package. Each is the folder of a run, packed in a zip file; see `packing`."""

import hashlib
import io
import os
import pathlib
import tempfile
import zipfile

import numpy as np

from flowgan_tf.base.errors import UsageError, did_you_mean
from flowgan_tf.base.files import check_inside, error_named

#: SHA-256 of the file of each flow, `flowgan_tf/pretrained/NAME.zip`.
PRETRAINED = {
  'mnist': '82103ae963264c91f3ccaf2b4fb80774cf772c50b87ddcc5bb824150d7e754e6',
  'mnist-best': '7142ed8cd8161f71ad7809c17311929586cc35b36a0a688c494852de5f047485',
}
#: SHA-256 of each file in them, because decompressing them takes 2 to 7 seconds. `packing` prints both.
_UNPACKED = {
  'mnist': {
    'checkpoints/best_score/checkpoint': '32091433793b461048d50434d51ff3709c187316eec23a3d86e3255a95e57363',
    'checkpoints/best_score/ckpt-800.data-00000-of-00001': (
      'a07bb9365f9849cd241a80f4e9fd20ef4e6869b20453a273e4b9957b1d6ea0ca'
    ),
    'checkpoints/best_score/ckpt-800.index': 'eb457eab5ff01a629649a12f6ddd5e43e4e2a6c1c21af6ba0bfd95ad2fc3bd35',
    'config.json': '782a091dfcdda36f92d9ce880dc27d5eb4e39473a0b898d6df628f91fdc12c06',
  },
  'mnist-best': {
    'checkpoints/best_nll/checkpoint': 'ff717a0a39c34735bd05d1a9d42f1c97e08cfd7028799cba01f46251e9f5aaf2',
    'checkpoints/best_nll/ckpt-2000.data-00000-of-00001': (
      'a008280b0037012320aafc028ee9cf4a7deea00db0f82831d2fc7620b5bf2476'
    ),
    'checkpoints/best_nll/ckpt-2000.index': '710ea53b6ca2d5e3bbf8457daf1912be643dd220bfab1244e7ed7ebe0ea5c5de',
    'config.json': '9f2286fb2b2e6ecf1205856a6da121a7e895c42dd15da5736cfeb8a0d1588dbb',
  },
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
    with error_named(folder):
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
    same = path.is_file() and path.stat().st_size == part.file_size
    # Whoever makes a file can give it any CRC-32.
    if not same or hashlib.sha256(path.read_bytes()).hexdigest() != _UNPACKED[name][part.filename]:
      raise UsageError(f'{path}: differs from the one of {workdir}, as if of another version; move {folder} away')
  expected = {folder / part.filename for part in content.infolist()}
  for path in sorted((folder / 'checkpoints').rglob('*')):
    if path not in expected and (path.is_symlink() or not path.is_dir()):
      raise UsageError(f'{path}: is not in {workdir}; move {folder} away')
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


def held_out_of(workdir: str | os.PathLike) -> np.ndarray | None:
  """Returns what `measure_held_out` found for `pretrained:NAME`, so that it needs no data; None for other runs."""
  name = os.fspath(workdir)
  return np.load(_FOLDER / f'{name.removeprefix(PREFIX)}.npy') if name.startswith(PREFIX) else None


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


def hashes(file: str | os.PathLike) -> dict[str, str]:
  """Returns the SHA-256 of each file in a packed run, for `_UNPACKED`."""
  with zipfile.ZipFile(file) as content:
    return {name: hashlib.sha256(content.read(name)).hexdigest() for name in content.namelist()}
