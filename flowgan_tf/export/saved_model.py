"""Exports a generator as a SavedModel, which works without this package."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

# Private to TensorFlow, which would trace all functions again while it saves them: what is traced elsewhere does not
# count there.
from tensorflow.python.saved_model import save_context

from flowgan_tf.base.errors import LARGEST_TEMPERATURE, UsageError, check
from flowgan_tf.base.files import remove_left_behind
from flowgan_tf.bijectors import clearing_caches
from flowgan_tf.flows import Generator

__all__ = ['write_saved_model']

_LOG = logging.getLogger(__name__)

# What TensorFlow writes into the folder of a SavedModel.
_FILES = {'assets', 'fingerprint.pb', 'saved_model.pb', 'variables'}


@clearing_caches()
def write_saved_model(generator: Generator, folder: str | os.PathLike) -> None:
  """Writes a SavedModel of `generator`, with a signature for each function, for TensorFlow Serving.

  ```python
  model = tf.saved_model.load('runs/demo/export')      # flowgan_tf need not be installed
  images = model.sample(n=16, seed=0, temperature=1.0) # [16, height, width, channels]
  nats = model.log_prob(images)                        # [16]
  noise = model.encode(images)
  images = model.decode(noise)
  ```

  The seed is stateless: a pair of ints, as for `Flow.sample`, or an int, which stands for the pair `(seed, 0)`; in the
  signature it is an int. The temperature is a number from 0 to 1e6. Turn NumPy's numbers into Python's, as in `int(n)`
  and `float(temperature)`. A generator without a likelihood has only `sample` and `decode`.

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

  If the classes have names, `model.class_names` holds them, texts `[classes]` in the order of the labels:
  `[name.decode() for name in model.class_names.numpy()]`.

  The functions of another conditional flow always need `condition`: floats of the flow's `condition_shape` for all
  images, or for each.

  Args:
    generator: The generator.
    folder: Folder of the SavedModel. An older SavedModel there is replaced once the new one is whole. If TensorFlow
      cannot load from that path, because it takes the path for a pattern, a warning says so.

  Raises:
    UsageError: If the folder cannot be written, or holds other files; or if `generator` is not a generator.
  """
  expected = 'a generator, such as `model.flow` of a `FlowModel`; conditions are arguments of its functions'
  check('generator', type(generator).__name__, expected, isinstance(generator, Generator))
  folder = pathlib.Path(os.path.realpath(folder))
  if folder.is_dir() and (others := {file.name for file in folder.iterdir()} - _FILES):
    raise UsageError(f'{folder}: holds {min(others)}, and the SavedModel cannot be written beside other files')
  with save_context.save_context(tf.saved_model.SaveOptions()):
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
  remove_left_behind(folder.parent, re.escape(folder.name) + r'\.(\d{1,9})\.(?:new|old)')
  if not tf.io.gfile.glob(os.path.join(folder, 'variables', 'variables.index')):
    _LOG.warning('%s: TensorFlow treats [ and \\ in a path as a pattern; move the folder before you load it.', folder)


def _trace(generator: Generator) -> tuple[tf.Module, dict[str, Callable]]:
  """Returns a module with the functions of the SavedModel, and the concrete function of each signature.

  What a generator is given is an argument of them, for all images or for each. TensorFlow traces each form of a call.
  Therefore the forms only convert arguments, and call graphs that they share.
  """
  module, graph, signatures = tf.Module(name='generator'), functools.partial(tf.function, autograph=False), {}
  # Only the variables are tracked: the generator's own objects mean nothing to a process without this package.
  module.weights = list(generator.variables)
  if generator.class_names:
    module.class_names = tf.Variable(list(generator.class_names), trainable=False, name='class_names')
  names, vector, forms, as_vector, checked = _argument(generator)

  def given_for(batch, *c):
    return generator.given(checked(tf.shape(batch)[0], *c))

  def shared(function, *specs):
    return graph(function).get_concrete_function(*specs)

  def trace(name, function, parameters, calls, **defaults):
    setattr(module, name, graph(_named(function, parameters, defaults)))
    # The signature of a function is its first graph.
    signatures[name], *_ = [getattr(module, name).get_concrete_function(*call) for call in calls]

  forms_or_not = [*forms, [None]] if generator.classes else forms
  noise, images = (
    tf.TensorSpec((None, *shape), generator.dtype, name)
    for name, shape in (('noise', generator.distribution.event_shape), ('images', generator.event_shape))
  )
  decode = shared(lambda z, *c: given_for(z, *c).decode(z), noise, *vector)
  trace('decode', lambda z, *c: decode(z, *as_vector(*c)), ['noise', *names], [(noise, *c) for c in forms])
  if generator.has_density:
    encode = shared(lambda x, *c: given_for(x, *c).encode(x), images, *vector)
    trace('encode', lambda x, *c: encode(x, *as_vector(*c)), ['images', *names], [(images, *c) for c in forms])
    density = shared(lambda x, *c: given_for(x, *c).log_prob(x), images, *vector)
    if generator.classes:
      joint = shared(generator.class_log_probs, images)
      trace('class_log_probs', joint, ['images'], [(images,)])

    def log_prob(x, *c):
      conditions = as_vector(*c)
      return generator._log_prob_of_mixture(joint(x)) if names and not conditions else density(x, *conditions)

    trace('log_prob', log_prob, ['images', *names], [(images, *c) for c in forms_or_not], label=None)

  def draw(n, seed, temperature, *conditions):
    n = tf.maximum(_checked('n', n, 'an integer of at least 0', n >= 0), 0)  # See `_checked_count`.
    shape, condition, seed = generator._condition_of_samples(n, checked(n, *conditions), seed)
    prior = generator.given(condition)
    return decode(prior.sample_noise(shape[0], seed, _checked_temperature(temperature)), *as_vector(condition))

  def sample(n, *others):
    *conditions, seed, temperature = others
    conditions = as_vector(*conditions)
    return drawn[len(conditions)](n, _pair(seed), temperature, *conditions)

  number, pair = (tf.TensorSpec(shape, tf.int32, 'seed') for shape in ((), (2,)))
  n, temperature = tf.TensorSpec((), tf.int32, 'n'), tf.TensorSpec((), generator.dtype, 'temperature')
  drawn = {len(v): shared(draw, n, pair, temperature, *v) for v in ([vector, []] if generator.classes else [vector])}
  # An int, a pair in a tensor, and a pair of Python ints.
  unnamed = tf.TensorSpec((), tf.int32)
  calls = [(n, *c, seed, temperature) for c in forms_or_not for seed in (number, pair, (unnamed, unnamed))]
  trace('sample', sample, ['n', *names, 'seed', 'temperature'], calls, label=None, seed=0, temperature=1.0)
  return module, signatures


def _argument(generator: Generator) -> tuple[list[str], list[tf.TensorSpec], list[list], Callable, Callable]:
  """Returns what concerns the argument for what a generator is given, if there is one.

  The first three are its name, the vector that the graphs take, one for each image or one for all, and the forms in
  which a call has it. The others turn a form into the vector, and the vector into a condition, which they check; that
  check also takes the number of images.
  """
  classes, shape = generator.classes, generator.condition_shape
  if classes is not None:
    # NumPy's ints are int64.
    forms = [[tf.TensorSpec(batch, dtype, 'label')] for batch in ((None,), ()) for dtype in (tf.int32, tf.int64)]
    name, dtype, shape, check = 'label', tf.int64, (), functools.partial(_checked_labels, classes=classes)
  elif shape is not None:
    name, dtype, check = 'condition', generator.dtype, tf.identity
    forms = [[tf.TensorSpec((*batch, *shape), dtype, name)] for batch in ((None,), ())]
  else:
    return [], [], [[]], lambda *_: [], lambda _: None

  def as_vector(condition):
    return [] if condition is None else [tf.cast(tf.reshape(condition, (-1, *shape)), dtype)]

  def checked(n, conditions=None):
    return None if conditions is None else check(_checked_count(name, conditions, n))

  return [name], [tf.TensorSpec((None, *shape), dtype, name)], forms, as_vector, checked


def _named(function: Callable, names: Sequence[str], defaults: Mapping[str, object]) -> Callable:
  """Returns a function with parameters of these names, by which TensorFlow saves them."""
  kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
  signature = inspect.Signature([inspect.Parameter(name, kind, default=defaults.get(name, empty)) for name in names])

  def named(*args, **kwargs):
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return function(*bound.arguments.values())

  vars(named)['__signature__'] = signature
  return named


def _checked_count(name: str, conditions: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
  found = tf.shape(conditions)[0]
  suits = (found == n) | (found == 1) | (n == 1)
  conditions = _checked(name, conditions, 'one for all images, or one for each', suits, found, 'for', n, 'images')
  # TensorFlow infers shapes before it runs the check, and must not fail at a wrong count in its own words.
  padded = tf.pad(conditions, [[0, 1]] + [[0, 0]] * (conditions.shape.rank - 1))
  return padded[: tf.where(suits, found, 1)]


def _checked_labels(labels: tf.Tensor, classes: int) -> tf.Tensor:
  exists = tf.reduce_all((labels >= 0) & (labels < classes))  # The one-hot vector of others would be zero.
  return tf.cast(_checked('label', labels, f'ints from 0 to {classes - 1}', exists), tf.int32)


def _checked_temperature(temperature: tf.Tensor) -> tf.Tensor:
  valid = (temperature >= 0) & (temperature <= LARGEST_TEMPERATURE)
  return _checked('temperature', temperature, f'a number from 0 to {LARGEST_TEMPERATURE:g}', valid)


def _checked(name: str, value: tf.Tensor, expected: str, holds: tf.Tensor, *found: str | tf.Tensor) -> tf.Tensor:
  """Returns a tensor, and fails when the function runs and `holds` is false; what was found is the value by default."""
  # `tf.debugging.Assert` asks within a condition, of which TensorFlow would speak at each call in a user's process.
  data = [f'`{name}` must be {expected}. Got:', *(found or [value])]
  said = tf.raw_ops.Assert(condition=holds, data=data, summarize=3)
  with tf.control_dependencies([said]):
    return tf.identity(value)  # A cast of int32 to int32, for instance, would not wait.


def _pair(seed):
  pair = tf.convert_to_tensor(seed)
  return pair if pair.shape.rank else tf.stack([pair, 0])
