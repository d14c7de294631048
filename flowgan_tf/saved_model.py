"""Exports a generator as a SavedModel, which works without this package."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import shutil

import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.flows import Generator
from flowgan_tf.flows.prior import tempered

__all__ = ['GeneratorModule', 'export']

_LOG = logging.getLogger(__name__)

# What TensorFlow writes into the folder of a SavedModel.
_FILES = {'assets', 'fingerprint.pb', 'saved_model.pb', 'variables'}


class GeneratorModule(tf.Module):
  """The functions of a SavedModel. A generator without a likelihood has only `sample` and `decode`.

  ```python
  model = tf.saved_model.load('runs/demo/export')      # flowgan_tf need not be installed
  images = model.sample(n=16, seed=0, temperature=1.0) # [16, height, width, channels]
  nats = model.log_prob(images)                        # [16]
  noise = model.encode(images)
  images = model.decode(noise)
  ```
  """

  def __init__(self, generator: Generator):
    """Traces the functions of `generator`; its weights are shared, not copied."""
    super().__init__(name='generator')
    # Only the variables are tracked: the generator's own objects mean nothing to a process without this package.
    self.weights = list(generator.variables)
    batch = tf.TensorSpec((None, *generator.event_shape), generator.dtype)

    @tf.function(
      input_signature=[
        tf.TensorSpec((), tf.int32, 'n'),
        tf.TensorSpec((), tf.int32, 'seed'),
        tf.TensorSpec((), generator.dtype, 'temperature'),
      ],
      autograph=False,
    )
    def sample(n, seed=0, temperature=1.0):
      prior = tempered(generator.distribution, temperature)
      return generator.decode(prior.sample(n, seed=tf.stack([seed, 0])))

    self.sample = sample
    function = functools.partial(tf.function, input_signature=[batch], autograph=False)
    self.decode = function(lambda noise: generator.decode(noise))
    if generator.has_density:
      self.log_prob = function(lambda images: generator.log_prob(images))
      self.encode = function(lambda images: generator.encode(images))


def export(generator: Generator, folder: str | os.PathLike) -> None:
  """Writes a SavedModel of `generator`, with a signature for each function, for TensorFlow Serving.

  Args:
    generator: The generator.
    folder: Folder of the SavedModel. An older SavedModel there is replaced once the new one is whole. If TensorFlow
      cannot load from that path, as it takes it for a pattern, a warning says so.

  Raises:
    UsageError: If the folder cannot be written, or is a folder of other files.
  """
  folder = pathlib.Path(os.path.realpath(folder))
  if folder.is_dir() and (others := {file.name for file in folder.iterdir()} - _FILES):
    raise UsageError(f'{folder}: holds {min(others)}, and the SavedModel cannot be written beside other files')
  module = GeneratorModule(generator)
  functions = {name: getattr(module, name, None) for name in ('sample', 'log_prob', 'encode', 'decode')}
  signatures = {name: function.get_concrete_function() for name, function in functions.items() if function}
  new, old = (folder.with_name(f'{folder.name}.{os.getpid()}.{age}') for age in ('new', 'old'))
  try:
    tf.saved_model.save(module, os.fspath(new), signatures=signatures)
    if folder.is_dir():
      folder.rename(old)
    new.rename(folder)  # Fails if it is a file.
  except (OSError, tf.errors.OpError) as error:
    raise UsageError(f'{folder}: the SavedModel cannot be written ({str(error).splitlines()[0]})') from error
  finally:
    for left in (new, old):
      shutil.rmtree(left, ignore_errors=True)
  if not tf.io.gfile.glob(os.path.join(folder, 'variables', 'variables.index')):
    _LOG.warning('%s: TensorFlow takes [ and \\ in a path for a pattern, and loads it only after it was moved.', folder)
