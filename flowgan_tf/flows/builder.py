"""What all generators have in common: their base class, the decorator of their builders, and checks of arguments.

A builder takes the shape of an image or a vector, and keywords with defaults, among them `dtype` and `name`. A wrong
argument raises a ValueError that names it in backticks. All keywords but `dtype` and `name` become settings of a
training.
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence, Sized
from typing import Self, TypeVar

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability.python.internal import prefer_static as ps
from tensorflow_probability.python.internal import tensor_util

from flowgan_tf.errors import UsageError, check, check_bool, check_choice, check_integer, check_integers, is_integer
from flowgan_tf.networks.adapter import HiddenFromKeras

# The largest sizes of a network: far above any model, and small enough that it can be built, or refused for memory.
MOST_UNITS = 65_536
MOST_LAYERS = 256

_DTYPES = ('float32', 'float64', 'mixed_bfloat16', 'mixed_float16')

# How a user turns grey levels into images.
DEQUANTIZE = '`flowgan_tf.data.dequantize` turns grey levels into such images'

T = TypeVar('T', bound='Generator')


class Generator(HiddenFromKeras):
  """Base of the generators that can be trained, sampled and exported: `Flow` and `ImplicitGenerator`.

  A generator may have conditions: labels of `classes`, or floats of a `condition_shape`.
  """

  has_density: bool  #: Whether the generator has `log_prob` and `encode`.
  _build: Callable[..., Self] | None = None  # Builds the generator again; None without a builder.
  _class_probs: tf.Variable | tf.Tensor | None
  _condition_shape: tuple[int, ...] | None

  def with_dtype(self, dtype: str) -> Self:
    """Copies the generator, with the same weights, in another dtype. All layers of the copy are trainable.

    Args:
      dtype: 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16', or a dtype of NumPy or TensorFlow.

    Raises:
      ValueError: If no builder, such as `nice`, made the generator.
    """
    if self._build is None:
      raise ValueError(f'`generator` must come from a function decorated with `builder`. Got: {self.name!r}.')
    other = self._build(dtype=dtype, name=self.name)
    for variable, source in zip(other.variables, self.variables, strict=True):
      variable.assign(tf.cast(source, variable.dtype))
    return other

  @property
  def classes(self) -> int | None:
    """The number of classes, or None for a generator without them."""
    return None if self._class_probs is None else self._class_probs.shape[0]

  @property
  def class_probs(self) -> tf.Variable | tf.Tensor | None:
    """The probabilities of the classes, `[classes]`; a training sets them to the shares of its labelled images."""
    return self._class_probs

  @property
  def condition_shape(self) -> tuple[int, ...] | None:
    """The shape of one condition, or None for a generator with classes or without conditions."""
    return self._condition_shape

  @property
  def _is_conditional(self):
    return self.classes is not None or self.condition_shape is not None

  def _set_condition(self, class_probs, condition_shape):
    """Keeps the kind of the conditions, from arguments of a constructor."""
    check('condition_shape', condition_shape, 'None with `class_probs`', class_probs is None or condition_shape is None)
    self._class_probs = probs = tensor_util.convert_nonref_to_tensor(class_probs)
    if probs is not None:
      holds = probs.dtype.is_floating and probs.shape.rank == 1
      check('class_probs', f'{probs.dtype.name} {probs.shape}', 'floats [classes]', holds)
      value = probs.numpy() if tf.executing_eagerly() else tf.get_static_value(probs)
      holds = value is None or (value.min() >= 0 and abs(value.sum() - 1) < 1e-3)
      check('class_probs', value, 'probabilities that sum to 1', holds)
    self._condition_shape = None if condition_shape is None else tuple(condition_shape)

  def _as_condition(self, condition):
    """Converts a condition, and refuses one of another dtype, shape or range.

    It also refuses None if the generator is conditional, and a condition if it is not.
    """
    given = condition is not None
    if given != self._is_conditional:
      expected = (
        'None, as {} is not conditional. Got: a condition' if given else 'given, as {} is conditional. Got: None'
      )
      raise UsageError(f'`condition` must be {expected.format(repr(self.name))}.', 'condition')
    if self.classes is not None:
      return as_indices('condition', condition, self.classes)
    if self.condition_shape is not None:
      # As for images: integers in a list are refused, too.
      found = condition if hasattr(condition, 'dtype') else tf.convert_to_tensor(condition)
      check_events('condition', found, tf.TensorShape(self.condition_shape))
      dtype = None if tf.is_tensor(condition) else self.dtype
      return tf.cast(tf.convert_to_tensor(condition, dtype), self.dtype)
    return None

  def _seen_by_networks(self, condition):
    """Returns a condition as networks see it, labels as one-hot vectors."""
    return condition if self.classes is None else tf.one_hot(condition, self.classes, dtype=self.dtype)

  def _with_condition(self, batch, condition):
    """Broadcasts a batch shape with the condition's; returns the result, and a condition of that batch shape."""
    event_shape = self.condition_shape or ()
    own = ps.shape(condition)[: ps.rank(condition) - len(event_shape)]
    try:
      together = ps.broadcast_shape(batch, own)
    except ValueError:
      expected, found = tf.TensorShape(batch), tf.TensorShape(own)
      raise UsageError(
        f'`condition` must have a batch shape that suits {expected}. Got: {found}.', 'condition'
      ) from None
    return together, _broadcast_to(condition, ps.concat([together, event_shape], axis=0))

  def _broadcast(self, events, event_shape, condition):
    """Checks a condition; gives it and events one batch shape."""
    condition = self._as_condition(condition)
    if condition is None:
      return events, None
    split = ps.rank(events) - event_shape.rank
    batch, condition = self._with_condition(ps.shape(events)[:split], condition)
    return _broadcast_to(events, ps.concat([batch, ps.shape(events)[split:]], axis=0)), condition

  def _condition_of_samples(self, sample_shape, condition, seed):
    """Returns the shape of samples, a condition for each, and the seed of the rest.

    The condition is broadcast with `sample_shape`. If there is none, classes are drawn by their probabilities.
    """
    shape = ps.reshape(ps.convert_to_shape_tensor(sample_shape, dtype=tf.int32), [-1])
    if condition is None and self.classes is not None:
      seed, class_seed = tfp.random.split_seed(seed, salt='classes')
      condition = tfp.distributions.Categorical(probs=self.class_probs).sample(shape, seed=class_seed)
    return *self._with_condition(shape, self._as_condition(condition)), seed


