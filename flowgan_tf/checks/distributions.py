"""The checks of a distribution or a bijector of TFP, one after the other."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.base.errors import check
from flowgan_tf.base.progress import Task
from flowgan_tf.bijectors import clearing_caches
from flowgan_tf.checks import densities, images
from flowgan_tf.checks.bijections import check_bijector, target_part, wrong_shapes
from flowgan_tf.checks.finding import Finding, Report
from flowgan_tf.checks.target import Target
from flowgan_tf.data import dequantize
from flowgan_tf.flows.checks import NOT_DEQUANTIZED, check_events, on_grey_levels

_VALUES = 8  # values at which most checks are made
_SAMPLES = 256


@clearing_caches()
def report(
  flow: tfp.distributions.Distribution | tfp.bijectors.Bijector,
  images: np.ndarray | tf.Tensor | None,
  condition: Any,
  levels: int | None,
  seed: int,
) -> Report:
  """Applies all checks, and leaves the variables as they were. The arguments are those of `fg.check`."""
  target = Target(flow, condition)
  before = [(variable, variable.numpy()) for variable in target.variables if not variable.trainable]
  try:
    with Task(f'checking {target.name}'):
      return Report(target.name, _findings(target, images, levels, seed))
  finally:
    for variable, value in before:  # A batch norm in training mode has moved its statistics.
      variable.assign(value)


def _findings(target: Target, supplied: Any, levels: int | None, seed: int) -> list[Finding]:
  found: list[Finding] = []
  grey: Any = None
  if supplied is None:
    expected = 'given, as a bijector does not say which values it takes'
    check('images', None, expected, target.distribution is not None)
  else:
    are_images = target.takes_images(np.asarray(supplied), levels)
    supplied, grey = _as_values(target, supplied, levels, seed, are_images)
    if are_images:
      found += images.check_values(supplied, levels)
      if on_grey_levels(supplied, levels).all():
        warnings.warn(NOT_DEQUANTIZED, stacklevel=6)
  in_unit = target.interval is None or (supplied is not None and supplied.min() >= 0 and supplied.max() <= 1)
  values, inside = supplied, supplied is not None and in_unit
  if not inside:
    values = np.asarray(target.sample(_VALUES, seed))
  target, first = target.at(values), tf.constant(values[:_VALUES])
  if target.bijector is not None:
    for each in filter(None, (target, target.wide)):
      points = tf.cast(first, each.distribution.dtype) if each.distribution is not None else first
      part = target_part(each, points)
      if wrong := list(wrong_shapes(part)):
        return [*found, *wrong]
      found += check_bijector(part, only_round_trips=each is target and target.wide is not None)
  if target.distribution is not None:
    found += _of_density(target, values, grey, inside, seed)
  return found


def _of_density(target, values, grey, inside, seed):
  """Yields what the density says of values, and of samples of the flow."""
  first = tf.constant(values[:_VALUES])
  yield from densities.check_density(target, first, seed)
  log_prob = target.log_prob(values)
  yield images.check_finite(log_prob, target.interval is not None)
  samples = target.sample(_SAMPLES, seed)
  if target.interval is not None:
    yield from images.check_support(target, first, np.asarray(samples))
  if grey is not None:
    yield from images.check_noise(target, *grey, seed)
  if inside:
    yield images.check_ranks(log_prob, target.log_prob(samples))


def _as_values(target, supplied, levels, seed, are_images):
  """Returns floats `[n, ...]`, and their grey levels with the number of levels, or None if they have none."""
  values = np.asarray(supplied)
  check('images', values.shape, 'one or more', values.ndim > 0 and len(values) > 0)
  dtype = target.distribution.dtype.as_numpy_dtype if target.distribution is not None else values.dtype
  grey = None
  if np.issubdtype(values.dtype, np.integer) and are_images:
    levels = levels or 256
    grey, values = (values, levels), dequantize(values, levels, seed)
  elif levels is not None and are_images:
    grey = np.clip(np.floor(values * levels), 0, levels - 1).astype(np.int64), levels
  suits = target.distribution is not None or np.issubdtype(dtype, np.floating)
  check('images', dtype, 'floats, as a bijector does not say what it takes', suits)
  if target.event_shape is not None:
    check_events('images', values, target.event_shape, 'n')
  return values.astype(dtype), grey
