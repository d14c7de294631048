"""Checks of a density: its integral, its precision, and whether it is what prior and bijector say it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.spatial
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.base.progress import Task
from flowgan_tf.checks.bijections import root_eps, rounded, target_part, worst
from flowgan_tf.checks.bounds import LEAST, MOST_DIMENSIONS, bounds
from flowgan_tf.checks.finding import Finding
from flowgan_tf.checks.target import Target

_GRID = {1: 4096, 2: 256, 3: 48}  # points along each of some dimensions; all of them are evaluated in seconds
_AT_ONCE = 2**15
_LOGITS = 18.0  # of the grid in [0, 1]: float32 has no numbers nearer to 1
_SPREADS = 6.0  # sinh(6) is 200: how many standard deviations the grid reaches to each side
_COARSE = 0.1  # difference between two grids from which on neither is trusted
_ROUNDINGS = 30
_POINTS, _NEIGHBORS = 40_000, 8  # of importance sampling


def check_density(target: Target, values: tf.Tensor, seed: int) -> Iterator[Finding]:
  """Applies all checks at values `[n, ...]` in the dtype of the distribution."""
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
  yield from check_total((target.wide or target).rows(np.zeros(1, int)), values, seed)


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
    draws = np.asarray(target.sample(2000, seed), np.float64)
    yield integral(name, target.log_prob, draws, target.interval)
  prior = target.prior
  while isinstance(prior, tfp.distributions.Sample | tfp.distributions.Independent):
    prior = prior.distribution  # Its numbers are independent, so one of them suffices.
  if prior is not None and prior.batch_shape.rank == 0 and prior.event_shape.num_elements() <= max(_GRID):
    label: dict[str, Any] = {'label': 0} if getattr(prior, 'classes', None) else {}
    draws = np.asarray(prior.sample(2000, seed=(seed, 1), **label), np.float64)
    found = integral('integral of the prior', lambda x: prior.log_prob(tf.cast(x, prior.dtype), **label), draws)
    yield Finding(**{**vars(found), 'where': prior.name, 'part': None if found.sound else prior.name})


def integral(name: str, log_prob: Callable, draws: np.ndarray, interval: tuple | None = None) -> Finding:
  """Integrates `exp(log_prob)` by the trapezoidal rule in one to three dimensions.

  Coordinates spread the grid: logits in an interval, and elsewhere the inverse hyperbolic sine of what is measured in
  standard deviations of draws. We allow one percent, and three times what half of the points change. If that calls
  an integral in two or three dimensions wrong, and importance sampling finds more, importance sampling decides.
  """
  shape, flat = draws.shape[1:], draws.reshape(len(draws), -1)
  size = flat.shape[1]
  if interval is not None:
    low, high = interval
    u = np.linspace(-_LOGITS, _LOGITS, _GRID[size])
    inside = 1 / (1 + np.exp(-u))
    x = [low + (high - low) * inside] * size
    weights = [(high - low) * inside * (1 - inside)] * size
  else:
    u = np.linspace(-_SPREADS, _SPREADS, _GRID[size])
    spread = np.maximum(flat.std(axis=0), 1e-12)
    x = [m + s * np.sinh(u) for m, s in zip(np.median(flat, axis=0), spread, strict=True)]
    weights = [s * np.cosh(u) for s in spread]
  grid = np.stack(np.meshgrid(*x, indexing='ij'), axis=-1).reshape(-1, *shape)
  densities = _densities(name, log_prob, grid)
  if densities.max() < np.median(np.exp(np.asarray(log_prob(draws), np.float64))):
    return Finding(check=name, note='most samples lie between the points of the grid: too few to judge.')
  densities = densities.reshape([len(u)] * size)
  for axis, weight in enumerate(weights):
    densities = densities * weight.reshape([-1 if a == axis else 1 for a in range(size)])
  step = u[1] - u[0]
  total = densities.sum() * step**size
  coarse = densities[(slice(None, None, 2),) * size].sum() * (2 * step) ** size
  if abs(total - coarse) > _COARSE * max(1, total):
    return Finding(check=name, found=float(total), note=f'half of the points give {coarse:.3g}: too few to judge.')
  allowed = LEAST + 3 * abs(total - coarse)
  if size > 1 and abs(total - 1) > allowed:  # A funnel, for instance, has a neck between the points of any grid.
    other, error = _integral_by_draws(name, log_prob, draws)
    if other - total > 2 * LEAST + 3 * error:  # Far from all draws, the grid alone sees what is too much.
      total, allowed = other, 2 * LEAST + 3 * error
  sound = bool(abs(total - 1) <= allowed)
  return Finding(check=f'{name}, less 1', found=float(total - 1), allowed=float(allowed), sound=sound)


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
