"""Checks of a density: its integral, its precision, and whether it is what prior and bijector say it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.checks.bijections import noise_round_trip, target_part
from flowgan_tf.checks.bounds import MOST_DIMENSIONS, bounds
from flowgan_tf.checks.finding import Finding
from flowgan_tf.checks.grids import MOST_ON_GRID, Grid, check_on_grid
from flowgan_tf.checks.rounding import log_prob_with_allowed, root_eps, worst
from flowgan_tf.checks.samples import check_noise, check_samples, count_for
from flowgan_tf.checks.target import Target


def check_density(target: Target, values: tf.Tensor, seed: int) -> Iterator[Finding]:
  """Applies all checks at values `[n, ...]` in the dtype of the distribution."""
  found = np.shape(target.distribution.log_prob(values, **target.rows(np.arange(len(values))).keywords))
  if found != (len(values),):
    note = f'it is {list(found)} for {len(values)} values; each needs one number.'
    yield Finding(check='shape of log_prob', sound=False, where=target.name, note=note)
    return
  log_prob, allowed = log_prob_with_allowed(target.log_prob, values)
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
  one = (target.wide or target).rows(np.zeros(1, int))  # for one condition; in float32, tails of noise may be lost
  yield from check_total(one, values, seed)
  yield from check_draws(one, seed)


def check_classes(flow: Any, values: tf.Tensor) -> Iterator[Finding]:
  """Checks that the probabilities of the classes have the sum 1, and that p(x) is a sum over them."""
  total = float(np.sum(np.asarray(flow.class_probs, np.float64)))
  yield worst('probabilities of the classes, less 1', np.array([abs(total - 1)]), np.array([1e-5]))
  of_classes = scipy.special.logsumexp(np.asarray(flow.class_log_probs(values), np.float64), axis=-1)
  log_prob = np.asarray(flow.log_prob(values), np.float64)
  yield worst(
    'log_prob, sum over classes',
    np.abs(of_classes - log_prob),
    root_eps(values.dtype.as_numpy_dtype) * (1 + np.abs(log_prob)),
  )


def check_draws(target: Target, seed: int) -> Iterator[Finding]:
  """Compares samples for one condition with the density, and their noise with the prior."""
  rows = target.rows(np.zeros(count_for(target.event_shape), int))
  samples = np.asarray(rows.sample(count_for(target.event_shape), seed + 1))
  if not (yield from check_samples(rows.log_prob, samples, seed, target.interval)):
    return
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
    note = f'not computed in {size:,} dimensions; up to {MOST_ON_GRID} are integrated, up to {MOST_DIMENSIONS} bounded.'
    yield Finding(check=name, note=note)
  elif size > MOST_ON_GRID:
    yield bounds(name, target, seed)
  else:
    yield from check_on_grid(name, target.log_prob, np.asarray(target.sample(2000, seed)), target.interval)
  prior = target.prior
  while isinstance(prior, tfp.distributions.Sample | tfp.distributions.Independent):
    prior = prior.distribution  # Its numbers are independent, so one of them suffices.
  if prior is not None and prior.batch_shape.rank == 0 and prior.event_shape.num_elements() <= MOST_ON_GRID:
    label: dict[str, Any] = {'label': 0} if getattr(prior, 'classes', None) else {}
    draws = np.asarray(prior.sample(2000, seed=(seed, 1), **label), np.float64)
    grid = Grid('integral of the prior', lambda x: prior.log_prob(tf.cast(x, prior.dtype), **label), draws)
    found = grid.integral()
    yield dataclasses.replace(found, where=prior.name, part=prior.name if found.sound is False else None)
