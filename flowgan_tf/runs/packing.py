"""Packs a run into a small file, as the pretrained flows of the package are.

python -m flowgan_tf.runs.packing RUN FILE.zip CHECKPOINT
"""

import hashlib
import os
import pathlib
import sys
import tempfile
import zipfile

import tensorflow as tf

from flowgan_tf.files import write_atomically
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import run_identity
from flowgan_tf.runs.folder import read_description, write_description
from flowgan_tf.runs.run import load_run

_PATHS = ('data_dir', 'cache_dir', 'inception_weights', 'init_from')


def pack(workdir: str | os.PathLike, file: str | os.PathLike, checkpoint: str | None = None) -> str:
  """Writes one checkpoint of a run into a zip file, with weights rounded to float16, and returns the file's SHA-256.

  The file holds the folder of a run without the state of its training. Unpacked, all programs but `bin/train` take it.
  Paths of this machine are left out.

  Args:
    workdir: Folder of the run.
    file: Path of the zip file.
    checkpoint: Name of the checkpoint, as in `load_run`.

  Raises:
    UsageError: If the run cannot be read, or the file cannot be written.
  """
  run, description = load_run(workdir, checkpoint), read_description(pathlib.Path(workdir))
  config, init = run.config, description.init
  settings = dict.fromkeys(_PATHS, '') | {'dataset': pathlib.Path(config.dataset).name}
  config.update(settings)
  if init:
    init = init | {'run': f'runs/{pathlib.Path(init["run"]).name}', 'config': init['config'] | settings}
  for variable in run.generator.variables:
    if variable.dtype.is_floating:
      variable.assign(tf.cast(tf.cast(variable, tf.float16), variable.dtype))
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    write_description(folder, description._replace(config=config, init=init))
    state = tf.train.Checkpoint(ema=run.generator, step=tf.Variable(run.step, dtype=tf.int64))
    Checkpoints(folder, state, run_identity(config, run.fingerprint)).save(run.checkpoint)
    packed = folder / 'run.zip'
    with zipfile.ZipFile(packed, 'w', zipfile.ZIP_BZIP2, compresslevel=9) as archive:
      for path in sorted(folder.rglob('*')):
        if path.is_file() and path != packed:
          archive.write(path, path.relative_to(folder))
    content = packed.read_bytes()
  write_atomically(pathlib.Path(file), content)
  return hashlib.sha256(content).hexdigest()


if __name__ == '__main__':
  print(pack(*sys.argv[1:]))
