"""Checks whether samples follow a density, from values of its logarithm alone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

from flowgan_tf.base.progress import Task
from flowgan_tf.checks.finding import Finding

_MOST, _LEAST = 4096, 1024  # samples
_NUMBERS = 2**17  # in all samples together, at most, but for `_LEAST` samples
_SHIFTS = 8  # random directions
_MOVED = 0.5  # of log-densities, for nine of ten samples: more than float32 loses, and little enough for a mean
_ALLOWED = 4.9  # standard errors; a normal number is further away once in a million times
_EXPECTED = 20.0  # samples in a cell, at least
# Relative error of the grid that we allow in each cell, besides three times what half of its points change.
_OF_GRID = 0.02
_COARSE = 0.02  # of a standard deviation: distance of neighbouring floats from which on samples are no continuum
_LARGEST = np.finfo(np.float64).max
_INFINITE = 0.1  # share of samples
_ENDS, _PILED = 1e-3, 0.05  # of the range, from its ends; share of numbers there that looks like clipping

COARSE = 'neighbouring floats are too far apart here to judge.'

LogProb = Callable[[np.ndarray], np.ndarray]


def are_coarse(samples: np.ndarray) -> bool:
  """Whether floats where samples `[n, ...]` lie are so far apart, beside their spread, that they are no continuum."""
  return bool((np.median(np.spacing(np.abs(samples)), axis=0) > _COARSE * samples.std(axis=0, dtype=np.float64)).any())


def count_for(shape: tuple[int, ...]) -> int:
  """Returns how many samples of a shape are compared with the density."""
  return int(np.clip(_NUMBERS // max(1, int(np.prod(shape))), _LEAST, _MOST))


def check_finite(log_prob: np.ndarray) -> Finding:
  """Checks log-densities of samples: none may be NaN or -inf; one in ten may be inf, at the end of a support."""
  wrong = ~(log_prob > -np.inf)
  if np.mean(log_prob == np.inf) > _INFINITE:
    wrong |= log_prob == np.inf
  note = f'sample {wrong.argmax()} has the log density {log_prob[wrong.argmax()]:g}.' if wrong.any() else ''
  name = 'samples without a finite density'
  return Finding(check=name, found=float(wrong.sum()), allowed=0, sound=not wrong.any(), note=note)


def check_samples(
  log_prob: LogProb, samples: np.ndarray, seed: int, interval: tuple | None = None
) -> Generator[Finding, None, bool]:
  """Checks that samples have finite densities and that moves leave them alike; returns whether they are finite."""
  yield (finite := check_finite(log_prob(samples)))
  if not finite.sound:
    return False
  with Task('moving samples'):
    yield from check_moves(log_prob, samples, seed, interval)
  return True


def check_moves(log_prob: LogProb, samples: np.ndarray, seed: int, interval: tuple | None = None) -> Iterator[Finding]:
  """Checks that a sample is as likely to move away from a place as to move there.

  ```none
  E_p[p(T(x)) |det T'(x)| / p(x)] = 1   for each invertible map T of the support to itself
  ```

  `T` stretches samples about their median, `T(x) = m + e^t (x - m)`, or shifts them along a random direction. The means
  for `T` and for its inverse are both 1, so their difference is 0, whatever the constant of `p` is. `t` is so small
  that log-densities move by about 0.5. In the limit these are Stein's identities. They find samples that are too wide,
  too narrow or displaced in any number of dimensions. They do not see how much of the mass is in each of separate
  parts.

  Args:
    log_prob: Log-density of values `[n, *shape]`, float64 `[n]`.
    samples: Samples `[n, *shape]`.
    seed: Seed of the directions.
    interval: Ends of the interval in which all numbers lie, or None. The logits of such samples are moved.

  Source: Jackson Gorham, Lester Mackey. Measuring Sample Quality with Stein's Method. NeurIPS 2015, section 2.
  """
  to_places, to_values = _coordinates(samples.shape[1:], interval)
  x, size = to_places(samples), int(np.prod(samples.shape[1:]))
  middle, spread = np.median(x, axis=0), x.std(axis=0)
  rng = np.random.default_rng(seed)

  def density(places):
    values, log_det = to_values(places)
    return np.asarray(log_prob(values), np.float64) + log_det

  before = density(x)
  finite = np.isfinite(before)  # A density may be infinite at a point, such as the end of a support.
  x, before = x[finite], before[finite]

  def stretch(t):
    return middle + np.exp(t) * (x - middle), t * size

  def shift(direction):
    return lambda t: (x + t * direction, 0.0)

  directions = [spread * rng.normal(size=size) / np.sqrt(size) for _ in range(_SHIFTS)]
  moves = {'samples, stretched': [stretch], 'samples, shifted': [shift(direction) for direction in directions]}
  for name, alike in moves.items():
    if are_coarse(samples):
      yield Finding(check=name, note=COARSE)
      continue
    errors, t = [], 0.1
    for move in alike:
      error, t = _standard_errors(move, density, before, t)
      errors.append(abs(error))
    if np.isfinite(errors).all():
      yield _judged(name, max(errors), samples)
    else:
      yield Finding(check=name, note='samples reach the end of the support, where the density jumps to 0: not judged.')


def _standard_errors(move: Callable, density: LogProb, before: np.ndarray, t: float) -> tuple[float, float]:
  """Returns the mean difference of a move and its inverse in standard errors, and the `t` at which it was measured.

  The search for `t` starts at the given one. The difference is NaN if each move takes samples out of the support.
  """
  for _ in range(15):
    there, back = (density(places) + log_det - before for places, log_det in (move(t), move(-t)))
    moved = np.quantile(np.minimum(np.abs([there, back]), _LARGEST), 0.9)  # Between two infinities lies NaN.
    if np.isfinite([there, back]).all() and 0.5 * _MOVED <= moved <= 2 * _MOVED:
      break
    t *= np.clip(_MOVED / moved, 0.1, 3.0) if np.isfinite(moved) and moved > 0 else 0.1 if moved else 3.0
  if not np.isfinite([there, back]).all():
    return np.nan, t
  difference = np.exp(np.minimum(there, 20)) - np.exp(np.minimum(back, 20))
  error = difference.std() / np.sqrt(len(difference))
  return float(difference.mean() / error) if error > 0 else 0.0, t


def check_cells(mass: np.ndarray, halved: np.ndarray, places: np.ndarray, samples: np.ndarray) -> Finding:
  """Compares how samples and how the density divide among cells, through Pearson's chi-squared test.

  Cells in which few samples are expected are taken together, the emptiest ones first. So samples where there is next to
  no density count as much as gaps where there is some.

  Args:
    mass: Integrals over the cells, floats of any shape.
    halved: The same, from half of the points of the grid.
    places: The cell of each sample, as a position in the flat `mass`, ints `[n]`.
    samples: The samples, for the note.
  """
  name = 'samples in cells, integral'
  counts = np.bincount(places, minlength=mass.size).astype(float)
  expected, error = (len(places) / mass.sum() * part.ravel() for part in (mass, np.abs(mass - halved)))
  order = np.argsort(expected, kind='stable')
  groups = np.minimum(np.cumsum(expected[order]) // _EXPECTED, len(places) // _EXPECTED - 1).astype(int)
  number = groups.max() + 1
  counts, expected, error = (np.bincount(groups, part[order], number) for part in (counts, expected, error))
  filled = expected > 0
  variance = expected + (3 * error) ** 2 + (_OF_GRID * expected) ** 2
  statistic = float(np.sum((counts - expected)[filled] ** 2 / variance[filled]))
  found = float(scipy.stats.norm.isf(max(scipy.stats.chi2.sf(statistic, filled.sum()), 1e-300)))
  return _judged(name, found, samples)


def check_noise(noise: np.ndarray, prior: np.ndarray, log_prob: LogProb, seed: int) -> Finding:
  """Compares the noise of samples with draws of the prior, by Kolmogorov and Smirnov's test.

  It compares their log-densities and their projections to random directions.

  Args:
    noise: `encode(samples)`, `[n, *shape]`.
    prior: Draws of the prior, `[m, *shape]`.
    log_prob: Log-density of the prior.
    seed: Seed of the directions.
  """
  flat = [values.reshape(len(values), -1) for values in (noise, prior)]
  directions = np.random.default_rng(seed).normal(size=(flat[0].shape[1], _SHIFTS))
  pairs: list[Any] = [[log_prob(values) for values in (noise, prior)]]
  pairs += zip(*((values @ directions).T for values in flat), strict=True)
  probability = min(scipy.stats.ks_2samp(*pair, method='asymp').pvalue for pair in pairs)
  return _judged('noise of samples, prior', float(scipy.stats.norm.isf(max(probability, 1e-300))), noise)


def _judged(name: str, found: float, samples: np.ndarray) -> Finding:
  sound = bool(found <= _ALLOWED)
  return Finding(check=name, found=found, allowed=_ALLOWED, sound=sound, note='' if sound else _why(found, samples))


def _why(found: float, samples: np.ndarray) -> str:
  """Says that samples are not from the density, and whether they pile up at the ends of an interval."""
  flat = samples.reshape(len(samples), -1)
  low, high = flat.min(), flat.max()
  share = np.mean((flat < low + _ENDS * (high - low)) | (flat > high - _ENDS * (high - low)))
  piled = f'; {share:.0%} of their numbers pile up at {low:.4g} or {high:.4g}' if share > _PILED else ''
  return f'samples are {found:.1f} standard errors away from the density{piled}.'


def _coordinates(shape: tuple[int, ...], interval: tuple | None) -> tuple[Callable, Callable]:
  """Returns functions from values `[n, *shape]` to places `[n, d]`, and back to values and log-determinants."""

  def flat(values):
    return np.asarray(values, np.float64).reshape(len(values), -1)

  if interval is None:
    return flat, lambda places: (places.reshape(-1, *shape), 0.0)
  low, high = interval
  tiny = 1e-7

  def to_places(values):
    inside = np.clip((flat(values) - low) / (high - low), tiny, 1 - tiny)
    return np.log(inside) - np.log1p(-inside)

  def to_values(places):
    inside = scipy.special.expit(places)
    log_det = np.sum(np.log(inside) + np.log1p(-inside), axis=1) + places.shape[1] * np.log(high - low)
    return (low + (high - low) * inside).reshape(-1, *shape), log_det

  return to_places, to_values
