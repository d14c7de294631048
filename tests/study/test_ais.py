"""Annealed importance sampling against closed forms and numeric integrals, and the analysis that uses it."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from flowgan_tf import flows
from flowgan_tf.base.errors import UsageError
from flowgan_tf.metrics import annealing
from flowgan_tf.study import AnnealedImportanceSampler
from flowgan_tf.study.ais import Ais, AisEstimate


def sampler_of(decode, dims, **settings):
  prior = tfp.distributions.Sample(tfp.distributions.Normal(np.float64(0), np.float64(1)), [dims])
  return AnnealedImportanceSampler(decode, prior, **settings)


def linear(noise_dims, image_dims):
  """`G(z) = A z + b`, and the distribution of `G(z) + sigma * noise`."""
  rng = np.random.default_rng(0)
  left = stats.ortho_group.rvs(image_dims, random_state=rng)[:, :noise_dims]
  right = stats.ortho_group.rvs(noise_dims, random_state=rng)
  matrix = left * np.linspace(0.5, 1.5, noise_dims) @ right
  offset = rng.normal(size=image_dims)

  def exact(sigma):
    return stats.multivariate_normal(offset, matrix @ matrix.T + sigma**2 * np.eye(image_dims))

  return lambda noise: noise @ matrix.T + offset, exact


@pytest.fixture
def identity():
  """`G(z) = z` with few temperatures. With sigma 1, images have the density N(0, 2)."""
  return sampler_of(tf.identity, 1, chains=1, steps=4, batch_size=24_000)


def test_weights_are_unbiased_with_few_temperatures(identity, monkeypatch):
  """The mean weight of many chains is `p(x)`, and of many reverse chains `1 / p(x)`, however short the chains.

  Transitions that leave another temperature's target invariant give a biased mean, as TFP's
  `sample_annealed_importance_chain` does. Large steps make the bias ten times as large as what is allowed.
  """
  monkeypatch.setattr(annealing, '_FIRST_STEP_SIZE', 1.0)
  lower, upper, images = identity.bidirectional(1.0, 24_000, 0)
  truth = stats.norm.logpdf(images[:, 0], scale=np.sqrt(2))
  for ratio, most in ((np.exp(lower - truth), 0.02), (np.exp(truth - upper), 0.06)):
    assert ratio.std() > 0.2  # so that a bias could show
    assert abs(ratio.mean() - 1) < 4 * stats.sem(ratio) < most


@pytest.mark.parametrize('step_size', [0.5, 1.5])
def test_a_transition_leaves_its_target_invariant_and_carries_what_is_true_of_its_state(step_size):
  """On exact samples of the posterior N(t x / (1 + t), 1 / (1 + t)), with many rejections for the larger steps.

  The momentum is normal and independent of the noise. A chain that was not turned round by a rejection would not be.
  """
  n, precision, x = 4000, 3.0, 1.2
  sampler = sampler_of(tf.identity, 1)
  images = tf.fill([n, 1], np.float64(x))
  exact = stats.norm(precision * x / (1 + precision), (1 + precision) ** -0.5)
  moves, given = sampler._annealing, (images, None)
  before = state = moves._start(given, tf.constant(exact.rvs((n, 1), random_state=0)), tf.constant([1, 0]))
  for k in range(12):
    arguments = tf.constant(precision, tf.float64), tf.constant([step_size], tf.float64), state, tf.constant([0, k])
    before, (state, acceptance) = state, moves._move(given, *arguments)
  noise, momentum = state.noise[:, 0], state.momentum[:, 0]
  stays = np.mean(noise == before.noise[:, 0])
  assert stays == pytest.approx(1 - np.mean(acceptance), abs=0.03) and (stays > 0.3 if step_size > 1 else stays < 0.1)
  both = np.stack([exact.cdf(noise), stats.norm.cdf(momentum)])
  for uniform in (*both, np.mod(both.sum(axis=0), 1), np.mod(both[0] - both[1], 1)):
    assert stats.kstest(uniform, 'uniform').pvalue > 1e-3
  np.testing.assert_allclose(state.energy, (x - noise) ** 2 / 2)
  np.testing.assert_allclose(state.energy_gradient[:, 0], noise - x)
  np.testing.assert_allclose(state.log_prior, stats.norm.logpdf(noise))
  np.testing.assert_allclose(state.prior_gradient[:, 0], -noise)


def test_the_estimate_is_the_closed_form_of_a_linear_generator():
  decode, exact = linear(3, 5)
  images = exact(0.3).rvs(12, random_state=1)
  estimate = sampler_of(decode, 3, chains=32, steps=200).estimate(images, 0.3, seed=0)  # batches of 8 and 4 images
  truth = exact(0.3).logpdf(images)
  np.testing.assert_allclose(estimate.log_likelihood, truth, atol=0.5)
  assert -0.1 < np.mean(estimate.log_likelihood - truth) < 0.05  # below in expectation
  assert estimate.acceptance == pytest.approx(0.9, abs=0.05)
  assert np.all((estimate.effective_sample_size > 1) & (estimate.effective_sample_size <= 32))


@pytest.mark.slow
def test_both_directions_bracket_the_truth_and_come_closer_with_more_temperatures():
  decode, exact = linear(4, 6)
  few, many = (sampler_of(decode, 4, chains=16, steps=steps, batch_size=640) for steps in (50, 500))
  lower, upper, images = many.bidirectional(0.3, n=40, seed=1)
  truth = exact(0.3).logpdf(images)
  for error in (truth - lower, upper - truth):
    assert -3 * stats.sem(error) < error.mean() < 0.1
  whitened = np.linalg.solve(np.linalg.cholesky(exact(0.3).cov), (images - exact(0.3).mean).T)
  assert stats.kstest(whitened.ravel(), 'norm').pvalue > 0.01  # The images come from the model.
  wide = few.bidirectional(0.3, n=40, seed=0)
  assert np.mean(wide[1] - wide[0]) > 5 * np.mean(upper - lower) > 0


def test_conditions_must_be_as_many_as_images(identity):
  sampler = identity.given(np.zeros((3, 2), np.float32))
  with pytest.raises(UsageError, match=r'^`images` must be as many as the conditions that are given, 3\. Got: 1\.$'):
    sampler.estimate(np.zeros((1, 1)), 1.0, seed=0)
  with pytest.raises(UsageError, match=r'^`n` must be as many as the conditions that are given, 3\. Got: 6\.$'):
    sampler.bidirectional(1.0, 6, seed=0)


@pytest.mark.slow
def test_a_flow_as_decoder_against_its_own_density():
  """`p(x) = int p_flow(y) N(x; y, sigma^2) dy` over the unit square, with the flow's exact density."""
  flow = flows.nice((2, 1, 1), couplings=2, hidden_units=4, hidden_layers=1)
  rng = np.random.default_rng(0)
  for variable in flow.trainable_variables:
    variable.assign(rng.normal(0, 0.5, variable.shape))
  images, sigma = flow.sample(4, seed=(0, 0)).numpy(), 0.1
  sampler = AnnealedImportanceSampler(flow.decode, flow.distribution, chains=200, steps=200, batch_size=800)
  estimate = sampler.estimate(images, sigma, seed=0)
  grid = (np.arange(400) + 0.5) / 400
  points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2, 1, 1)
  density = np.exp(flow.log_prob(points.astype(np.float32)))
  assert density.mean() == pytest.approx(1, abs=0.02)  # the grid is fine enough
  noise = stats.norm.pdf(images[:, np.newaxis], points, sigma).prod(axis=(2, 3, 4))
  np.testing.assert_allclose(estimate.log_likelihood, np.log((noise * density).mean(axis=1)), atol=0.1)


