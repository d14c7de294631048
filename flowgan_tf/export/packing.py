"""Packs a run into a small file, as the pretrained flows of the package are.

python -m flowgan_tf.export.packing RUN FILE.zip [CHECKPOINT]
"""

import hashlib
import os
import pathlib
import re
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import write_atomically
from flowgan_tf.flows import MixturePrior
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import PATHS, run_identity
from flowgan_tf.runs.folder import read_description, write_description
from flowgan_tf.runs.pretrained import hashes
from flowgan_tf.runs.run import load_run

_STEPS = 48  # of the grid, in the root mean square of weights
_GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH'  # the tensor of a checkpoint that says which object has which variable


def pack(workdir: str | os.PathLike, file: str | os.PathLike, checkpoint: str | None = None) -> str:
  """Writes one checkpoint of a run into a zip file, with rounded weights, and returns the file's SHA-256.

  Arrays of two or more dimensions, such as matrices and filters, are rounded to multiples of a power of two that is
  about 1/48 of their root mean square. Vectors, and all numbers of the prior, are rounded to float16. The NLL of
  `pretrained:mnist-best` rose by 0.07 nats.

  The file holds the folder of a run without the state of its training. Unpacked, all programs but `bin/train` take it.
  It leaves out the paths of this machine, but keeps the names of the data and of the run that the training started
  from. Statistics of the data, such as the mean of each column of a table, keep their precision. The same checkpoint
  always gives the same bytes, with the same versions of TensorFlow and Python.

  Args:
    workdir: Folder of the run.
    file: Path of the zip file.
    checkpoint: Name of the checkpoint, as in `load_run`.

  Raises:
    UsageError: If the run cannot be read, a weight is not finite or too large for float16, or the file cannot be
      written.
  """
  run = load_run(workdir, checkpoint)
  description = read_description(run.workdir)
  assert description is not None
  config, init = run.config, description.init
  config.update(_without_paths(config))
  if init:
    start = init.get('config')
    init = init | {'run': config.init_from, 'config': start and start | _without_paths(start)}
  prior = run.generator.distribution
  of_prior = [*prior.trainable_variables, *([prior.prototypes] if isinstance(prior, MixturePrior) else [])]
  references = {variable.ref() for variable in of_prior}
  for variable in [*run.generator.trainable_variables, *of_prior]:
    rounded = _rounded(variable.numpy(), to_grid=variable.shape.rank > 1 and variable.ref() not in references)
    if not np.isfinite(rounded).all():
      raise UsageError(f'{workdir}: a value of {variable.name} is not finite or too large for float16')
    variable.assign(rounded)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    write_description(folder, description._replace(config=config, init=init, plugins=None, commands=None), own=False)
    state = tf.train.Checkpoint(ema=run.generator, step=tf.Variable(run.step, dtype=tf.int64))
    Checkpoints(folder, state, run_identity(config, run.fingerprint)).save(run.checkpoint)
    _forget_process(folder / 'checkpoints' / run.checkpoint, run.step)
    packed = folder / 'run.zip'
    with zipfile.ZipFile(packed, 'w') as archive:
      for path in sorted(folder.rglob('*')):
        if path.is_file() and path != packed:
          file_in_zip = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # of the year 1980
          file_in_zip.external_attr = 0o644 << 16
          archive.writestr(file_in_zip, path.read_bytes(), zipfile.ZIP_BZIP2, compresslevel=9)
    content = packed.read_bytes()
  write_atomically(pathlib.Path(file), content)
  return hashlib.sha256(content).hexdigest()


def _forget_process(folder: pathlib.Path, step: int) -> None:
  """Removes what a checkpoint says of the process that wrote it: the time, and names of variables. No restore needs it.

  The names have numbers that count the layers that the process has made before.
  """
  listing = folder / 'checkpoint'
  listing.write_text(re.sub('.*timestamp.*\n', '', listing.read_text()))
  prefix = str(folder / f'ckpt-{step}')
  reader = tf.train.load_checkpoint(prefix)
  tensors = {name: reader.get_tensor(name) for name in sorted(reader.get_variable_to_shape_map())}
  graph = TrackableObjectGraph.FromString(tensors[_GRAPH])
  for node in graph.nodes:
    for attribute in node.attributes:
      attribute.full_name = ''
  tensors[_GRAPH] = graph.SerializeToString(deterministic=True)
  tf.raw_ops.SaveV2(
    prefix=prefix, tensor_names=[*tensors], shape_and_slices=[''] * len(tensors), tensors=[*tensors.values()]
  )


def _rounded(weights: np.ndarray, to_grid: bool) -> np.ndarray:
  """Returns weights that take few bytes: on a grid of few numbers, which end in zeros, or in half precision."""
  size = np.sqrt(np.mean(np.square(weights, dtype=np.float64)))
  if not to_grid or size == 0:
    with np.errstate(over='ignore'):
      return weights.astype(np.float16).astype(weights.dtype)
  step = np.exp2(np.rint(np.log2(size / _STEPS)))
  return (np.rint(weights / step) * step).astype(weights.dtype)


def _without_paths(settings: Mapping[str, Any]) -> dict[str, str]:
  def without(folder, path):
    # A name of TFDS may have a slash, and a run may have started from a pretrained flow.
    return os.path.join(folder, os.path.basename(path.rstrip('/'))) if os.path.isabs(path) else path

  kept = {'dataset': without('', settings['dataset']), 'init_from': without('runs', settings.get('init_from') or '')}
  return dict.fromkeys(PATHS, '') | kept


if __name__ == '__main__':
  try:
    if len(sys.argv) not in (3, 4):
      raise UsageError('expected RUN FILE.zip and perhaps CHECKPOINT')
    print(pack(*sys.argv[1:]))
    print(*(f'{sha256} {name}' for name, sha256 in hashes(sys.argv[2]).items()), sep='\n')
  except UsageError as error:
    print(f'packing: {error}', file=sys.stderr)
    sys.exit(2)
