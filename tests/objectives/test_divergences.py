import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, special, stats

from flowgan_tf.objectives.divergences import DIVERGENCES

F_DIVERGENCES = [name for name in DIVERGENCES if name not in ('wasserstein', 'relativistic')]
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


def log_ratio(pair, x):
  return pair[0].logpdf(x) - pair[1].logpdf(x)


def optimal_value(name, pair, perturbation=lambda x: 0.0):
  n = 2000 if name == 'relativistic' else N  # Whose losses are of all pairs.
  points = [quantile_grid(distribution, n) for distribution in pair]
  outputs = [OPTIMAL_CRITICS[name](log_ratio(pair, x)) + perturbation(x) for x in points]
  return float(DIVERGENCES[name].value(*map(tf.constant, outputs)))


def integrated_divergence(name, pair):
  low = min(d.ppf(1e-12) for d in pair)
  high = max(d.isf(1e-12) for d in pair)
  if name == 'relativistic':  # Jensen-Shannon between a pair of an image and a sample, and the same pair swapped.
    width = (high - low) / 1500
    p, q = (d.pdf(low + width * (np.arange(1500) + 0.5)) for d in pair)
    return 0.5 * INTEGRANDS['jensen_shannon'](np.outer(p, q), np.outer(q, p)).sum() * width**2
  return integrate.quad(lambda x: INTEGRANDS[name](pair[0].pdf(x), pair[1].pdf(x)), low, high, limit=200)[0]


def test_registry():
  assert set(DIVERGENCES) == set(LOSSES)
  assert all(divergence.name == name for name, divergence in DIVERGENCES.items())
  penalties = {name: divergence.default_gradient_penalty for name, divergence in DIVERGENCES.items()}
  assert penalties == {**dict.fromkeys(F_DIVERGENCES, 0.0), 'wasserstein': 10.0, 'relativistic': 1.0}


