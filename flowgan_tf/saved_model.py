"""Exports a generator as a SavedModel, which works without this package."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import shutil
from collections.abc import Callable

import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.flows import Generator
from flowgan_tf.flows.prior import tempered

__all__ = ['export']

_LOG = logging.getLogger(__name__)

# What TensorFlow writes into the folder of a SavedModel.
_FILES = {'assets', 'fingerprint.pb', 'saved_model.pb', 'variables'}


def export(generator: Generator, folder: str | os.PathLike) -> None:
  """Writes a SavedModel of `generator`, with a signature for each function, for TensorFlow Serving.

  ```python
  model = tf.saved_model.load('runs/demo/export')      # flowgan_tf need not be installed
  images = model.sample(n=16, seed=0, temperature=1.0) # [16, height, width, channels]
  nats = model.log_prob(images)                        # [16]
  noise = model.encode(images)
  images = model.decode(noise)
  ```

  The seed is stateless: a pair of ints, as for `Flow.sample`, or an int, which stands for the pair `(seed, 0)`; in the
  signature it is an int. A generator without a likelihood has only `sample` and `decode`.

  Args:
    generator: The generator.
    folder: Folder of the SavedModel. An older SavedModel there is replaced once the new one is whole. If TensorFlow
      cannot load from that path, because it takes the path for a pattern, a warning says so.

  Raises:
    UsageError: If the folder cannot be written, or holds other files.
  """
  folder = pathlib.Path(os.path.realpath(folder))
  if folder.is_dir() and (others := {file.name for file in folder.iterdir()} - _FILES):
    raise UsageError(f'{folder}: holds {min(others)}, and the SavedModel cannot be written beside other files')
  module, signatures = _trace(generator)
  new, old = (folder.with_name(f'{folder.name}.{os.getpid()}.{age}') for age in ('new', 'old'))
  try:
    tf.saved_model.save(module, os.fspath(new), signatures=signatures)
    if folder.is_dir():
      folder.rename(old)
    new.rename(folder)  # Fails if it is a file.
  except (OSError, tf.errors.OpError) as error:
    raise UsageError(f'{folder}: the SavedModel cannot be written ({str(error).splitlines()[0]})') from error
  finally:
    if old.exists() and not folder.exists():  # The second renaming failed.
      old.rename(folder)
    for left in (new, old):
      shutil.rmtree(left, ignore_errors=True)
  if not tf.io.gfile.glob(os.path.join(folder, 'variables', 'variables.index')):
    _LOG.warning('%s: TensorFlow takes [ and \\ in a path for a pattern; move the folder before you load it.', folder)


def _trace(generator: Generator) -> tuple[tf.Module, dict[str, Callable]]:
  """Returns a module with the functions of the SavedModel, and the concrete function of each signature."""
  module = tf.Module(name='generator')
  # Only the variables are tracked: the generator's own objects mean nothing to a process without this package.
  module.weights = list(generator.variables)
  batch = tf.TensorSpec((None, *generator.event_shape), generator.dtype)
  function = functools.partial(tf.function, input_signature=[batch], autograph=False)
  module.decode = function(lambda noise: generator.decode(noise))
  names = ['decode']
  if generator.has_density:
    module.log_prob = function(lambda images: generator.log_prob(images))
    module.encode = function(lambda images: generator.encode(images))
    names += ['log_prob', 'encode']

  def sample(n, seed=0, temperature=1.0):
    pair = tf.convert_to_tensor(seed)
    pair = pair if pair.shape.rank else tf.stack([pair, 0])
    return module.decode(tempered(generator.distribution, temperature).sample(n, seed=pair))

  module.sample = tf.function(sample, autograph=False)
  n, temperature = tf.TensorSpec((), tf.int32, 'n'), tf.TensorSpec((), generator.dtype, 'temperature')
  number = tf.TensorSpec((), tf.int32)
  of_int, *_ = [
    module.sample.get_concrete_function(n, seed, temperature)
    # An int, a pair in a tensor, and a pair of Python ints.
    for seed in (tf.TensorSpec((), tf.int32, 'seed'), tf.TensorSpec((2,), tf.int32, 'seed'), (number, number))
  ]
  return module, {'sample': of_int, **{name: getattr(module, name).get_concrete_function() for name in names}}
