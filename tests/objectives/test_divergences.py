import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, optimize, special, stats

from flowgan_tf.objectives.divergences import DIVERGENCES

N = 20_000

# (data P, model Q); all ratios have light enough tails for a grid of quantiles.
PAIRS = {
  'shifted normals': (stats.norm(0.0, 1.0), stats.norm(0.7, 1.0)),
  'wider normal': (stats.norm(0.2, 1.0), stats.norm(-0.1, 1.2)),
  'betas': (stats.beta(2.0, 3.0), stats.beta(2.5, 2.0)),
  'exponentials': (stats.expon(scale=1.0), stats.expon(scale=1.3)),
}

# The definitions themselves, as integrands of (p, q), with no conjugate and no critic in them.
INTEGRANDS = {
  'jensen_shannon': lambda p, q: special.rel_entr(p, (p + q) / 2) + special.rel_entr(q, (p + q) / 2),
  'kl': special.rel_entr,
  'reverse_kl': lambda p, q: special.rel_entr(q, p),
  'hellinger': lambda p, q: (np.sqrt(p) - np.sqrt(q)) ** 2,
  'total_variation': lambda p, q: 0.5 * np.abs(p - q),
  'least_squares': lambda p, q: 0.125 * (p - q) ** 2 / (p + q),
}

# The optimal critic as a function of log(p / q).
OPTIMAL_CRITICS = {
  'jensen_shannon': lambda r: r,
  'kl': lambda r: 1.0 + r,
  'reverse_kl': lambda r: r,
  'hellinger': lambda r: r / 2,
  'total_variation': lambda r: 50.0 * np.sign(r),
  'least_squares': special.expit,
  'relativistic': lambda r: r,
}


def over_pairs(winner, loser):
  return -np.mean([special.log_expit(w - v) for w in winner for v in loser])


# (loss of the critic, loss of the generator), written out in float64 for outputs d on data and g on samples.
LOSSES = {
  'wasserstein': (lambda d, g: g.mean() - d.mean(), lambda d, g: -g.mean()),
  'jensen_shannon': (
    lambda d, g: -special.log_expit(d).mean() - special.log_expit(-g).mean(),
    lambda d, g: -special.log_expit(g).mean(),
  ),
  'kl': (lambda d, g: np.exp(g - 1).mean() - d.mean(), lambda d, g: -np.exp(g - 1).mean()),
  'reverse_kl': (lambda d, g: np.exp(-d).mean() + g.mean() - 1, lambda d, g: 1 - g.mean()),
  'hellinger': (lambda d, g: np.exp(-d).mean() + np.exp(g).mean() - 2, lambda d, g: 1 - np.exp(g).mean()),
  'total_variation': (lambda d, g: (np.tanh(g).mean() - np.tanh(d).mean()) / 2, lambda d, g: -np.tanh(g).mean() / 2),
  'least_squares': (lambda d, g: ((d - 1) ** 2).mean() / 2 + (g**2).mean() / 2, lambda d, g: ((g - 1) ** 2).mean() / 2),
  'relativistic': (over_pairs, lambda d, g: over_pairs(g, d)),
}


def quantile_grid(distribution, n=N):
  return distribution.ppf((np.arange(n) + 0.5) / n)


def optimal_value(name, pair):
  n = 2000 if name == 'relativistic' else N  # Whose losses are of all pairs.
  points = [quantile_grid(distribution, n) for distribution in pair]
  outputs = [OPTIMAL_CRITICS[name](pair[0].logpdf(x) - pair[1].logpdf(x)) for x in points]
  return float(DIVERGENCES[name].value(*map(tf.constant, outputs)))


def integrated_divergence(name, pair):
  low = min(d.ppf(1e-12) for d in pair)
  high = max(d.isf(1e-12) for d in pair)
  if name == 'relativistic':  # Jensen-Shannon between a pair of an image and a sample, and the same pair swapped.
    width = (high - low) / 1500
    p, q = (d.pdf(low + width * (np.arange(1500) + 0.5)) for d in pair)
    return 0.5 * INTEGRANDS['jensen_shannon'](np.outer(p, q), np.outer(q, p)).sum() * width**2
  return integrate.quad(lambda x: INTEGRANDS[name](pair[0].pdf(x), pair[1].pdf(x)), low, high, limit=200)[0]