@pytest.mark.parametrize('pair', PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize('name', [*F_DIVERGENCES, 'relativistic'])
def test_value_of_the_optimal_critic_is_the_divergence(name, pair):
  expected = integrated_divergence(name, pair)
  assert expected > 0.004
  np.testing.assert_allclose(optimal_value(name, pair), expected, rtol=0.01, atol=2e-4)


def test_closed_forms_of_two_normals():
  # N(m, 1) against N(m + 0.7, 1); the closed forms check the integrals above as well.
  pair, shift = PAIRS['shifted normals'], 0.7
  closed = {
    'kl': shift**2 / 2,
    'reverse_kl': shift**2 / 2,
    'hellinger': 2 - 2 * math.exp(-(shift**2) / 8),
    'total_variation': 2 * stats.norm.cdf(shift / 2) - 1,
  }
  for name, expected in closed.items():
    np.testing.assert_allclose(optimal_value(name, pair), expected, rtol=2e-3, err_msg=name)


def test_kl_is_from_data_to_model():
  pair, (s, t), m = PAIRS['wider normal'], (1.0, 1.2), 0.3
  kl = math.log(t / s) + (s**2 + m**2) / (2 * t**2) - 0.5
  reverse_kl = math.log(s / t) + (t**2 + m**2) / (2 * s**2) - 0.5
  assert abs(kl - reverse_kl) > 0.01
  np.testing.assert_allclose(optimal_value('kl', pair), kl, rtol=5e-3)
  np.testing.assert_allclose(optimal_value('reverse_kl', pair), reverse_kl, rtol=5e-3)


def test_wasserstein_value_of_the_optimal_critic_is_the_distance():
  data, model = quantile_grid(stats.norm(1.5, 1.0)), quantile_grid(stats.norm(-0.5, 1.0))
  np.testing.assert_allclose(DIVERGENCES['wasserstein'].value(data, model), 2.0, rtol=1e-5)
  data, model = quantile_grid(stats.norm(0.0, 1.0)), quantile_grid(stats.norm(0.0, 2.0))
  value = DIVERGENCES['wasserstein'].value(-np.abs(data), -np.abs(model))
  np.testing.assert_allclose(value, stats.wasserstein_distance(data, model), rtol=1e-5)
  np.testing.assert_allclose(value, math.sqrt(2 / math.pi), rtol=1e-3)


@pytest.mark.parametrize('name', [name for name in F_DIVERGENCES if name != 'total_variation'])
def test_any_other_critic_has_a_lower_value(name):
  pair = PAIRS['shifted normals']
  best = optimal_value(name, pair)
  for perturbation in (
    lambda x: 0.2,
    lambda x: -0.2,
    lambda x: 0.2 * np.sin(3 * x),
    lambda x: 0.1 * x,
    lambda x: -0.1 * x,
  ):
    assert optimal_value(name, pair, perturbation) < best - 1e-4


@pytest.mark.parametrize('shift', [-0.5, 0.5])
def test_total_variation_falls_for_another_threshold(shift):
  # The bounded activation makes the optimum a plateau, so only a wrong sign can lower the value.
  pair = PAIRS['shifted normals']
  outputs = [tf.constant(50.0 * np.sign(0.35 + shift - x)) for x in map(quantile_grid, pair)]
  assert float(DIVERGENCES['total_variation'].value(*outputs)) < optimal_value('total_variation', pair) - 0.01


@pytest.mark.parametrize(
  ('name', 'bound'),
  [
    ('jensen_shannon', math.log(4)),
    ('hellinger', 2.0),
    ('total_variation', 1.0),
    ('least_squares', 0.25),
    ('relativistic', math.log(2)),
  ],
)
def test_perfect_critic_reaches_the_bound_of_a_bounded_divergence(name, bound):
  outputs = (1.0, 0.0) if name == 'least_squares' else (50.0, -50.0)
  np.testing.assert_allclose(DIVERGENCES[name].value(*(tf.fill([3], v) for v in outputs)), bound, rtol=1e-6)


@pytest.mark.parametrize('scale', [0.01, 1.0, 50.0])
@pytest.mark.parametrize('name', DIVERGENCES)
def test_losses_written_out(name, scale):
  rng = np.random.default_rng(0)
  real, fake = (rng.uniform(-scale, scale, size=n).astype(np.float32) for n in (7, 5))
  real[:2] = fake[:2] = -scale, scale
  expected_critic, expected_generator = (
    loss(real.astype(np.float64), fake.astype(np.float64)) for loss in LOSSES[name]
  )
  divergence = DIVERGENCES[name]
  np.testing.assert_allclose(divergence.critic_loss(real, fake), expected_critic, rtol=2e-5, atol=5e-7)
  np.testing.assert_allclose(divergence.generator_loss(real, fake), expected_generator, rtol=2e-5, atol=5e-7)
  constant = {'jensen_shannon': math.log(4), 'least_squares': 0.25, 'relativistic': math.log(2)}.get(name, 0.0)
  np.testing.assert_allclose(divergence.value(real, fake), constant - expected_critic, rtol=2e-5, atol=5e-7)


@pytest.mark.parametrize('name', DIVERGENCES)
def test_losses_and_gradients_are_finite_for_extreme_outputs(name):
  divergence = DIVERGENCES[name]
  real = tf.constant([-50.0, 0.0, 50.0])
  fake = tf.constant([-50.0, 0.0, 50.0])
  with tf.GradientTape(persistent=True) as tape:
    tape.watch([real, fake])
    critic_loss, generator_loss = divergence.critic_loss(real, fake), divergence.generator_loss(real, fake)
  results = [
    critic_loss,
    generator_loss,
    *tape.gradient(critic_loss, [real, fake]),
    tape.gradient(generator_loss, fake),
  ]
  assert all(np.isfinite(result).all() for result in results)


def test_jensen_shannon_is_linear_in_outputs_beyond_the_range_of_exp():
  divergence = DIVERGENCES['jensen_shannon']
  assert divergence.critic_loss(tf.constant([-200.0]), tf.constant([300.0])) == 500.0
  assert divergence.generator_loss(None, tf.constant([-200.0])) == 200.0


@pytest.mark.parametrize('name', DIVERGENCES)
def test_non_finite_outputs_are_not_hidden(name):
  divergence = DIVERGENCES[name]
  good, bad = tf.constant([0.1, 0.2]), tf.constant([0.1, math.nan])
  assert np.isnan(divergence.generator_loss(good, bad))
  for arguments in ((bad, good), (good, bad)):
    assert np.isnan(divergence.critic_loss(*arguments))
    assert np.isnan(divergence.value(*arguments))


@pytest.mark.parametrize('name', DIVERGENCES)
def test_generator_raises_the_critic_outputs_and_critic_parts_them(name):
  divergence = DIVERGENCES[name]
  real, fake = tf.constant([-0.7, 0.1, 0.8]), tf.constant([-0.9, 0.2, 0.3, 0.6])
  with tf.GradientTape(persistent=True) as tape:
    tape.watch([real, fake])
    generator_loss, critic_loss = divergence.generator_loss(real, fake), divergence.critic_loss(real, fake)
    value = divergence.value(real, fake)
  generator_gradient = tape.gradient(generator_loss, fake).numpy()
  assert (generator_gradient < 0).all()
  assert (tape.gradient(critic_loss, real).numpy() < 0).all()
  if name == 'jensen_shannon':
    np.testing.assert_allclose(generator_gradient, -special.expit(-fake.numpy()) / 4, rtol=1e-6)
  elif name == 'least_squares':
    np.testing.assert_allclose(generator_gradient, (fake.numpy() - 1) / 4, rtol=1e-6)
  elif name == 'relativistic':
    slopes = -special.expit(real.numpy()[:, np.newaxis] - fake.numpy()).sum(axis=0) / 12
    np.testing.assert_allclose(generator_gradient, slopes, rtol=1e-6)
  else:
    assert (tape.gradient(critic_loss, fake).numpy() > 0).all()
    np.testing.assert_allclose(generator_gradient, tape.gradient(value, fake), rtol=1e-6)


@pytest.mark.parametrize('name', DIVERGENCES)
def test_shapes_and_dtypes(name):
  divergence = DIVERGENCES[name]
  real, fake = tf.constant([0.5, -0.25, 2.0]), tf.constant([0.75, -1.5])
  flat = [divergence.critic_loss(real, fake), divergence.value(real, fake), divergence.generator_loss(real, fake)]
  for dtype in (tf.float16, tf.bfloat16, tf.float32, tf.float64):
    column_real, column_fake = (tf.cast(v[:, tf.newaxis], dtype) for v in (real, fake))
    column = [
      divergence.critic_loss(column_real, column_fake),
      divergence.value(column_real, column_fake),
      divergence.generator_loss(column_real, column_fake),
    ]
    assert all(result.dtype == tf.float32 and result.shape == () for result in column)
    np.testing.assert_array_equal(column, flat)


def test_the_best_relativistic_critic_of_two_points():
  """Only the difference t of its outputs matters: the best one is log(p1 q2 / (p2 q1))."""
  p, q, n = np.array([0.7, 0.3]), np.array([0.4, 0.6]), 10

  def value(t):
    outputs = [np.repeat([t, 0.0], np.round(n * weights).astype(int)) for weights in (p, q)]
    return float(DIVERGENCES['relativistic'].value(*(tf.constant(v, tf.float32) for v in outputs)))

  first, second = p[0] * q[1], p[1] * q[0]
  best = np.log(first / second)
  closed = (first + second) * math.log(2) + first * special.log_expit(best) + second * special.log_expit(-best)
  np.testing.assert_allclose(value(best), closed, rtol=1e-5)
  assert value(best) > max(value(best + 0.2), value(best - 0.2)) + 1e-3
  assert value(0.0) == pytest.approx(0.0, abs=1e-7)


def test_a_constant_changes_nothing_for_a_relativistic_critic_and_another_shape_lowers_the_value():
  pair = PAIRS['shifted normals']
  best = optimal_value('relativistic', pair)
  np.testing.assert_allclose(optimal_value('relativistic', pair, lambda x: 7.0), best, rtol=1e-4)
  for perturbation in (lambda x: 0.2 * np.sin(3 * x), lambda x: 0.2 * x, lambda x: -0.2 * x):
    assert optimal_value('relativistic', pair, perturbation) < best - 1e-4


def test_the_relativistic_value_of_the_best_critic_is_a_divergence():
  """0 if the distributions are the same, larger the farther they are apart, and at most log 2."""
  shifts = (0.0, 0.5, 1.0, 2.0, 5.0)
  values = [optimal_value('relativistic', (stats.norm(0.0, 1.0), stats.norm(shift, 1.0))) for shift in shifts]
  assert values[0] == pytest.approx(0.0, abs=1e-5)
  assert (np.diff(values) > 0.01).all()
  assert 0.97 * math.log(2) < values[-1] < math.log(2)