def builder(build: Callable[..., T]) -> Callable[..., T]:
  """Decorates a function that builds generators: checks `image_shape` and `dtype`, and makes `with_dtype` work.

  The function receives `dtype` as a name, even if its caller gives a dtype of NumPy or TensorFlow. A function whose
  first argument is `vector_shape` builds flows of vectors: its caller gives `d` or `(d,)`, and it receives `(d,)`.

  ```python
  @builder
  def toy(image_shape, *, couplings=2, dtype='float32', name='toy'):
    ...
    return Flow(prior, bijector, name)
  ```

  Raises:
    ValueError: When the function is called, if `image_shape` is not `(height, width, channels)`, `vector_shape` is not
      a number of at least 2, or `dtype` is not 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16'.
  """
  # A file that holds all arguments describes the same generator even if a later version has other defaults. It can hold
  # only plain values.
  signature = inspect.signature(build)
  keywords = signature.parameters.values()
  takes = {k.name for k in keywords} >= {'dtype', 'name'} or any(k.kind == k.VAR_KEYWORD for k in keywords)
  check('build', build, 'a function with the keywords `dtype` and `name`', takes)
  plain = str | int | float | list | tuple | None
  defaults = {keyword.name: keyword.default for keyword in keywords if isinstance(keyword.default, plain)}
  first = next(iter(signature.parameters))
  of_vectors = first == 'vector_shape'

  @functools.wraps(build)
  def checked(*positional: int | Sequence[int], **arguments) -> T:
    signature.bind(*positional, **arguments)  # Raises a TypeError that names an argument.
    arguments = {name: int(value) if is_integer(value) else value for name, value in arguments.items()}
    [shape] = positional or [arguments.pop(first)]
    if of_vectors:
      shape = (shape,) if is_integer(shape) else shape
      is_number = isinstance(shape, Sized) and len(shape) == 1 and is_integer(shape[0]) and shape[0] >= 2
      check('vector_shape', shape, 'a number of at least 2 columns d, or (d,)', is_number)
      shape = (int(shape[0]),)
    else:
      check('image_shape', shape, '(height, width, channels)', isinstance(shape, Sized) and len(shape) == 3)
      check_integers('image_shape', tuple(shape))
    arguments = {**defaults, **arguments}
    name = arguments.get('name', 'flow')
    expected = 'letters, digits and underscores that do not begin with a digit'
    check('name', name, expected, isinstance(name, str) and name.isascii() and name.isidentifier())
    if 'dtype' in arguments:
      arguments['dtype'] = _policy(arguments['dtype'])
    generator = build(shape, **arguments)
    generator._build = functools.partial(checked, shape, **arguments)
    return generator

  return checked


