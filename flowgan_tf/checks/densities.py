"""Checks of a density: its integral, its precision, and whether it is what prior and bijector say it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.spatial
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.base.progress import Task
from flowgan_tf.checks.bijections import noise_round_trip, root_eps, rounded, target_part, worst
from flowgan_tf.checks.bounds import LEAST, MOST_DIMENSIONS, bounds
from flowgan_tf.checks.finding import Finding
from flowgan_tf.checks.samples import COARSE, are_coarse, check_cells, check_moves, check_noise, count_for
from flowgan_tf.checks.target import Target

_GRID = {1: 4096, 2: 256, 3: 48}  # points along each of some dimensions; all of them are evaluated in seconds
_IN_CELL = {1: 64, 2: 16, 3: 6}  # points along each side of a cell in which samples are counted
_AT_ONCE = 2**15
_LOGITS = 18.0  # of the grid in [0, 1]: float32 has no numbers nearer to 1
_SPREADS = 6.0  # sinh(6) is 200: how many standard deviations the grid reaches to each side
_COARSE = 0.1  # difference between two grids from which on neither is trusted
_ROUNDINGS = 30
_POINTS, _NEIGHBORS = 40_000, 8  # of importance sampling


def check_density(target: Target, values: tf.Tensor, seed: int) -> Iterator[Finding]:
  """Applies all checks at values `[n, ...]` in the dtype of the distribution."""
  found = np.shape(target.distribution.log_prob(values, **target.rows(np.arange(len(values))).keywords))
  if found != (len(values),):
    note = f'it is {list(found)} for {len(values)} values; each needs one number.'
    yield Finding(check='shape of log_prob', sound=False, where=target.name, note=note)
    return
  log_prob = target.log_prob(values)
  moved = np.abs(target.log_prob(rounded(values)) - log_prob)
  size = int(np.prod(values.shape[1:]))
  allowed = root_eps(values.dtype) * (size + np.abs(log_prob)) + _ROUNDINGS * moved
  by_itself = target.log_prob(values[:1])
  yield worst('log_prob alone and in a batch', np.abs(by_itself - log_prob[:1]), allowed[:1])
  if target.prior is not None:
    part, (label, _) = target_part(target, values), target.of_parts(len(values))
    of_prior = np.asarray(target.prior.log_prob(part.noise(values), **label), np.float64)
    error = np.abs(of_prior + part.log_det(values) - log_prob)
    yield worst('log_prob, prior and bijector', error, allowed)
  if target.wide is not None:
    wide = target.wide.log_prob(tf.cast(values, tf.float64))
    yield worst(f'log_prob, {values.dtype.name} and float64', np.abs(wide - log_prob), allowed)
  if target.is_flow and target.distribution.classes is not None:
    yield from check_classes(target.distribution, values)
  one = target.rows(np.zeros(1, int))  # for one condition
  yield from check_total((target.wide or target).rows(np.zeros(1, int)), values, seed)
  yield from check_draws(one, seed)


def check_classes(flow: Any, values: tf.Tensor) -> Iterator[Finding]:
  """Checks that the probabilities of the classes have the sum 1, and that p(x) is a sum over them."""
  total = float(np.sum(np.asarray(flow.class_probs, np.float64)))
  yield worst('probabilities of the classes, less 1', np.array([abs(total - 1)]), np.array([1e-5]))
  of_classes = scipy.special.logsumexp(np.asarray(flow.class_log_probs(values), np.float64), axis=-1)
  log_prob = np.asarray(flow.log_prob(values), np.float64)
  yield worst(
    'log_prob, sum over classes', np.abs(of_classes - log_prob), root_eps(values.dtype) * (1 + np.abs(log_prob))
  )


def check_draws(target: Target, seed: int) -> Iterator[Finding]:
  """Compares samples for one condition with the density, and their noise with the prior."""
  rows = target.rows(np.zeros(count_for(target.event_shape), int))
  samples = np.asarray(rows.sample(count_for(target.event_shape), seed + 1))
  log_prob = rows.log_prob(samples)
  wrong = ~np.isfinite(log_prob)
  note = f'sample {wrong.argmax()} has the log density {log_prob[wrong.argmax()]:g}.' if wrong.any() else ''
  yield Finding(
    check='samples without a finite density', found=float(wrong.sum()), allowed=0, sound=not wrong.any(), note=note
  )
  if wrong.any():
    return
  with Task('moving samples'):
    yield from check_moves(rows.log_prob, samples, seed, target.interval)
  if target.prior is not None and target.prior.batch_shape.rank == 0:
    part, (label, _) = target_part(rows, tf.constant(samples)), rows.of_parts(len(samples))
    prior = target.prior.sample(len(samples), seed=(seed, 2), **label)
    yield noise_round_trip(part._replace(start=prior))

    def log_prior(noise):
      return np.asarray(target.prior.log_prob(tf.constant(noise), **label), np.float64)

    yield check_noise(np.asarray(part.start), np.asarray(prior), log_prior, seed)


def check_total(target: Target, values: tf.Tensor, seed: int) -> Iterator[Finding]:
  """Checks that the densities of distribution and prior have the integral 1, as far as it can be computed."""
  size = int(np.prod(values.shape[1:]))
  name = 'integral of the density'
  if size > MOST_DIMENSIONS:
    note = f'not computed in {size:,} dimensions; up to {max(_GRID)} are integrated, up to {MOST_DIMENSIONS} bounded.'
    yield Finding(check=name, note=note)
  elif size > max(_GRID):
    yield bounds(name, target, seed)
  else:
    draws = np.asarray(target.sample(2000, seed))
    if are_coarse(draws):
      yield Finding(check=name, note=COARSE)
    else:
      grid = Grid(name, target.log_prob, draws.astype(np.float64), target.interval)
      yield grid.integral()
      yield grid.counts()
  prior = target.prior
  while isinstance(prior, tfp.distributions.Sample | tfp.distributions.Independent):
    prior = prior.distribution  # Its numbers are independent, so one of them suffices.
  if prior is not None and prior.batch_shape.rank == 0 and prior.event_shape.num_elements() <= max(_GRID):
    label: dict[str, Any] = {'label': 0} if getattr(prior, 'classes', None) else {}
    draws = np.asarray(prior.sample(2000, seed=(seed, 1), **label), np.float64)
    grid = Grid('integral of the prior', lambda x: prior.log_prob(tf.cast(x, prior.dtype), **label), draws)
    found = grid.integral()
    yield dataclasses.replace(found, where=prior.name, part=prior.name if found.sound is False else None)


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
    doubtful = self._is_too_coarse or abs(total - halved) > _COARSE * max(1, total)
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
    z = (points[i : i + 500, np.newaxis] - flat) / widths[:, np.newaxis]
    proposal[i : i + 500] = np.mean(np.prod(0.375 * (1 + z**2 / 4) ** -2.5 / widths[:, np.newaxis], axis=-1), axis=1)
  ratios = _densities(name, log_prob, points.reshape(-1, *draws.shape[1:])) / proposal
  return float(ratios.mean()), float(ratios.std() / np.sqrt(_POINTS))
