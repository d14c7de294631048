"""What is checked, seen in one way: a flow of this package, any distribution of TFP, or a bijector alone."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

# TFP derives its public classes from these, and returns these, too.
from tensorflow_probability.python.bijectors.chain import _Chain
from tensorflow_probability.python.bijectors.invert import _Invert

from flowgan_tf.base.errors import check
from flowgan_tf.bijectors import AlphaLogit, HistogramLogit, bijector_kwargs
from flowgan_tf.flows import Flow, Given

_AT_ONCE = 2**16  # numbers in one call


class Target:
  """A distribution or a bijector, the noise behind it, and the conditions of the values at which it is checked.

  Attributes:
    keywords: What it is called with: `condition`, with one entry for all values or one for each; or nothing.
    distribution: The distribution; None for a bijector alone.
    bijector: The map from noise to values; None for a distribution without one.
    prior: The distribution of the noise, or None.
    name: Its name.
    is_flow: Whether it is a flow of this package.
  """

  def __init__(self, flow: tfp.distributions.Distribution | tfp.bijectors.Bijector, condition: Any = None):
    """Looks at what is checked; `condition` is None, one for all values, or one for each value."""
    tfd, tfb = tfp.distributions, tfp.bijectors
    kinds = tfd.Distribution | tfb.Bijector
    check('flow', type(flow).__name__, 'a distribution or a bijector of TFP', isinstance(flow, kinds))
    if isinstance(flow, Given):
      check('condition', condition, 'left out, as `flow` was given one', condition is None)
      flow, condition = flow.flow, flow.condition
    self._flow, self.name, self.is_flow = flow, flow.name, isinstance(flow, Flow)
    self.distribution: Any = flow if isinstance(flow, tfd.Distribution) else None
    self.bijector: Any = getattr(flow, 'bijector', None) if self.distribution is not None else flow
    self.prior: Any = self.distribution and self.bijector and flow.distribution
    self.keywords: dict[str, tf.Tensor] = {}
    if condition is not None:
      condition = flow._as_condition(condition) if self.is_flow else tf.convert_to_tensor(condition)
      ndims = len(getattr(flow, 'condition_shape', None) or ())
      self.keywords['condition'] = condition if condition.shape.rank > ndims else condition[tf.newaxis]
    if self.distribution is not None:
      check('flow', flow.dtype, 'a distribution of floats', isinstance(flow.dtype, tf.DType) and flow.dtype.is_floating)
      check('flow', flow.batch_shape, 'a distribution with batch shape []', flow.batch_shape.rank == 0)

  @property
  def variables(self) -> tuple[tf.Variable, ...]:
    """The variables of what is checked."""
    return self._flow.variables

  @property
  def event_shape(self) -> Any:
    """The shape of one value; None for a bijector, which takes several."""
    return None if self.distribution is None else self.distribution.event_shape

  @functools.cached_property
  def interval(self) -> tuple[float, float] | None:
    """Where the values of a flow of images lie, [0, 1] or a little more; None for other flows and distributions."""
    if not self.is_flow or self.event_shape.rank != 3:
      return None
    last, is_inverse = _data_end(self.bijector)
    from_builder = self.distribution._build is not None
    if is_inverse and isinstance(last, AlphaLogit | HistogramLogit):
      lowest, highest = AlphaLogit(last.alpha).support(self.distribution.dtype)
      return min(0.0, lowest), max(1.0, highest)
    is_cdf = isinstance(last, tfp.bijectors.NormalCDF) or (isinstance(last, tfp.bijectors.Sigmoid) and last.low is None)
    return (0.0, 1.0) if from_builder or (is_cdf and not is_inverse) else None

  def takes_images(self, values: np.ndarray, levels: int | None) -> bool:
    """Whether values are images in [0, 1], or grey levels; for a flow without an interval, `levels` or ints say so."""
    if not self.is_flow or self.event_shape.rank != 3:
      return False
    return self.interval is not None or levels is not None or np.issubdtype(values.dtype, np.integer)

  def at(self, values: np.ndarray) -> Target:
    """The same with a condition for each value: what was given, or the most probable class."""
    if not self.keywords and self.is_flow and self.distribution.classes is not None:
      step = _at_once(values)
      found = [self.distribution.class_log_probs(values[i : i + step]) for i in range(0, len(values), step)]
      return Target(self._flow, tf.argmax(tf.concat(found, axis=0), axis=-1, output_type=tf.int32))
    for array in self.keywords.values():
      expected = f'one, or one for each of {len(values)}'
      check('condition', array.shape, expected, len(array) == 1 or len(array) >= len(values))
    return self.rows(np.arange(len(values)))

  def rows(self, rows: np.ndarray) -> Target:
    """The same with what is given with some values, by their positions, which start again behind the last one."""
    return Target(self._flow, **{name: tf.gather(array, rows % len(array)) for name, array in self.keywords.items()})

  def of_parts(self, n: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keywords that prior and bijector take with the first n values."""
    keywords = self.rows(np.arange(n)).keywords
    if self.is_flow:
      return self.distribution._kwargs_split_fn(keywords)
    return {}, bijector_kwargs(self.bijector, **keywords) if keywords else {}

  def log_prob(self, values: tf.Tensor | np.ndarray) -> np.ndarray:
    """Log densities of the first values, float64 `[n]`, some at a time."""
    found, step = [], _at_once(values)
    for i in range(0, len(values), step):
      some = tf.cast(values[i : i + step], self.distribution.dtype)
      keywords = self.rows(np.arange(i, i + len(some))).keywords
      found.append(np.asarray(self.distribution.log_prob(some, **keywords), np.float64))
    return np.concatenate(found)

  def sample(self, n: int, seed: int) -> tf.Tensor:
    """Draws n samples, given what comes with the first values."""
    return self.distribution.sample(n, seed=(seed, 0), **self.rows(np.arange(n)).keywords)

  @functools.cached_property
  def wide(self) -> Target | None:
    """The same in float64, if it can be had."""
    if not self.is_flow or self.distribution._build is None:
      return None
    return Target(self.distribution.with_dtype('float64'), **self.keywords)


def _data_end(bijector):
  """Returns the part that makes the values, and whether its inverse does."""
  is_inverse = False
  while True:
    if isinstance(bijector, _Invert):
      bijector, is_inverse = bijector.bijector, not is_inverse
    elif isinstance(bijector, _Chain) and bijector.bijectors:
      bijector = bijector.bijectors[-1 if is_inverse else 0]
    else:
      return bijector, is_inverse


def _at_once(values):
  return max(1, _AT_ONCE // int(np.prod(values.shape[1:])))


def rows_of(keywords: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
  """Returns keywords with some rows of each tensor in them, and of nested keywords."""
  return tf.nest.map_structure(lambda value: tf.gather(value, rows) if tf.is_tensor(value) else value, dict(keywords))
