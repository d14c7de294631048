"""Bounds on the integral of a density in more dimensions than a grid can have."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.base.progress import Task
from flowgan_tf.checks.finding import Finding
from flowgan_tf.checks.grids import LEAST
from flowgan_tf.checks.target import Target
from flowgan_tf.metrics.annealing import Annealed, Annealing

MOST_DIMENSIONS = 64  # In more, bounds of a trained flow are too far apart to say anything.
_CHAINS, _TEMPERATURES = 48, 100
_DRAWS = 2000  # which show where the density is
_ERRORS = 5  # standard errors that a mean weight may be above 1
_KNOWN = 0.2  # relative standard error of a mean weight from which on it is not trusted
_MARKOV = 1000  # By Markov's inequality, a mean weight is so many times too large with a probability of 1 in 1,000.
_CLOSE = 1.5  # upper over lower bound; from here on there is no verdict


def bounds(name: str, target: Target, seed: int) -> Finding:
  """Brackets the integral of a density by chains from a Gaussian to the density, and back.

  ```none
  Z = int p(x) dx,   E[w] = Z on the way from the Gaussian,   E[w'] = 1 / Z on the way from samples of p / Z
  ```

  `w` needs no samples of the density. If the mean of `w'` is above 1, the integral is below 1, or the alleged samples
  are not samples of the density: both are mistakes.
  """
  of_one = target.rows(np.zeros(1, int))
  draws = np.asarray(of_one.rows(np.zeros(_DRAWS, int)).sample(_DRAWS, seed), np.float64)
  shape = draws.shape[1:]
  places = draws.reshape(len(draws), -1)
  if target.interval is not None:
    low, high = target.interval
    inside = np.clip((places - low) / (high - low), 1e-9, 1 - 1e-9)
    places = np.log(inside) - np.log1p(-inside)
  middle, spread = np.median(places, axis=0), np.maximum(places.std(axis=0), 1e-12)
  normal = tfp.distributions.Independent(tfp.distributions.Normal(tf.zeros(len(middle), tf.float64), np.float64(1)), 1)

  def energy(u):
    """Returns the log of the Gaussian over the density, both in the coordinates u."""
    x, log_det = middle + spread * u, np.sum(np.log(spread))
    if target.interval is not None:
      log_det += tf.reduce_sum(tf.math.log_sigmoid(x) + tf.math.log_sigmoid(-x) + np.log(high - low), axis=-1)
      x = low + (high - low) * tf.sigmoid(x)
    values = tf.cast(tf.reshape(x, (-1, *shape)), target.distribution.dtype)
    keywords = of_one.rows(np.zeros(u.shape[0], int)).keywords
    return normal.log_prob(u) - tf.cast(target.distribution.log_prob(values, **keywords), tf.float64) - log_det

  annealing, temperatures = Annealing(normal.log_prob, energy), np.linspace(0, 1, _TEMPERATURES + 1) ** 2
  with Task(f'{name}, by chains', 2 * _TEMPERATURES, unit='temperatures', images=0) as task:
    start = normal.sample(_CHAINS + 1, seed=(seed, 0))
    there = annealing.run(start, (), temperatures, 1, tf.constant([seed, 1]), task)
    drawn = tf.constant(((places - middle) / spread)[:_CHAINS])
    back = annealing.run(drawn, (), temperatures[::-1], 1, tf.constant([seed, 2]), task, there.step_sizes)
  return _judged(f'{name}, by chains', there, back)


def _judged(name: str, there: Annealed, back: Annealed) -> Finding:
  (lower, lower_allowed), (inverse, inverse_allowed) = _mean(there), _mean(back)
  upper = 1 / inverse if inverse > 0 else np.inf
  found, allowed = max((lower, lower_allowed), (inverse, inverse_allowed), key=lambda pair: pair[0] / pair[1])
  low, high = sorted((lower, upper))  # Noise may swap two bounds that are close together.
  note = f'it is between {low:.3g} and {high:.3g}'
  if found > allowed:
    which = 'too large' if found == lower else 'too small, or its samples are not of this density'
    return Finding(check=name, found=found, allowed=allowed, sound=False, note=f'{note}: {which}.')
  if not upper < _CLOSE * lower:
    return Finding(check=name, note=f'{note}, too far apart to judge.')
  return Finding(check=name, found=found, allowed=allowed, sound=True, note=f'{note}, as far as its samples are right.')


def _mean(found: Annealed) -> tuple[float, float]:
  """Returns the mean weight, and how large it may be if its expectation is 1."""
  log_mean, log_square = float(found.log_means[-1, 0]), float(found.log_squares[0])
  mean = float(np.exp(log_mean))
  relative = np.sqrt(max(np.expm1(log_square - 2 * log_mean), 0) / _CHAINS)
  return mean, 1 + LEAST + _ERRORS * relative * mean if relative < _KNOWN else _MARKOV