def test_the_chosen_sigma_is_the_one_of_maximum_likelihood():
  """One run of chains estimates what a closed form says for each sigma."""
  decode, exact = linear(2, 8)
  images = exact(0.12).rvs(10, random_state=0)
  sigma, tried = sampler_of(decode, 2, chains=64, steps=300, batch_size=640).choose_sigma(images, seed=0)
  sigmas, nlls = np.array(tried).T
  truth = [-exact(sigma).logpdf(images).mean() for sigma in sigmas]
  np.testing.assert_allclose(nlls, truth, atol=0.3)
  assert sigma == sigmas[np.argmin(nlls)] == pytest.approx(sigmas[np.argmin(truth)], rel=0.11)
  assert 0.45 < sigmas[0] < 0.51 and sigmas[-1] == pytest.approx(0.01)
  assert np.all((sigmas[1:] / sigmas[:-1] > 0.85) & (sigmas[1:] < sigmas[:-1]))


def test_the_seed_decides(identity):
  first, again, other = (identity.estimate([[0.5], [0.1]], 0.2, seed) for seed in (3, 3, 4))
  np.testing.assert_array_equal(first.log_likelihood, again.log_likelihood)
  assert np.all(first.log_likelihood != other.log_likelihood)
  assert first.effective_sample_size == pytest.approx([1, 1])  # A single chain has no spread.
  with pytest.raises(UsageError, match=r"^`images` must be of the generator's shape, \(2,\)"):
    sampler_of(lambda z: tf.concat([z, z], -1), 1).estimate([[0.5]], 0.2, seed=0)  # TensorFlow would broadcast it.
  with pytest.raises(UsageError, match='`sigma` must be a positive number'):
    identity.estimate([[0.5]], 0.0, seed=0)
  with pytest.raises(UsageError, match='`steps` must be an integer of at least 1'):
    sampler_of(tf.identity, 1, steps=0)


