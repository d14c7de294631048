"""Checks whether a bijector is invertible, and whether its log-determinants agree with its Jacobian.

If the check of a bijector fails, each of its parts is checked by itself on the values that reach it, and the smallest
part that fails is named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

# Both are private to TFP, which has no public way to see the values between the parts of a composition, and makes
# these classes instead of the public ones if a part owns networks.
from tensorflow_probability.python.bijectors.composition import Composition
from tensorflow_probability.python.bijectors.invert import _Invert

from flowgan_tf.base.progress import Task
from flowgan_tf.bijectors import FactorOut
from flowgan_tf.checks.finding import Finding
from flowgan_tf.checks.rounding import ROUNDINGS, lost, per_value, root_eps, round_trip_with_allowed, rounded, worst
from flowgan_tf.checks.target import Target, rows_of
from flowgan_tf.display.tables import listed

_LARGEST = 4096  # dimensions of a Jacobian: its decomposition takes seconds, and the matrix 134 MB
_BLOCK = 128  # rows of Jacobians in one backward pass
_ROWS = 1024  # of all Jacobians together, if the first one has fewer


class Part(NamedTuple):
  """A bijector, with the values that reach it from images and, `start`, from noise.

  Both are needed: what a bijector has rounded, or normalised, it may well map there and back without an error.
  """

  bijector: tfp.bijectors.Bijector
  values: Any
  start: Any
  keywords: Mapping[str, Any]
  name: str

  def noise(self, values: tf.Tensor) -> tf.Tensor:
    """The inverse, without TFP's cache."""
    return self.bijector.inverse(tf.identity(values), **self.keywords)

  def image(self, noise: tf.Tensor) -> tf.Tensor:
    """The forward direction, without TFP's cache."""
    return self.bijector.forward(tf.identity(noise), **self.keywords)

  def log_det(self, values: tf.Tensor) -> np.ndarray:
    """`log|det dz/dx|` as the bijector claims it, float64 `[n]`."""
    found = self.bijector.inverse_log_det_jacobian(
      tf.identity(values), event_ndims=values.shape.rank - 1, **self.keywords
    )
    return np.broadcast_to(np.asarray(found, np.float64), len(values))

  def rows(self, rows: np.ndarray) -> Part:
    """The same at some of the values."""
    values, start = (tf.gather(tensor, rows) for tensor in (self.values, self.start))
    return self._replace(values=values, start=start, keywords=rows_of(self.keywords, rows))


def target_part(target: Target, values: tf.Tensor) -> Part:
  """Returns the whole bijector, at the first values `[n, ...]` of a target; its noise is the noise of the values."""
  part = Part(target.bijector, values, None, target.of_parts(len(values))[1], target.bijector.name)
  return part._replace(start=part.noise(values))


def parts_of(part: Part) -> list[Part]:
  """Returns the parts of a bijector, each with the values that reach it; none if it cannot be taken apart."""
  bijector, values, start, keywords = part.bijector, part.values, part.start, part.keywords
  if isinstance(bijector, _Invert):
    return [Part(bijector.bijector, start, values, keywords, bijector.bijector.name)]
  if isinstance(bijector, FactorOut):
    values, start = (bijector._mask.split(whole)[1] for whole in (values, start))
    return [Part(bijector.bijector, values, start, keywords, bijector.bijector.name)]
  if not isinstance(bijector, Composition):
    return []
  found, starts = [], {}

  def forward(child, noise, **keywords):
    starts[id(child)] = noise
    return child.forward(noise, **keywords)

  def inverse(child, values, **keywords):
    found.append(Part(child, values, starts[id(child)], keywords, child.name))
    return child.inverse(values, **keywords)

  bijector._walk_forward(forward, start, **keywords)
  bijector._walk_inverse(inverse, values, **keywords)
  names = [child.name for child in found]
  return [c._replace(name=f'{c.name} (part {i})') if names.count(c.name) > 1 else c for i, c in enumerate(found)]


def wrong_shapes(part: Part) -> Iterator[Finding]:
  """Yields a finding about each bijector that does not have one log-determinant for each value.

  A chain would add its other parts to it, and fail, or broadcast without an error.
  """
  children = [child for child in parts_of(part) if tf.is_tensor(child.values) and child.values.shape.rank > 0]
  for child in children:
    yield from wrong_shapes(child)
  if not children:
    ndims = part.values.shape.rank - 1
    found = part.bijector.inverse_log_det_jacobian(tf.identity(part.values), event_ndims=ndims, **part.keywords)
    if found.shape.rank > 1:
      note = (
        f'it has the shape {list(found.shape)} for {len(part.values)} values; each needs one number, the sum over it.'
      )
      yield Finding(
        check='shape of the log-determinant', sound=False, where=part.name, part=part.name, note=f'{part.name}: {note}'
      )


def check_bijector(part: Part, *, only_round_trips: bool = False) -> list[Finding]:
  """Applies all checks, or those that depend most on precision."""
  checks = (round_trips,) if only_round_trips else (round_trips, _other_checks)
  found = [finding for check in checks for finding in check(part)]
  if all(finding.sound is not False for finding in found):
    return found
  names = listed(dict.fromkeys(_faulty(part)))
  return [dataclasses.replace(f, where=names, part=names) if f.sound is False else f for f in found]


def _other_checks(part: Part) -> Iterator[Finding]:
  yield alone(part)
  yield both_log_dets(part)
  yield log_determinant(part)


