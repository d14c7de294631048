"""Exports a generator as a SavedModel, which works without this package."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import shutil
from collections.abc import Callable

import tensorflow as tf

from flowgan_tf.bijectors import clearing_caches
from flowgan_tf.errors import UsageError
from flowgan_tf.flows import Generator
from flowgan_tf.flows.prior import sample_noise, tempered

__all__ = ['export']

_LOG = logging.getLogger(__name__)

# What TensorFlow writes into the folder of a SavedModel.
_FILES = {'assets', 'fingerprint.pb', 'saved_model.pb', 'variables'}


@clearing_caches()
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
  signature it is an int. The temperature is a finite number of at least 0. A generator without a likelihood has only
  `sample` and `decode`.

  The functions of a flow with classes take `label`: an int for all images, or an int for each. Without a label,
  `sample` and `log_prob` use the mixture of the classes. Signatures take a vector of labels. Its length is 1 if all
  images share the label.

  ```python
  images = model.sample(n=16, label=3, seed=0, temperature=1.0)
  nats = model.log_prob(images, label=3)               # log p(x | y), [16]
  nats = model.class_log_probs(images)                 # log p(x, y), [16, classes]
  noise = model.encode(images, label=3)
  images = model.decode(noise, label=3)
  ```

  The functions of another conditional flow always need `condition`: floats of the flow's `condition_shape` for all
  images, or for each.

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
  concrete = (_trace_conditional if generator._is_conditional else _trace_plain)(module, generator)
  return module, {name: functions[0] for name, functions in concrete.items()}


def _trace_plain(module: tf.Module, generator: Generator) -> dict[str, list[Callable]]:
  batch = tf.TensorSpec((None, *generator.event_shape), generator.dtype)
  function = functools.partial(tf.function, input_signature=[batch], autograph=False)
  module.decode = function(lambda noise: generator.decode(noise))
  names = ['decode']
  if generator.has_density:
    module.log_prob = function(lambda images: generator.log_prob(images))
    module.encode = function(lambda images: generator.encode(images))
    names += ['log_prob', 'encode']

  def sample(n, seed=0, temperature=1.0):
    prior = tempered(generator.distribution, _checked_temperature(temperature))
    return module.decode(prior.sample(n, seed=_pair(seed)))

  module.sample = tf.function(sample, autograph=False)
  concrete = {name: [getattr(module, name).get_concrete_function()] for name in names}
  return {'sample': _trace_sample(module.sample, generator), **concrete}


def _trace_conditional(module: tf.Module, generator: Generator) -> dict[str, list[Callable]]:
  """Traces functions that take a condition for all images, or for each. Both kinds of call share one graph."""
  classes, shape = generator.classes, generator.condition_shape or ()
  name = 'condition' if classes is None else 'label'
  dtypes = (generator.dtype,) if classes is None else (tf.int32, tf.int64)  # NumPy's ints are int64.
  each, one = ([tf.TensorSpec(batch + shape, dtype, name) for dtype in dtypes] for batch in ((None,), ()))
  batch = functools.partial(tf.TensorSpec, (None, *generator.event_shape), generator.dtype)
  graph = functools.partial(tf.function, autograph=False)
  inner = functools.partial(graph, input_signature=[batch(), each[0]])
  log_prob_each = inner(lambda images, condition: generator.log_prob(images, condition=condition))
  encode_each = inner(lambda images, condition: generator.encode(images, condition=condition))
  decode_each = inner(lambda noise, condition: generator.decode(noise, condition=condition))

  def checked(condition):
    condition = tf.reshape(condition, (-1, *shape))
    return condition if classes is None else _checked_labels(condition, classes)

  def log_prob(images, condition):
    if condition is None:
      return tf.reduce_logsumexp(module.class_log_probs(images), axis=-1)
    return log_prob_each(images, checked(condition))

  def encode(images, condition):
    return encode_each(images, checked(condition))

  def decode(noise, condition):
    return decode_each(noise, checked(condition))

  def sample(n, condition, seed, temperature):
    condition = None if condition is None else checked(condition)
    counts, condition, seed = generator._condition_of_samples(n, condition, _pair(seed))
    noise = sample_noise(generator.distribution, counts[0], seed, _checked_temperature(temperature), condition)
    return decode_each(noise, condition)

  # The arguments have the names by which they are given.
  if classes is None:
    functions = {
      'sample': lambda n, condition, seed=0, temperature=1.0: sample(n, condition, seed, temperature),
      'decode': lambda noise, condition: decode(noise, condition),
      'log_prob': lambda images, condition: log_prob(images, condition),
      'encode': lambda images, condition: encode(images, condition),
    }
  else:
    functions = {
      'sample': lambda n, label=None, seed=0, temperature=1.0: sample(n, label, seed, temperature),
      'decode': lambda noise, label: decode(noise, label),
      'log_prob': lambda images, label=None: log_prob(images, label),
      'encode': lambda images, label: encode(images, label),
      'class_log_probs': lambda images: generator.class_log_probs(images),
    }
  # The signature of a function is its first graph.
  given = each + one
  or_none = given if classes is None else [*given, None]
  traced = {'decode': ('noise', given)}
  if generator.has_density:
    traced |= {'log_prob': ('images', or_none), 'encode': ('images', given)}
  for key in ('sample', *traced):
    setattr(module, key, graph(functions[key]))
  if generator.has_density and classes is not None:
    module.class_log_probs = graph(functions['class_log_probs'], input_signature=[batch('images')])
  concrete = {'sample': [c for condition in or_none for c in _trace_sample(module.sample, generator, condition)]}
  for key, (events, conditions) in traced.items():
    concrete[key] = [getattr(module, key).get_concrete_function(batch(events), condition) for condition in conditions]
  if generator.has_density and classes is not None:
    concrete['class_log_probs'] = [module.class_log_probs.get_concrete_function()]
  return concrete


def _checked_labels(labels: tf.Tensor, classes: int) -> tf.Tensor:
  exists = tf.reduce_all((labels >= 0) & (labels < classes))  # The one-hot vector of others would be zero.
  message = f'`label` must be ints from 0 to {classes - 1}. Got:'
  with tf.control_dependencies([tf.debugging.Assert(exists, [message, labels])]):
    return tf.cast(tf.identity(labels), tf.int32)  # A cast of int32 to int32 alone would not wait.


def _checked_temperature(temperature: tf.Tensor) -> tf.Tensor:
  valid = (temperature >= 0) & tf.math.is_finite(temperature)
  message = '`temperature` must be a finite number of at least 0. Got:'
  with tf.control_dependencies([tf.debugging.Assert(valid, [message, temperature])]):
    return tf.identity(temperature)


def _trace_sample(sample: Callable, generator: Generator, *condition: tf.TensorSpec | None) -> list[Callable]:
  """Traces `sample` for each form of a seed: an int, a pair in a tensor, and a pair of Python ints."""
  n, temperature = tf.TensorSpec((), tf.int32, 'n'), tf.TensorSpec((), generator.dtype, 'temperature')
  number = tf.TensorSpec((), tf.int32)
  seeds = tf.TensorSpec((), tf.int32, 'seed'), tf.TensorSpec((2,), tf.int32, 'seed'), (number, number)
  return [sample.get_concrete_function(n, *condition, seed, temperature) for seed in seeds]


def _pair(seed):
  pair = tf.convert_to_tensor(seed)
  return pair if pair.shape.rank else tf.stack([pair, 0])
