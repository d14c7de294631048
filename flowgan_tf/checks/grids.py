"""The integral of a density in one to three dimensions, and the share of samples in cells, by values of the density."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import scipy.spatial
import scipy.special

from flowgan_tf.base.progress import Task
from flowgan_tf.checks.finding import Finding
from flowgan_tf.checks.samples import COARSE, are_coarse, check_cells

_GRID = {1: 4096, 2: 256, 3: 48}  # points along each of some dimensions; all of them are evaluated in seconds
_IN_CELL = {1: 64, 2: 16, 3: 6}  # points along each side of a cell in which samples are counted
_AT_ONCE = 2**15
_LOGITS = 18.0  # of the grid in [0, 1]: float32 has no numbers nearer to 1
_SPREADS = 6.0  # sinh(6) is 200: how many standard deviations the grid reaches to each side
_COARSE = 0.1  # difference between two grids from which on neither is trusted
_POINTS, _NEIGHBORS = 40_000, 8  # of importance sampling
MOST_ON_GRID = max(_GRID)  # dimensions
LEAST = 0.01  # a mistake of one percent is 0.01 nats


class Grid:
  """A density in one to three dimensions at the points of a grid, for its integral by the trapezoidal rule.

  Coordinates spread the grid: logits in an interval, and elsewhere the inverse hyperbolic sine of what is measured in
  standard deviations of draws.
  """

  def __init__(self, name: str, log_prob: Callable, draws: np.ndarray, interval: tuple | None = None):
    """Evaluates `log_prob` of values `[n, *shape]` where draws `[n, *shape]` lie; `name` says what is integrated."""
    self._name, self._log_prob, self._draws = name, log_prob, draws
    flat = draws.reshape(len(draws), -1)
    size = flat.shape[1]
    if interval is not None:
      low, high = interval
      u = np.linspace(-_LOGITS, _LOGITS, _GRID[size])
      inside = 1 / (1 + np.exp(-u))
      x = [low + (high - low) * inside] * size
      weights = [(high - low) * inside * (1 - inside)] * size
      places = scipy.special.logit(np.clip((flat - low) / (high - low), 0, 1))
    else:
      u = np.linspace(-_SPREADS, _SPREADS, _GRID[size])
      middle, spread = np.median(flat, axis=0), np.maximum(flat.std(axis=0), 1e-12)
      x = [m + s * np.sinh(u) for m, s in zip(middle, spread, strict=True)]
      weights = [s * np.cosh(u) for s in spread]
      places = np.arcsinh((flat - middle) / spread)
    points = np.stack(np.meshgrid(*x, indexing='ij'), axis=-1).reshape(-1, *draws.shape[1:])
    densities = _densities(name, log_prob, points)
    self._is_too_coarse = densities.max() < np.median(np.exp(np.asarray(log_prob(draws), np.float64)))
    mass = densities.reshape([len(u)] * size)
    for axis, weight in enumerate(weights):
      mass = mass * weight.reshape([-1 if a == axis else 1 for a in range(size)])
    step = u[1] - u[0]
    self._mass = mass * step**size  # around each point
    self._nearest = np.clip(np.rint((places - u[0]) / step), 0, len(u) - 1).astype(int)  # point of each draw

  def _halved(self):
    """The mass around every second point."""
    every = (slice(None, None, 2),) * self._mass.ndim
    return self._mass[every] * 2**self._mass.ndim

  def integral(self) -> Finding:
    """Compares the integral with 1. We allow one percent, and three times what half of the points change.

    If it is wrong by that, and importance sampling finds more, importance sampling decides: a funnel, for instance, has
    a neck between the points of any grid. Far from all draws, the grid alone sees what is too much.
    """
    name = self._name
    total, halved = float(self._mass.sum()), float(self._halved().sum())
    allowed = LEAST + 3 * abs(total - halved)
    doubtful = self._is_too_coarse or not abs(total - halved) <= _COARSE * max(1, total)
    if doubtful or abs(total - 1) > allowed:
      other, error = _integral_by_draws(name, self._log_prob, self._draws)
      if doubtful and not (error < LEAST and abs(other - 1) < 2 * LEAST + 3 * error):
        note = f'the grid gives {total:.3g}, half of its points {halved:.3g}, samples {other:.3g}: too few to judge.'
        return Finding(check=name, note=note)
      if doubtful or other - total > 2 * LEAST + 3 * error:
        total, allowed = other, 2 * LEAST + 3 * error
    sound = bool(abs(total - 1) <= allowed)
    return Finding(check=f'{name}, less 1', found=float(total - 1), allowed=float(allowed), sound=sound)

  def counts(self) -> Finding:
    """Compares how many draws fall into cells of the grid with the integral over the cells."""
    mass, halved, cells = self._mass, self._halved(), self._nearest
    total = mass.sum()
    doubtful = self._is_too_coarse or abs(total - halved.sum()) > _COARSE * max(1, total)
    if doubtful or not 0 < total < np.inf:
      return Finding(check='samples in cells, integral', note='the grid is too coarse to judge.')
    points = _IN_CELL[mass.ndim]
    for axis in range(mass.ndim):
      mass = np.add.reduceat(mass, np.arange(0, mass.shape[axis], points), axis)
      halved = np.add.reduceat(halved, np.arange(0, halved.shape[axis], points // 2), axis)
    return check_cells(mass, halved, np.ravel_multi_index((cells // points).T, mass.shape), self._draws)


def check_on_grid(name: str, log_prob: Callable, draws: np.ndarray, interval: tuple | None = None) -> Iterator[Finding]:
  """Integrates a density, and compares its integral over cells with the share of draws `[n, *shape]` in them."""
  if not np.isfinite(draws).all():
    yield Finding(check=name, note='not computed, as there are samples that are not finite.')
    return
  if are_coarse(draws):
    yield Finding(check=name, note=COARSE)
    return
  grid = Grid(name, log_prob, draws.astype(np.float64), interval)
  yield grid.integral()
  yield grid.counts()


def _densities(name, log_prob, points):
  densities = np.empty(len(points))
  with Task(name, len(points), unit='points', images=0) as task:
    for i in range(0, len(points), _AT_ONCE):
      # Several distributions of TFP return NaN outside of their support.
      found = np.nan_to_num(np.asarray(log_prob(points[i : i + _AT_ONCE]), np.float64), nan=-np.inf, neginf=-np.inf)
      densities[i : i + _AT_ONCE] = np.exp(found)
      task.advance(_AT_ONCE)
  return densities


def _integral_by_draws(name: str, log_prob: Callable, draws: np.ndarray) -> tuple[float, float]:
  """Estimates the integral and its standard error by importance sampling from kernels around draws.

  Each draw has Student's kernel with four degrees of freedom along each axis, as wide as its neighbours are far, so
  narrow parts of the density get many points, and its tails get some.
  """
  flat = draws.reshape(len(draws), -1)
  far = scipy.spatial.cKDTree(flat).query(flat, k=_NEIGHBORS + 1)[0][:, -1]
  widths = np.maximum(far / np.sqrt(flat.shape[1]), 1e-9 * flat.std())
  rng = np.random.default_rng(0)
  chosen = rng.integers(len(flat), size=_POINTS)
  points = flat[chosen] + widths[chosen, np.newaxis] * rng.standard_t(4, size=(_POINTS, flat.shape[1]))
  proposal = np.empty(_POINTS)
  for i in range(0, _POINTS, 500):
    block = points[i : i + 500]
    inverse = math.prod(1 + ((block[:, [axis]] - x) / widths) ** 2 / 4 for axis, x in enumerate(flat.T))
    # A power of -2.5, in a third of the time that NumPy takes for one.
    proposal[i : i + 500] = np.mean((0.375 / widths) ** flat.shape[1] / (inverse**2 * np.sqrt(inverse)), axis=1)
  ratios = _densities(name, log_prob, points.reshape(-1, *draws.shape[1:])) / proposal
  return float(ratios.mean()), float(ratios.std() / np.sqrt(_POINTS))


def gaussian_integral(name: str, log_prob: Callable, draws: np.ndarray) -> Finding:
  """Integrates a density that is close to a Gaussian, in any number of dimensions, by importance sampling.

  Points come from the Gaussian with the means and 1.1 times the standard deviations of draws. The mean ratio of the
  densities is trusted if its standard error is below half a percent.
  """
  flat = draws.reshape(len(draws), -1).astype(np.float64)
  middle, spread = flat.mean(axis=0), np.maximum(1.1 * flat.std(axis=0), 1e-12)
  normal = np.random.default_rng(0).normal(size=(_POINTS, flat.shape[1]))
  of_proposal = -0.5 * np.sum(normal**2 + np.log(2 * np.pi), axis=1) - np.sum(np.log(spread))
  points = (middle + spread * normal).reshape(-1, *draws.shape[1:])
  ratios = np.exp(np.asarray(log_prob(points), np.float64) - of_proposal)
  total, error = float(ratios.mean()), float(ratios.std() / np.sqrt(_POINTS))
  if not error < LEAST / 2:
    return Finding(check=name, note='it is too far from a Gaussian to judge.')
  allowed = LEAST + 5 * error
  return Finding(check=f'{name}, less 1', found=total - 1, allowed=allowed, sound=bool(abs(total - 1) <= allowed))
