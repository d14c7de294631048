"""Annealed importance sampling against closed forms and numeric integrals, and the analysis that uses it."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import optimize, stats

from flowgan_tf import flows
from flowgan_tf.errors import UsageError
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


@pytest.fixture(scope='module')
def identity():
  """`G(z) = z` with few temperatures. With sigma 1, images have the density N(0, 2)."""
  return sampler_of(tf.identity, 1, chains=1, steps=10, leapfrog_steps=2, batch_size=6000)


def test_weights_are_unbiased_with_few_temperatures(identity):
  """The mean weight of many chains is `p(x)`, and of many reverse chains `1 / p(x)`, however short the chains.

  Transitions that leave another temperature's target invariant give a biased mean, as TFP's
  `sample_annealed_importance_chain` does.
  """
  lower, upper, images = identity.bidirectional(1.0, 6000, 0)
  truth = stats.norm.logpdf(images[:, 0], scale=np.sqrt(2))
  for ratio in (np.exp(lower - truth), np.exp(truth - upper)):
    assert ratio.std() > 0.2  # so that a bias could show
    assert abs(ratio.mean() - 1) < 4 * stats.sem(ratio) < 0.1


def test_the_estimate_is_the_closed_form_of_a_linear_generator():
  decode, exact = linear(3, 5)
  images = exact(0.3).rvs(12, random_state=1)
  estimate = sampler_of(decode, 3, chains=32, steps=100).estimate(images, 0.3, seed=0)  # batches of 8 and 4 images
  truth = exact(0.3).logpdf(images)
  np.testing.assert_allclose(estimate.log_likelihood, truth, atol=0.5)
  assert -0.1 < np.mean(estimate.log_likelihood - truth) < 0.05  # below in expectation
  assert estimate.acceptance == pytest.approx(0.65, abs=0.05)
  assert np.all((estimate.effective_sample_size > 1) & (estimate.effective_sample_size <= 32))


@pytest.mark.slow
def test_both_directions_bracket_the_truth_and_come_closer_with_more_temperatures():
  decode, exact = linear(4, 6)
  few, many = (sampler_of(decode, 4, chains=16, steps=steps, batch_size=640) for steps in (5, 200))
  lower, upper, images = many.bidirectional(0.3, n=40, seed=0)
  truth = exact(0.3).logpdf(images)
  for error in (truth - lower, upper - truth):
    assert -2 * stats.sem(error) < error.mean() < 0.1
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
  sampler = AnnealedImportanceSampler(flow.decode, flow.distribution, chains=200, steps=100, batch_size=800)
  estimate = sampler.estimate(images, sigma, seed=0)
  grid = (np.arange(400) + 0.5) / 400
  points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2, 1, 1)
  density = np.exp(flow.log_prob(points.astype(np.float32)))
  assert density.mean() == pytest.approx(1, abs=0.02)  # the grid is fine enough
  noise = stats.norm.pdf(images[:, np.newaxis], points, sigma).prod(axis=(2, 3, 4))
  np.testing.assert_allclose(estimate.log_likelihood, np.log((noise * density).mean(axis=1)), atol=0.1)


def test_the_chosen_sigma_is_the_one_of_maximum_likelihood(monkeypatch):
  """The search, with closed forms in place of the estimates."""
  decode, exact = linear(2, 8)
  images = exact(0.12).rvs(10, random_state=0)

  def closed_form(self, images, sigma, seed):
    return AisEstimate(exact(sigma).logpdf(images), None, 0)

  monkeypatch.setattr(AnnealedImportanceSampler, 'estimate', closed_form)
  sigma, tried = sampler_of(decode, 2).choose_sigma(images, seed=0)
  best = optimize.minimize_scalar(lambda s: -exact(s).logpdf(images).mean(), bounds=(0.01, 0.5), method='bounded')
  assert sigma == pytest.approx(best.x, rel=0.07)
  assert dict(tried)[sigma] == min(nll for _, nll in tried) == pytest.approx(best.fun, abs=0.15)
  assert 5 < len(tried) < 15 and all(0.01 < sigma < 0.5 for sigma, _ in tried)


def test_the_seed_decides(identity):
  first, again, other = (identity.estimate([[0.5], [0.1]], 0.2, seed) for seed in (3, 3, 4))
  np.testing.assert_array_equal(first.log_likelihood, again.log_likelihood)
  assert np.all(first.log_likelihood != other.log_likelihood)
  assert first.effective_sample_size == pytest.approx([1, 1])  # A single chain has no spread.
  with pytest.raises(UsageError, match=r"^`images` must be of the generator's shape, \(2,\)"):
    sampler_of(lambda z: tf.concat([z, z], -1), 1).estimate([[0.5]], 0.2, seed=0)  # TensorFlow would broadcast it.
  with pytest.raises(UsageError, match='`sigma` must be a positive number'):
    identity.estimate([[0.5]], 0.0, seed=0)
  with pytest.raises(UsageError, match='`leapfrog_steps` must be an integer of at least 1'):
    sampler_of(tf.identity, 1, leapfrog_steps=0)


@pytest.mark.slow
def test_the_analysis_estimates_with_the_sigma_of_validation_images(subject, monkeypatch):
  """With estimates that depend on their arguments alone, and are best at a sigma of 0.1."""
  seen = {}

  def estimate(self, images, sigma, seed, posterior_samples=None):
    assert self._given is None
    seen.setdefault((self.steps, self.leapfrog_steps, seed), images)
    bound = -5.0 - np.log(10 * sigma) ** 2 + 10 * (posterior_samples is not None)
    values = bound - np.arange(len(images)) * self.steps
    return AisEstimate(values, 1 + values**2, 0.6)

  monkeypatch.setattr(AnnealedImportanceSampler, 'estimate', estimate)
  numbers, arrays = Ais().measure(subject, Ais.Settings(ais_images=3, ais_chains=2, ais_steps=40, seed=7))
  validation, test = subject.images('validation', 4, 7), subject.images('test', 3, 7)
  np.testing.assert_array_equal(seen[50, 5, 7], validation)
  np.testing.assert_array_equal(seen[40, 10, 7], test)
  assert numbers['sigma'] == pytest.approx(0.1, rel=0.05)
  values = numbers['bracket_lower'] + 60 - 40 * np.arange(3)
  np.testing.assert_allclose(arrays['log_likelihood'], values)
  assert numbers['sigma'] == min(numbers['sigmas_tried'], key=lambda pair: pair[1])[0]
  assert (numbers['nll'], numbers['standard_error']) == pytest.approx((-values.mean(), stats.sem(values)))
  assert numbers['effective_sample_size'] == pytest.approx(np.mean(1 + values**2))
  assert (numbers['bracket_gap'], numbers['bracket_gap_standard_error']) == pytest.approx((10, 0))
  assert numbers['bracket_upper'] == pytest.approx(numbers['bracket_lower'] + 10)
  counts = {'chains': 2, 'steps': 40, 'n': 3, 'exact_n': 3, 'sigma_images': 4, 'bracket_n': 4, 'acceptance': 0.6}
  assert numbers.items() >= counts.items()
  exact = -subject.run.generator.log_prob(test).numpy()
  assert numbers['exact_nll'] == pytest.approx(exact.mean(), abs=1e-4)
  assert numbers['exact_standard_error'] == pytest.approx(stats.sem(exact), rel=1e-4)
