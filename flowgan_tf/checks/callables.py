"""Checks of a density of any library, by functions of NumPy arrays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np

from flowgan_tf.base.errors import UsageError, check, check_integers
from flowgan_tf.base.progress import Task
from flowgan_tf.checks.finding import Finding
from flowgan_tf.checks.grids import MOST_ON_GRID, check_on_grid, gaussian_integral
from flowgan_tf.checks.rounding import log_prob_with_allowed, lost, root_eps, round_trip_with_allowed, worst
from flowgan_tf.checks.samples import check_moves, check_samples, count_for

_VALUES = 8  # values at which most checks are made
_DRAWS = 2000  # samples that place a grid
_MOST_COLUMNS = 256  # dimensions of a Jacobian by differences
_STEPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # of differences, relative to the spread of a coordinate

Function = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Density:
  """A density as functions of NumPy arrays; all but `log_prob` may be None.

  An event has the shape `shape`, and `n` of them are an array `[n, *shape]`.
  """

  log_prob: Function  #: Log-density of events, `[n]`.
  sample: Callable[[int], np.ndarray] | None = None  #: `n` samples of the density.
  encode: Function | None = None  #: Noise of events, `[n, *shape]`.
  decode: Function | None = None  #: Events of noise, the inverse of `encode`.
  log_det: Function | None = None  #: `log|det dz/dx|` of `z = encode(x)`, `[n]`.
  prior: Function | None = None  #: Log-density of the noise, `[n]`.
  shape: tuple[int, ...]  #: Shape of an event.
  interval: tuple[float, float] | None = None  #: Ends of the interval in which all numbers lie.

  def __post_init__(self):
    if self.shape != ():
      check_integers('shape', self.shape)
    ends = self.interval
    check('interval', ends, 'None or (low, high)', ends is None or (len(ends) == 2 and ends[0] < ends[1]))

  def findings(self, values: np.ndarray | None, seed: int) -> Iterator[Finding]:
    """Applies all checks for which there are functions, and names the others.

    Args:
      values: Floats `[n, *shape]` to check the density at; None takes samples.
      seed: Seed of the moves. `sample` has its own.

    Raises:
      UsageError: If there are neither values nor `sample`, or they have another shape, or are not floats.
    """
    if values is None:
      check('images', None, 'given, or `sample`', self.sample is not None)
      values = self._sample(_VALUES)
    values = np.asarray(values)
    floats = np.issubdtype(values.dtype, np.floating) and len(values) > 0 and values.shape[1:] == tuple(self.shape)
    check('images', f'{values.dtype} of shape {values.shape}', f'floats of shape [n, {self.shape}]', floats)
    first = values[:_VALUES]
    if (found := np.shape(self.log_prob(first))) != (len(first),):
      note = f'it is {list(found)} for {len(first)} values; each needs one number.'
      yield Finding(check='shape of log_prob', sound=False, note=note)
      return
    yield from self._at_values(first)
    if self.sample is not None:
      yield from self._at_samples(seed)
    if left_out := [name for name in ('sample', 'encode', 'decode', 'log_det', 'prior') if getattr(self, name) is None]:
      mass = ''
      if math.prod(self.shape) > 3 and {'encode', 'log_det', 'prior'} & set(left_out):
        mass = ' So nothing tells whether the density integrates to one.'
      yield Finding(check='checks that are left out', note=f'those that need {", ".join(left_out)}.{mass}')

  def _density(self, values: np.ndarray) -> np.ndarray:
    return np.asarray(self.log_prob(values), np.float64)

  def _sample(self, n: int) -> np.ndarray:
    assert self.sample is not None
    samples = np.asarray(self.sample(n))
    if samples.shape != (n, *self.shape):
      raise UsageError(f'`sample` must return {n} samples of shape {self.shape}. Got: {samples.shape}.', 'sample')
    return samples

  def _at_values(self, values: np.ndarray) -> Iterator[Finding]:
    log_prob, allowed = log_prob_with_allowed(self._density, values)
    wrong = ~np.isfinite(log_prob)
    yield Finding(check='log densities that are not finite', found=float(wrong.sum()), allowed=0, sound=not wrong.any())
    yield worst('log_prob alone and in a batch', np.abs(self._density(values[:1]) - log_prob[:1]), allowed[:1])
    if self.encode is None:
      return
    noise = np.asarray(self.encode(values))
    if self.decode is not None:
      yield worst('image, noise, image', *round_trip_with_allowed(self.encode, self.decode, values))
      yield worst('noise, image, noise', *round_trip_with_allowed(self.decode, self.encode, noise))
    if self.log_det is not None:
      log_det = np.asarray(self.log_det(values), np.float64)
      if self.prior is not None:
        error = np.abs(np.asarray(self.prior(noise), np.float64) + log_det - log_prob)
        yield worst('log_prob, prior and log_det', error, allowed)
      yield self._jacobian(values, log_det)

  def _jacobian(self, values: np.ndarray, log_det: np.ndarray) -> Finding:
    """Compares `log_det` with the Jacobian of `encode` by central differences, extrapolated to a step of 0.

    Two steps tell the error of the differences, which we allow ten times. Where two agree by chance, their neighbours
    do not, so we add what the next step changes.
    """
    assert self.encode is not None
    name, size = 'log-determinant, differences', int(np.prod(self.shape))
    if size > _MOST_COLUMNS:
      return Finding(check=name, note=f'not compared, as {size:,} dimensions are more than {_MOST_COLUMNS}.')
    spread = np.maximum(values.reshape(len(values), -1).std(axis=0), 1e-12)
    found = []
    for step in _STEPS:
      moves = (step * np.diag(spread)).reshape(size, *self.shape)
      ends = []
      for sign in (1, -1):
        points = (values[:, np.newaxis] + sign * moves).reshape(-1, *self.shape).astype(values.dtype)
        ends.append((np.asarray(self.encode(points), np.float64).reshape(len(values), size, size), points))
      lengths = (ends[0][1].astype(np.float64) - ends[1][1]).reshape(len(values), size, size)
      with np.errstate(divide='ignore', invalid='ignore'):
        rows = (ends[0][0] - ends[1][0]) / np.diagonal(lengths, axis1=1, axis2=2)[..., np.newaxis]
      found.append(np.linalg.slogdet(rows)[1] if np.isfinite(rows).all() else np.full(len(values), np.nan))
    changes = np.abs(np.diff(found, axis=0))
    changes = np.where(np.isnan(changes), np.inf, changes)
    best, rows = changes.argmin(axis=0), np.arange(len(values))
    beside = np.maximum(changes[np.maximum(best - 1, 0), rows], changes[np.minimum(best + 1, len(changes) - 1), rows])
    allowed = size * root_eps(values.dtype) + 10 * changes[best, rows] + beside
    if not (allowed < 0.1 * size).all():
      return Finding(check=name, note='differences are too coarse here to judge.')
    return worst(name, np.abs(np.asarray(found)[best + 1, rows] - log_det), allowed)

  def _at_samples(self, seed: int) -> Iterator[Finding]:
    if int(np.prod(self.shape)) <= MOST_ON_GRID:
      draws = self._sample(_DRAWS)
      yield from check_on_grid('integral of the density', self._cast(draws.dtype), draws, self.interval)
    samples = self._sample(count_for(self.shape))
    if not (yield from check_samples(self._cast(samples.dtype), samples, seed, self.interval)):
      return
    if self.encode is not None and self.decode is not None:
      yield lost('samples that do not come back', *round_trip_with_allowed(self.encode, self.decode, samples))
    if self.encode is not None and self.prior is not None:
      with Task('moving noise'):
        noise = np.asarray(self.encode(samples))
        yield gaussian_integral('integral of the prior', self._cast(noise.dtype, self.prior), noise)
        for finding in check_moves(self._cast(noise.dtype, self.prior), noise, seed):
          yield dataclasses.replace(finding, check=finding.check.replace('samples', 'noise of samples'))

  def _cast(self, dtype: np.dtype, log_prob: Function | None = None) -> Function:
    """A log-density as a function of float64, which it may not take."""
    return lambda values: np.asarray((log_prob or self.log_prob)(values.astype(dtype)), np.float64)
