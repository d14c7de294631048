"""The base class of all generators: conditions, and copies in another dtype."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.flows.checks import as_indices, check_events
from flowgan_tf.flows.classes import as_class_names, as_label
from flowgan_tf.flows.initialization import InitialData
from flowgan_tf.flows.prior import label_keyword, tempered
from flowgan_tf.flows.tensors import as_shape, broadcast_batch, broadcast_shape, divided_shape, variable_or_tensor
from flowgan_tf.flows.traits import Traits
from flowgan_tf.networks.adapter import HiddenFromKeras


class Generator(HiddenFromKeras):
  """Base of the generators that can be trained, sampled and exported: `Flow` and `ImplicitGenerator`.

  A generator may have conditions: labels of `classes`, or floats of a `condition_shape`.
  """

  has_density: bool  #: Whether the generator has `log_prob` and `encode`.
  traits: Traits = Traits()  #: What its builder says of it.
  _build: Callable[..., Self] | None = None  # Builds the generator again; None without a builder.
  _class_names: tuple[str, ...] | None = None
  condition_check: Callable[[tf.Tensor], None] | None = None  #: Checks the numbers of conditions; a run sets it.
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
    other.class_names, other.condition_check = self.class_names, self.condition_check
    return other

  @property
  def has_steep_inverse(self) -> bool:
    """Whether tiny errors of its networks move a pixel far, as with networks of histograms in half precision."""
    return any(getattr(part, 'has_networks', False) for part in self.submodules)

  @property
  def classes(self) -> int | None:
    """The number of classes, or None for a generator without them."""
    return None if self._class_probs is None else self._class_probs.shape[0]

  @property
  def class_probs(self) -> tf.Variable | tf.Tensor | None:
    """The probabilities of the classes, `[classes]`; a training sets them to the shares of its labelled images."""
    return self._class_probs

  @property
  def class_names(self) -> tuple[str, ...] | None:
    """The names of the classes, in the order of their labels; None if they have only numbers.

    A run takes them from its data. For another flow they can be set, to a different text for each class.
    """
    return self._class_names

  @class_names.setter
  def class_names(self, names: Sequence[str] | None) -> None:
    names = as_class_names('class_names', names, self.classes)
    self._class_names = self._no_dependency(names)  # Checkpoints do not hold them.

  def label_of(self, label: int | str) -> int:
    """Returns the label of a class, from 0, given its name or the label itself.

    Raises:
      UsageError: If the generator has no such class.
    """
    return as_label(label, self.classes or 0, self.class_names)

  @property
  def condition_shape(self) -> tuple[int, ...] | None:
    """The shape of one condition, or None for a generator with classes or without conditions."""
    return self._condition_shape

  @property
  def _is_conditional(self):
    return self.classes is not None or self.condition_shape is not None

  def initialize(self, data: InitialData, new: bool = True) -> None:
    """Lets the parts of a generator take their first values from training data.

    The probabilities of the classes become their shares of the labels. A new generator also initializes each bijector
    that has a method `fit`, such as a `HistogramLogit`, its prior, and what its builder says.

    Raises:
      UsageError: If the data do not suit a part.
    """
    if self._class_probs is not None and data.labels is not None:
      counts = np.bincount(data.labels[data.labels >= 0], minlength=self._class_probs.shape[0])
      self._class_probs.assign(counts / counts.sum())
    if new:
      self._initialize_parts(data)

  def _initialize_parts(self, data):
    """Initializes a new generator; nothing by default."""

  def sample_noise(
    self,
    n: int,
    seed: tf.Tensor,
    temperature: float | tf.Tensor | None = None,
    *,
    condition: tf.Tensor | str | None = None,
  ) -> tf.Tensor:
    """Draws noise `[n, *event_shape]` of the prior with a stateless seed, for `decode`.

    A temperature scales it as in `tempered`. Labels choose the components of a mixture that is divided among classes.
    """
    prior = self.distribution if temperature is None else tempered(self.distribution, temperature)
    label = None if self.classes is None or condition is None else self._as_condition(condition)
    return prior.sample(n, seed=seed, **label_keyword(prior, label))

  def on_batches(self, function: Callable[[Self, tf.Tensor], tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Turns a function of a given generator and values into one of values and, if there are any, their conditions.

    `generator.on_batches(lambda given, noise: given.decode(noise))` takes noise, or noise and conditions.
    """
    # TensorFlow counts the tracings of all lambdas from this line together, but those of partial functions apart.
    return functools.partial(lambda values, condition=None: function(self.given(condition), values))

  def _set_condition(self, class_probs, condition_shape):
    """Keeps the kind of the conditions, from arguments of a constructor."""
    check('condition_shape', condition_shape, 'None with `class_probs`', class_probs is None or condition_shape is None)
    self._class_probs = probs = variable_or_tensor(class_probs)
    if probs is not None:
      holds = probs.dtype.is_floating and probs.shape.rank == 1
      check('class_probs', f'{probs.dtype.name} {probs.shape}', 'floats [classes]', holds)
      value = probs.numpy() if tf.executing_eagerly() else tf.get_static_value(probs)
      holds = value is None or (value.min() >= 0 and abs(value.sum() - 1) < 1e-3)
      check('class_probs', value, 'probabilities that sum to 1', holds)
    self._condition_shape = None if condition_shape is None else tuple(condition_shape)

  def _as_condition(self, condition):
    """Converts a condition, and rejects one of another dtype, shape or range.

    It also rejects None if the generator is conditional, and a condition if it is not.
    """
    if condition is None and self._is_conditional:
      raise UsageError(f'`condition` must be given, as {self.name!r} is conditional. Got: None.', 'condition')
    if condition is not None and not self._is_conditional:
      raise UsageError(f'`condition` must be None, as {self.name!r} is not conditional. Got: a condition.', 'condition')
    if self.classes is not None:
      if isinstance(condition, np.ndarray) and condition.dtype.kind == 'U':
        condition = condition.tolist()
      # A name, or a list in which names may be.
      labels = tf.nest.map_structure(lambda c: self.label_of(c) if isinstance(c, str) else c, condition)
      return as_indices('condition', labels, self.classes)
    if self.condition_shape is not None:
      # As for images: integers in a list are rejected, too.
      found = condition if hasattr(condition, 'dtype') else tf.convert_to_tensor(condition)
      check_events('condition', found, tf.TensorShape(self.condition_shape))
      if self.condition_check is not None and tf.executing_eagerly():
        self.condition_check(found)
      dtype = None if tf.is_tensor(condition) else self.dtype
      return tf.cast(tf.convert_to_tensor(condition, dtype), self.dtype)
    return None

  def seen_by_networks(self, condition: tf.Tensor) -> tf.Tensor:
    """Returns a condition as networks see it, labels as one-hot vectors."""
    return condition if self.classes is None else tf.one_hot(condition, self.classes, dtype=self.dtype)

  def _with_condition(self, batch, condition):
    """Broadcasts a batch shape with the condition's; returns the result, and a condition of that batch shape."""
    event_ndims = len(self.condition_shape or ())
    shape, _ = divided_shape(condition, event_ndims)
    try:
      together = broadcast_shape(batch, shape)
    except ValueError:
      raise UsageError(f'`condition` must have a batch shape that suits {batch}. Got: {shape}.', 'condition') from None
    return together, broadcast_batch(condition, together, event_ndims)

  def _broadcast(self, events, event_shape, condition):
    """Checks a condition; gives it and events one batch shape."""
    condition = self._as_condition(condition)
    if condition is None:
      return events, None
    batch, condition = self._with_condition(divided_shape(events, event_shape.rank)[0], condition)
    return broadcast_batch(events, batch, event_shape.rank), condition

  def _condition_of_samples(self, sample_shape, condition, seed):
    """Returns the shape of samples, a condition for each, and the seed of the rest.

    The condition is broadcast with `sample_shape`. Without one, classes are drawn by their probabilities.
    """
    shape = as_shape(sample_shape)
    if condition is None and self.classes is not None:
      seed, class_seed = tfp.random.split_seed(seed, salt='classes')
      condition = tfp.distributions.Categorical(probs=self.class_probs).sample(shape, seed=class_seed)
    condition = self._as_condition(condition)
    return *(self._with_condition(shape, condition) if condition is not None else (shape, None)), seed