@pytest.mark.parametrize('pair', PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize('name', OPTIMAL_CRITICS)
def test_value_of_the_optimal_critic_is_the_divergence(name, pair):
  expected = integrated_divergence(name, pair)
  assert expected > 0.004
  np.testing.assert_allclose(optimal_value(name, pair), expected, rtol=0.01, atol=2e-4)


@pytest.mark.parametrize('pair, difference, s, t', [('shifted normals', 0.7, 1, 1), ('wider normal', 0.3, 1, 1.2)])
def test_closed_forms_of_two_normals(pair, difference, s, t):
  """They check the integrals above as well, and that KL is from data to model."""
  variance = s**2 + t**2
  closed = {
    'kl': math.log(t / s) + (s**2 + difference**2) / (2 * t**2) - 0.5,
    'reverse_kl': math.log(s / t) + (t**2 + difference**2) / (2 * s**2) - 0.5,
    'hellinger': 2 - 2 * math.sqrt(2 * s * t / variance) * math.exp(-(difference**2) / (4 * variance)),
  }
  if s == t:
    closed['total_variation'] = 2 * stats.norm.cdf(difference / 2) - 1
  for name, expected in closed.items():
    np.testing.assert_allclose(optimal_value(name, PAIRS[pair]), expected, rtol=5e-3, err_msg=name)


def test_wasserstein_value_of_the_optimal_critic_is_the_distance():
  data, model = quantile_grid(stats.norm(1.5, 1.0)), quantile_grid(stats.norm(-0.5, 1.0))
  np.testing.assert_allclose(DIVERGENCES['wasserstein'].value(data, model), 2.0, rtol=1e-5)
  data, model = quantile_grid(stats.norm(0.0, 1.0)), quantile_grid(stats.norm(0.0, 2.0))
  value = DIVERGENCES['wasserstein'].value(-np.abs(data), -np.abs(model))
  np.testing.assert_allclose(value, stats.wasserstein_distance(data, model), rtol=1e-5)


@pytest.mark.parametrize('scale', [0.01, 1.0, 50.0])
@pytest.mark.parametrize('name', DIVERGENCES)
def test_losses_written_out(name, scale):
  """And their gradients, beside differences of the same."""
  rng = np.random.default_rng(0)
  outputs = [rng.uniform(-scale, scale, size=n).astype(np.float32) for n in (7, 5)]
  for values in outputs:
    values[:2] = -scale, scale
  divergence, wide = DIVERGENCES[name], [values.astype(np.float64) for values in outputs]
  for loss, expected in zip((divergence.critic_loss, divergence.generator_loss), LOSSES[name], strict=True):
    variables = [tf.Variable(values) for values in outputs]
    with tf.GradientTape() as tape:
      result = loss(*variables)
    np.testing.assert_allclose(result, expected(*wide), rtol=2e-5, atol=5e-7)
    gradient = np.concatenate(tape.gradient(result, variables, unconnected_gradients='zero'))
    if scale == 50.0:
      assert np.isfinite(gradient).all()
    else:
      slopes = optimize.approx_fprime(np.concatenate(wide), lambda x, expected=expected: expected(x[:7], x[7:]), 1e-7)
      np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-6)
  constant = {'jensen_shannon': math.log(4), 'least_squares': 0.25, 'relativistic': math.log(2)}.get(name, 0.0)
  np.testing.assert_allclose(divergence.value(*outputs), constant - LOSSES[name][0](*wide), rtol=2e-5, atol=5e-7)


def test_jensen_shannon_is_linear_in_outputs_beyond_the_range_of_exp():
  divergence = DIVERGENCES['jensen_shannon']
  assert divergence.critic_loss(tf.constant([-200.0]), tf.constant([300.0])) == 500.0
  assert divergence.generator_loss(None, tf.constant([-200.0])) == 200.0


@pytest.mark.parametrize('name', DIVERGENCES)
def test_shapes_and_dtypes(name):
  assert DIVERGENCES[name].relativistic == (name == 'relativistic')
  real, fake = tf.constant([0.5, -0.25, 2.0]), tf.constant([0.75, -1.5])
  for loss in (getattr(DIVERGENCES[name], kind) for kind in ('critic_loss', 'generator_loss', 'value')):
    for dtype in (tf.float16, tf.bfloat16, tf.float32, tf.float64):
      result = loss(*(tf.cast(v[:, tf.newaxis], dtype) for v in (real, fake)))
      assert result.dtype == tf.float32 and result.shape == ()
      np.testing.assert_array_equal(result, loss(real, fake))
    of_critics = [loss(scale * real, scale * fake) for scale in (1.0, -2.0)]
    several = loss(*(tf.stack([v, -2.0 * v], axis=1) for v in (real, fake)))
    np.testing.assert_allclose(several, tf.reduce_mean(of_critics), rtol=1e-6, atol=1e-7)