@pytest.mark.slow
def test_the_analysis_estimates_with_the_sigma_of_validation_images(subject, monkeypatch):
  seen = {}

  def choose_sigma(self, images, seed):
    seen['choose_sigma'] = self.chains, self.steps, self._conditions, seed, images
    return 0.1, [(0.2, 9.0), (0.1, 8.0)]

  def estimate(self, images, sigma, seed):
    seen['estimate'] = self.chains, self.steps, self._conditions, seed, images
    values = -sigma * np.arange(1.0, 4.0)
    return AisEstimate(values, 1 + values**2, 0.6)

  def bidirectional(self, sigma, n, seed):
    return np.arange(n) * sigma, np.arange(n) * sigma + 10, None

  for function in (choose_sigma, estimate, bidirectional):
    monkeypatch.setattr(AnnealedImportanceSampler, function.__name__, function)
  numbers, arrays = Ais().measure(subject, Ais.Settings(ais_images=3, ais_chains=2, ais_steps=40, seed=7))
  test = subject.images('test', 3, 7)
  for name, images in {'choose_sigma': subject.images('validation', 4, 7), 'estimate': test}.items():
    assert seen[name][:-1] == (2, 40, None, 7)
    np.testing.assert_array_equal(seen[name][-1], images)
  np.testing.assert_allclose(arrays['log_likelihood'], [-0.1, -0.2, -0.3])
  assert (numbers['nll'], numbers['standard_error']) == pytest.approx((0.2, 0.1 / np.sqrt(3)))
  assert numbers['effective_sample_size'] == pytest.approx(1 + 0.14 / 3)
  assert (numbers['bracket_gap'], numbers['bracket_gap_standard_error']) == pytest.approx((10, 0))
  assert (numbers['bracket_lower'], numbers['bracket_upper']) == pytest.approx((0.15, 10.15))
  counts = {'chains': 2, 'steps': 40, 'n': 3, 'exact_n': 3, 'sigma_images': 4, 'bracket_n': 4, 'acceptance': 0.6}
  assert numbers.items() >= counts.items() | {('sigma', 0.1)}
  exact = -subject.run.generator.log_prob(test).numpy()
  assert numbers['exact_nll'] == pytest.approx(exact.mean(), abs=1e-4)
  assert numbers['exact_standard_error'] == pytest.approx(stats.sem(exact), rel=1e-4)