def network_condition(
  classes: int | None, condition_shape: Sequence[int] | None, condition_networks: bool = True, components: int = 1
) -> tuple[int, ...] | None:
  """Returns the shape of the condition that the networks of a flow see, `(classes,)` for labels; None without one.

  Raises:
    UsageError: If the arguments of the builder, which are given, do not fit each other.
  """
  check_bool('condition_networks', condition_networks)
  check('condition_shape', condition_shape, 'None with `classes`', classes is None or condition_shape is None)
  if classes is not None:
    check_integer('classes', classes, 2, MOST_UNITS)
    expected = 'True if the prior has a single component, because nothing else tells the classes apart'
    check('condition_networks', condition_networks, expected, condition_networks or components > 1)
    return (classes,) if condition_networks else None
  check('condition_networks', condition_networks, 'True without `classes`', condition_networks)
  if condition_shape is None:
    return None
  check_integers('condition_shape', condition_shape, MOST_UNITS)
  held = len(condition_shape) in (1, 3)
  check('condition_shape', tuple(condition_shape), '(d,) for vectors, or (height, width, channels) for images', held)
  return tuple(condition_shape)


def uniform_class_probs(classes: int | None, dtype: tf.DType) -> tf.Variable | None:
  """Returns the probabilities of the classes of a new flow."""
  if classes is None:
    return None
  return tf.Variable(tf.fill([classes], tf.constant(1 / classes, dtype)), trainable=False, name='class_probs')


def _policy(dtype: str | tf.DType | np.dtype | type) -> str:
  # TensorFlow accepts more: it takes 1 for float32, and Python's float, too, which NumPy takes for float64.
  is_dtype = isinstance(dtype, tf.DType | np.dtype) or (isinstance(dtype, type) and issubclass(dtype, np.generic))
  policy = tf.as_dtype(dtype).name if is_dtype else dtype
  check_choice('dtype', policy, _DTYPES)
  return policy


def check_events(
  name: str, value: tf.Tensor | np.ndarray, event_shape: tf.TensorShape, batch: str = '...', dtype: tf.DType = None
) -> None:
  """Checks for a batch of images or of their noise, which TFP would cast and broadcast silently.

  `batch` is '...' for any number of batch dimensions, or the name of the only one. Without a `dtype`, any
  floating-point type is accepted.
  """
  given, shape = tf.as_dtype(value.dtype), tf.TensorShape(value.shape)
  suits = given.is_floating if dtype is None else given == dtype
  if suits and shape.rank is not None and event_shape.rank is not None:
    ndims = shape.rank - event_shape.rank
    suits = (ndims >= 0 if batch == '...' else ndims == 1) and shape[ndims:].is_compatible_with(event_shape)
  if not suits:
    expected = f'{dtype.name if dtype else "floats"} of shape [{", ".join([batch, *map(str, event_shape)])}]'
    is_image = event_shape.rank == 3 and name in ('images', 'value')
    hint = f'; {DEQUANTIZE}' if given.is_integer and is_image else ''
    raise UsageError(f'`{name}` must be {expected}{hint}. Got: {given.name} of shape {shape}.', name)


def as_indices(name: str, value: tf.Tensor, count: int) -> tf.Tensor:
  """Converts ints from 0 to `count - 1` to int32, and refuses others; a compiled function sees only their dtype."""
  indices = tf.convert_to_tensor(value)
  known = tf.get_static_value(indices) if indices.dtype.is_integer else None
  wrong = [] if known is None else np.setdiff1d(known, np.arange(count))
  if len(wrong) or not indices.dtype.is_integer:
    found = ', '.join(map(str, wrong)) or indices.dtype.name
    raise UsageError(f'`{name}` must be ints from 0 to {count - 1}. Got: {found}.', name)
  return tf.cast(indices, tf.int32)


def _broadcast_to(tensor, shape):
  """Broadcasts a tensor, and returns one of this shape as it is, so that TFP's cache knows it again."""
  known = tf.get_static_value(shape)
  return tensor if known is not None and tensor.shape == known else tf.broadcast_to(tensor, shape)


def check_values(images: np.ndarray) -> None:
  """Checks for values in [0, 1]; a UsageError names the smallest and the largest value."""
  low, high = float(np.min(images, initial=math.inf)), float(np.max(images, initial=-math.inf))
  if not (low >= 0 and high <= 1):
    raise UsageError(f'`images` must have values in [0, 1]; {DEQUANTIZE}. Got: {low:g} to {high:g}.', 'images')
