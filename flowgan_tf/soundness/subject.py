"""What is checked, seen in one way: a flow of this package, any distribution of TFP, or a bijector alone."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.bijectors import bijector_kwargs
from flowgan_tf.errors import check
from flowgan_tf.flows import Flow, Given

_AT_ONCE = 2**16  # numbers in one call


class Subject:
  """A distribution or a bijector, the noise behind it, and the conditions of the values at which it is checked.

  Attributes:
    distribution: The distribution; None for a bijector alone.
    bijector: The map from noise to values; None for a distribution without one.
    prior: The distribution of the noise, or None.
    name: Its name.
    is_flow: Whether it is a flow of this package.
  """

  def __init__(self, flow: tfp.distributions.Distribution | tfp.bijectors.Bijector, condition: Any = None):
    """Looks at what is checked; `condition` is None, one condition, or one for each value."""
    tfd, tfb = tfp.distributions, tfp.bijectors
    kinds = tfd.Distribution | tfb.Bijector
    check('flow', type(flow).__name__, 'a distribution or a bijector of TFP', isinstance(flow, kinds))
    if isinstance(flow, Given):
      check('condition', condition, 'left out, as `flow` was given one', condition is None)
      flow, condition = flow.flow, flow.condition
    self.condition, self.name, self.is_flow = condition, flow.name, isinstance(flow, Flow)
    self.distribution: Any = flow if isinstance(flow, tfd.Distribution) else None
    self.bijector: Any = getattr(flow, 'bijector', None) if self.distribution is not None else flow
    self.prior: Any = self.distribution and self.bijector and flow.distribution
    if self.distribution is not None:
      check('flow', flow.batch_shape, 'a distribution with batch shape []', flow.batch_shape.rank == 0)
      check('flow', flow.dtype, 'a distribution of floats', isinstance(flow.dtype, tf.DType) and flow.dtype.is_floating)

  @property
  def event_shape(self) -> Any:
    """The shape of one value; None for a bijector, which takes several."""
    return None if self.distribution is None else self.distribution.event_shape

  @property
  def in_unit_cube(self) -> bool:
    """Whether it is a flow of images, whose values lie in [0, 1]."""
    return self.is_flow and self.event_shape.rank == 3

  def conditions(self, values: np.ndarray) -> Any:
    """Returns a condition for each value: the one that was given, or the most probable class; None without any."""
    if self.condition is None and self.is_flow and self.distribution.classes is not None:
      step = _at_once(values)
      found = [self.distribution.class_log_probs(values[i : i + step]) for i in range(0, len(values), step)]
      return tf.argmax(tf.concat(found, axis=0), axis=-1, output_type=tf.int32)
    if self.condition is None:
      return None
    given = tf.convert_to_tensor(self.condition)
    ndims = len(getattr(self.distribution, 'condition_shape', None) or ())
    if given.shape.rank > ndims:
      check('condition', given.shape, f'one, or one for each of {len(values)}', len(given) >= len(values))
      return given[: len(values)]
    return tf.repeat(given[tf.newaxis], len(values), axis=0)

  def of_density(self, condition: Any) -> dict[str, Any]:
    """The keywords that `log_prob` takes with a condition."""
    return {} if condition is None else {'condition': condition}

  def of_bijector(self, condition: Any) -> dict[str, Any]:
    """The keywords that the bijector takes with a condition."""
    if self.is_flow:
      of_flow = condition if self.distribution._networks_take_condition else None
      return self.distribution._bijector_kwargs(False, None if of_flow is None else of_flow)
    return {} if condition is None else bijector_kwargs(self.bijector, condition=condition)

  def log_prob(self, values: tf.Tensor | np.ndarray, condition: Any = None) -> np.ndarray:
    """Log densities, float64 `[n]`, some values at a time."""
    keywords, found, step = self.of_density(condition), [], _at_once(values)
    for i in range(0, len(values), step):
      some = tf.cast(values[i : i + step], self.distribution.dtype)
      own = rows_of(keywords, np.arange(i, i + len(some)))
      found.append(np.asarray(self.distribution.log_prob(some, **own), np.float64))
    return np.concatenate(found)

  def sample(self, condition: Any, n: int, seed: int) -> tf.Tensor:
    """Draws n samples with the first conditions, which repeat if they are fewer."""
    given = {} if condition is None else rows_of(self.of_density(condition), np.arange(n) % len(condition))
    return self.distribution.sample(n, seed=(seed, 0), **given)

  @functools.cached_property
  def wide(self) -> Subject | None:
    """The same in float64, if it can be had."""
    if not self.is_flow or self.distribution._build is None:
      return None
    return Subject(self.distribution.with_dtype('float64'), self.condition)


def _at_once(values):
  return max(1, _AT_ONCE // int(np.prod(values.shape[1:])))


def rows_of(keywords: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
  """Returns keywords with some rows of each tensor in them, and of nested keywords."""
  return tf.nest.map_structure(lambda value: tf.gather(value, rows) if tf.is_tensor(value) else value, dict(keywords))
