"""Flipped bits and cut-off files: damaged data are rejected in one line, or else they are the same data."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import load
from flowgan_tf.programs.recipes import choose


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
  """A bit is flipped in two of three cases, a byte is replaced or the end is lost in the others."""
  at = int(rng.integers(len(content)))
  kind = rng.integers(6)
  if kind == 0:
    return content[:at]
  changed = bytearray(content)
  changed[at] = rng.integers(256) if kind == 1 else content[at] ^ (1 << rng.integers(8))
  return bytes(changed)


def write_npz(folder: pathlib.Path) -> list[pathlib.Path]:
  """Two files as NumPy writes them, with and without compression; the parts of a file that matter most are small."""
  rng, paths = np.random.default_rng(0), []
  for save in (np.savez, np.savez_compressed):
    paths.append(folder / f'{save.__name__}.npz')
    save(paths[-1], images=rng.integers(0, 256, (12, 4, 4), np.uint8), labels=np.arange(12) % 3)
  return paths


def write_png(folder: pathlib.Path) -> list[pathlib.Path]:
  """Grey images, colours, a palette and an orientation; each is in a folder with two copies of itself."""
  rng, exif, paths = np.random.default_rng(0), Image.Exif(), []
  exif[0x0112] = 6
  colours = Image.fromarray(rng.integers(0, 256, (5, 4, 3), np.uint8))
  images = {'L': colours.convert('L'), 'RGB': colours, 'P': colours.quantize(8), '1': colours.convert('1')}
  for name, image in images.items():
    (folder / name).mkdir()
    for i in range(3):
      image.save(folder / name / f'{i}.png', exif=exif)
    paths.append(folder / name / '1.png')
  return paths


@pytest.mark.parametrize(
  ('case', 'write'),
  [('an .npz file with a flipped bit or cut off', write_npz), ('a PNG file with a flipped bit or cut off', write_png)],
)
def test_damaged_data_are_rejected_or_the_same(tmp_path, faults, case, write):
  rng, source = np.random.default_rng(2), lambda path: path.parent if path.suffix == '.png' else path
  files = {path: (path.read_bytes(), load(str(source(path))).fingerprint) for path in write(tmp_path)}
  for trial in faults.trials(case, long=5000, short=40):
    path, (content, fingerprint) = list(files.items())[trial % len(files)]
    path.write_bytes(damaged(content, rng))
    choose(str(source(path)))  # raises nothing
    try:
      assert load(str(source(path))).fingerprint == fingerprint, path
    except UsageError as error:
      assert path.name in str(error) and '\n' not in str(error)
    path.write_bytes(content)
