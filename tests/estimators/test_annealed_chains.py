"""The chains of the generator `G(z) = z` in one dimension, whose images have the density N(0, 1 + sigma^2)."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from flowgan_tf.estimators.annealed_chains import PILOT_STEPS, AnnealedChains

SIGMA = 1.0


def simulate(n):
  """Noise, images, and the log density of the images."""
  noise, observation = np.random.default_rng(0).standard_normal((2, n, 1))
  images = noise + SIGMA * observation
  return noise, images, stats.norm.logpdf(images[:, 0], scale=np.sqrt(1 + SIGMA**2))


def anneal(images, posterior_sample=None, chains=1, steps=10, leapfrog_steps=2, progress=lambda: None):
  prior = tfp.distributions.Sample(tfp.distributions.Normal(np.float64(0), np.float64(1)), [1])
  annealed = AnnealedChains(tf.identity, prior, chains, steps, leapfrog_steps)
  return annealed.anneal(images, SIGMA, tf.constant([0, 0]), posterior_sample, progress)


@pytest.mark.parametrize('direction', ['forward', 'reverse'])
def test_weights_are_unbiased_with_few_temperatures(direction):
  """The mean weight of many chains is `p(x)`, that of many reverse chains `1 / p(x)`, however short the chains.

  Transitions that leave another temperature's target invariant give a biased mean, as TFP's
  `sample_annealed_importance_chain` does.
  """
  noise, images, truth = simulate(6000)
  if direction == 'forward':
    ratio = np.exp(anneal(images)[0][0] - truth)
  else:
    ratio = np.exp(anneal(images, tf.constant(noise))[0][0] + truth)
  assert ratio.std() > 0.2  # so that a bias could show
  assert abs(ratio.mean() - 1) < 4 * stats.sem(ratio) < 0.1


def test_step_sizes_give_the_best_acceptance():
  _, images, _ = simulate(20)
  log_weights, acceptance = anneal(images, chains=50, steps=200)
  assert log_weights.shape == (50, 20) and acceptance.shape == (200, 20)
  # The pilot begins with small steps, of which more are accepted.
  assert acceptance[:20].mean() > 0.8
  assert acceptance[100:].mean() == pytest.approx(0.65, abs=0.03)


def test_progress_is_told_of_every_temperature():
  calls = []
  anneal(simulate(2)[1], steps=7, progress=lambda: calls.append(1))
  assert len(calls) == PILOT_STEPS + 7
