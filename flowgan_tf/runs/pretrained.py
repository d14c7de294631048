"""Trained flows that come with the package. Each is the folder of a run, packed in a zip file; see `packing`."""

import hashlib
import os
import pathlib
import tempfile
import zipfile

from flowgan_tf.errors import UsageError
from flowgan_tf.files import refusal_named

#: SHA-256 of the file of each flow, `flowgan_tf/pretrained/NAME.zip`.
PRETRAINED = {'mnist': '76029f5f6872a70d8d9f913b823252eafbea574d6e1c042bd2afa9caf4bb4a08'}

_FOLDER = pathlib.Path(__file__).parent.parent / 'pretrained'
_PREFIX = 'pretrained:'


def locate(workdir: str | os.PathLike) -> pathlib.Path:
  """Returns the path of a run. `pretrained:NAME` is unpacked into `runs/pretrained-NAME`, unless that exists."""
  if not os.fspath(workdir).startswith(_PREFIX):
    return pathlib.Path(workdir)
  name = os.fspath(workdir).removeprefix(_PREFIX)
  folder = pathlib.Path('runs', f'pretrained-{name}')
  if not folder.exists():
    with refusal_named(folder):
      folder.parent.mkdir(exist_ok=True)
      with tempfile.TemporaryDirectory(dir=folder.parent) as new:
        unpack(name, pathlib.Path(new, 'run'))
        os.rename(pathlib.Path(new, 'run'), folder)
  return folder


def unpack(name: str, folder: pathlib.Path) -> None:
  """Writes the run of a pretrained flow into a new folder."""
  if name not in PRETRAINED:
    raise UsageError(f'{_PREFIX}{name}: no such flow; expected {_PREFIX}{f" or {_PREFIX}".join(PRETRAINED)}')
  path = _FOLDER / f'{name}.zip'
  if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != PRETRAINED[name]:
    raise UsageError(f'{path}: is missing or damaged; install flowgan_tf again')
  with zipfile.ZipFile(path) as archive:
    archive.extractall(folder)