def round_trips(part: Part) -> Iterator[Finding]:
  """Checks image -> noise -> image, and noise -> image -> noise."""
  dtype = part.values.dtype.name
  yield worst(f'image, noise, image in {dtype}', *round_trip_with_allowed(part.noise, part.image, part.values))
  yield worst(f'noise, image, noise in {dtype}', *round_trip_with_allowed(part.image, part.noise, part.start))


def noise_round_trip(part: Part) -> Finding:
  """Measures how many draws of the prior do not come back: noise may reach where no image comes from."""
  name = f'noise of the prior that does not come back in {part.start.dtype.name}'
  return lost(name, *round_trip_with_allowed(part.image, part.noise, part.start))


def alone(part: Part) -> Finding:
  """Checks that the noise and log-determinant of a value do not depend on the rest of its batch."""
  first = part.rows(np.array([0]))
  together, by_itself = np.asarray(part.noise(part.values))[:1], np.asarray(first.noise(first.values))
  error = per_value(np.abs(together - by_itself) / (1 + np.abs(together)))
  error = error + np.abs(part.log_det(part.values)[:1] - first.log_det(first.values)) / _size(part.values)
  moved = np.abs(np.asarray(first.noise(rounded(first.values))) - by_itself) / (1 + np.abs(together))
  return worst('alone and in a batch', error, root_eps(part.values.dtype.as_numpy_dtype) + ROUNDINGS * per_value(moved))


def both_log_dets(part: Part) -> Finding:
  """Checks that the log-determinants of both directions add up to zero."""
  noise = part.noise(part.values)
  forward = part.bijector.forward_log_det_jacobian(
    tf.identity(noise), event_ndims=noise.shape.rank - 1, **part.keywords
  )
  backward = part.log_det(part.values)
  moved = np.abs(part.log_det(tf.constant(rounded(part.values))) - backward)
  error = np.abs(np.asarray(forward, np.float64) + backward)
  size = _size(part.values)
  return worst(
    'log-determinants, both ways', error, size * root_eps(part.values.dtype.as_numpy_dtype) + ROUNDINGS * moved
  )


def log_determinant(part: Part) -> Finding:
  """Compares the log-determinant, in nats, with the Jacobian that autodiff computes.

  An entry of the Jacobian has the precision of the flow. We allow its square root for each dimension, and the precision
  times the condition number of the matrix with rows and columns of length 1.
  """
  name, size = 'log-determinant, Jacobian', _size(part.values)
  if size > _LARGEST:
    return Finding(check=name, note=f'not compared, as {size:,} dimensions are more than {_LARGEST:,}.')
  part = part.rows(np.arange(min(len(part.values), max(1, _ROWS // size))))
  matrices = jacobians(part)
  if matrices.shape[1] != size:
    return Finding(check=name, note=f'not compared, as {size} numbers have {matrices.shape[1]} numbers of noise.')
  eps, claimed = np.finfo(part.values.dtype.as_numpy_dtype).eps, part.log_det(part.values)
  errors, allowed = np.full(len(matrices), np.nan), np.empty(len(matrices))
  for i, matrix in enumerate(matrices):
    condition = np.inf
    if np.isfinite(matrix).all():
      errors[i] = abs(float(tf.linalg.slogdet(matrix)[1]) - claimed[i])
      condition = _condition(matrix)
    allowed[i] = size * (np.sqrt(eps) + min(1.0, eps * condition))
  return worst(name, errors, allowed)


def jacobians(part: Part) -> np.ndarray:
  """Returns `dz/dx` at all values, float64 `[n, d, d]`, by reverse mode on repeated values, in blocks of rows."""
  count, size = len(part.values), _size(part.values)
  outputs = int(np.prod(part.noise(part.values).shape[1:]))
  found = []
  with Task('Jacobian', count * outputs, unit='rows', images=0) as task:
    for start in range(0, count * outputs, _BLOCK):
      which, row = np.divmod(np.arange(start, min(start + _BLOCK, count * outputs)), outputs)
      repeated = part.rows(which)
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(repeated.values)
        # Without TFP's cache, which would hand out results from before the tape.
        noise = tf.reshape(repeated.noise(repeated.values), (len(which), outputs))
        picked = tf.gather(noise, row, batch_dims=1)
      rows = tape.gradient(picked, repeated.values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
      found.append(np.asarray(rows, np.float64).reshape(len(which), size))
      task.advance(len(which))
  return np.concatenate(found).reshape(count, outputs, size)


def _condition(matrix):
  """The condition number after rows and columns were divided by their lengths, which costs no precision."""
  tiny = np.finfo(np.float64).tiny
  for axis in (1, 0):
    matrix = matrix / np.maximum(np.linalg.norm(matrix, axis=axis, keepdims=True), tiny)
  return np.linalg.cond(matrix, 1) if np.linalg.slogdet(matrix)[0] else np.inf


def _faulty(part: Part) -> list[str]:
  """Returns the names of the parts that fail; the bijector itself, if it has no parts or all of them pass.

  NaN from one part reaches all parts behind it, in both directions. They are not at fault.
  """
  found = []
  for child in parts_of(part):
    if not (tf.is_tensor(child.values) and child.values.shape.rank > 0):
      continue
    if not _is_finite(child.values):
      child = child._replace(values=child.image(child.start))
    elif not _is_finite(child.start):
      child = child._replace(start=child.noise(child.values))
    reached = _is_finite(child.values) or _is_finite(child.start)
    if reached and any(f.sound is False for check in (round_trips, _other_checks) for f in check(child)):
      found += _faulty(child)
  return found or [part.name]


def _is_finite(values: tf.Tensor) -> bool:
  return bool(tf.reduce_all(tf.math.is_finite(values)))


def _size(values):
  return int(np.prod(values.shape[1:]))
