"""Annealed importance sampling against closed forms and numeric integrals, and the analysis that uses it."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate, optimize, stats

from flowgan_tf import flows
from flowgan_tf.errors import UsageError
from flowgan_tf.study import AnnealedImportanceSampler, annealing
from flowgan_tf.study.ais import Ais


def sampler_of(decode, dims, **settings):
  prior = tfp.distributions.Sample(tfp.distributions.Normal(np.float64(0), np.float64(1)), [dims])
  return AnnealedImportanceSampler(decode, prior, **settings)


def linear(noise_dims, image_dims, seed=0):
  """`G(z) = A z + b`, and the distribution of `G(z) + sigma * noise`."""
  rng = np.random.default_rng(seed)
  left = stats.ortho_group.rvs(image_dims, random_state=rng)[:, :noise_dims]
  right = stats.ortho_group.rvs(noise_dims, random_state=rng)
  matrix = left * np.linspace(0.5, 1.5, noise_dims) @ right
  offset = rng.normal(size=image_dims)

  def exact(sigma):
    return stats.multivariate_normal(offset, matrix @ matrix.T + sigma**2 * np.eye(image_dims))

  return lambda noise: noise @ matrix.T + offset, exact


def curve(noise):
  """A nonlinear generator with one noise dimension. Because of the sine, posteriors have several modes."""
  return tf.concat([tf.sin(2 * noise), 0.3 * noise**2], axis=-1)


@pytest.fixture(scope='module')
def identity():
  """`G(z) = z` with few temperatures. With sigma 1, images have the density N(0, 2)."""
  return sampler_of(tf.identity, 1, chains=1, steps=10, leapfrog_steps=2, batch_size=6000)


def test_weights_are_unbiased_with_few_temperatures(identity):
  """The mean weight of many chains is `p(x)`, and of many reverse chains `1 / p(x)`, however short the chains.

  Transitions that leave another temperature's target invariant give a biased mean, as TFP's
  `sample_annealed_importance_chain` does.
  """
  found = identity.bidirectional(1.0, 6000, 0)
  truth = stats.norm.logpdf(found.images[:, 0], scale=np.sqrt(2))
  for ratio in (np.exp(found.lower.log_likelihood - truth), np.exp(truth - found.upper.log_likelihood)):
    assert ratio.std() > 0.2  # so that a bias could show
    assert abs(ratio.mean() - 1) < 4 * stats.sem(ratio) < 0.1


def test_the_estimate_is_the_closed_form_of_a_linear_generator():
  decode, exact = linear(3, 5)
  images = exact(0.3).rvs(12, random_state=1)
  estimate = sampler_of(decode, 3, chains=32, steps=200).estimate(images, 0.3, seed=0)  # batches of 8 and 4 images
  truth = exact(0.3).logpdf(images)
  np.testing.assert_allclose(estimate.log_likelihood, truth, atol=0.5)
  assert -0.1 < np.mean(estimate.log_likelihood - truth) < 0.05  # below in expectation
  assert estimate.nll == pytest.approx(-estimate.log_likelihood.mean())
  assert estimate.standard_error == pytest.approx(stats.sem(estimate.log_likelihood))
  assert estimate.acceptance == pytest.approx(0.65, abs=0.05)
  assert (estimate.n, estimate.chains, estimate.steps, estimate.sigma) == (12, 32, 200, 0.3)
  assert np.all((estimate.effective_sample_size > 1) & (estimate.effective_sample_size <= 32))


@pytest.mark.slow
def test_both_directions_bracket_the_truth():
  decode, exact = linear(4, 6)
  estimate = sampler_of(decode, 4, chains=16, steps=200, batch_size=640).bidirectional(0.3, n=40, seed=0)
  truth = exact(0.3).logpdf(estimate.images)
  below, above = truth - estimate.lower.log_likelihood, estimate.upper.log_likelihood - truth
  for error in (below, above):
    assert -2 * stats.sem(error) < error.mean() < 0.1
  assert estimate.gap == pytest.approx(np.mean(above + below)) and 0 < estimate.gap < 0.2
  assert estimate.gap_standard_error == pytest.approx(stats.sem(above + below))
  whitened = np.linalg.solve(np.linalg.cholesky(exact(0.3).cov), (estimate.images - exact(0.3).mean).T)
  assert stats.kstest(whitened.ravel(), 'norm').pvalue > 0.01  # The images come from the model.


@pytest.mark.slow
def test_fewer_temperatures_widen_the_gap():
  decode, _ = linear(4, 6)
  samplers = [sampler_of(decode, 4, chains=4, steps=steps) for steps in (5, 100)]
  gaps = [sampler.bidirectional(0.1, n=20, seed=0).gap for sampler in samplers]
  assert gaps[0] > 5 * gaps[1] > 0


@pytest.mark.slow
def test_a_nonlinear_generator_against_numeric_integration():
  images, sigma = np.array([[0.0, 0.0], [0.9, 0.3], [-0.5, 1.1], [0.2, 2.0]]), 0.3

  def density(z, image):
    center = np.array([np.sin(2 * z), 0.3 * z**2])
    return stats.norm.pdf(z) * np.prod(stats.norm.pdf(image, center, sigma))

  truth = [
    np.log(integrate.quad(density, -6, 6, args=(x,), points=np.linspace(-5, 5, 41), limit=500)[0]) for x in images
  ]
  estimate = sampler_of(curve, 1, chains=1000, steps=200, batch_size=4000).estimate(images, sigma, seed=0)
  np.testing.assert_allclose(estimate.log_likelihood, truth, atol=0.1)


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

  def estimate(self, images, sigma, seed):
    return SimpleNamespace(nll=-exact(sigma).logpdf(images).mean())

  monkeypatch.setattr(AnnealedImportanceSampler, 'estimate', estimate)
  choice = sampler_of(decode, 2).choose_sigma(images, seed=0)
  best = optimize.minimize_scalar(lambda s: -exact(s).logpdf(images).mean(), bounds=(0.01, 0.5), method='bounded')
  assert choice.sigma == pytest.approx(best.x, rel=0.07)
  assert choice.nll == pytest.approx(best.fun, abs=0.15)
  assert (choice.sigma, choice.nll) in choice.tried and choice.nll == min(nll for _, nll in choice.tried)
  assert 5 < len(choice.tried) < 15 and all(0.01 < sigma < 0.5 for sigma, _ in choice.tried)


def test_the_seed_decides(identity):
  first, again, other = (identity.estimate([[0.5], [0.1]], 0.2, seed) for seed in (3, 3, 4))
  np.testing.assert_array_equal(first.log_likelihood, again.log_likelihood)
  assert np.all(first.log_likelihood != other.log_likelihood)
  # A single chain has no spread.
  assert first.effective_sample_size == pytest.approx([1, 1])


def test_what_would_give_wrong_numbers_is_refused():
  for name in ('chains', 'steps', 'leapfrog_steps'):
    with pytest.raises(UsageError, match=rf'^`{name}` must be an integer of at least 1\. Got: 0\.$'):
      sampler_of(curve, 1, **{name: 0})
  sampler = sampler_of(curve, 1)
  for sigma in (0.0, -1.0, np.nan):
    with pytest.raises(UsageError, match=r'^`sigma` must be a positive number'):
      sampler.estimate([[0.5, 0.2]], sigma, seed=0)
  with pytest.raises(UsageError, match=r"^`images` must be of the generator's shape, \(2,\)"):
    sampler.estimate([[0.5]], 0.2, seed=0)  # TensorFlow would broadcast it.


class StubbedSampler:
  """Finds what depends on its arguments alone."""

  def __init__(self, decode, prior, chains, steps, leapfrog_steps=10):
    self.settings = chains, steps, leapfrog_steps

  def choose_sigma(self, images, seed):
    assert (len(images), seed, self.settings) == (4, 7, (2, 50, 5))
    return annealing.SigmaChoice(0.2, 9.0, [(0.1, 10.0), (0.2, 9.0)])

  def estimate(self, images, sigma, seed, log_likelihood=-5.0):
    values = log_likelihood - np.arange(len(images))
    return annealing.AisEstimate(values, -values.mean(), 0.5, 1 + values**2, 0.6, sigma, len(images), *self.settings)

  def bidirectional(self, sigma, n, seed):
    lower, upper = (self.estimate(np.zeros(n), sigma, seed, value) for value in (-30.0, -20.0))
    return annealing.BidirectionalEstimate(lower, upper, 10.0, 0.3, None)


def test_the_analysis_estimates_with_the_sigma_of_validation_images(subject, monkeypatch):
  monkeypatch.setattr(annealing, 'AnnealedImportanceSampler', StubbedSampler)
  numbers, arrays = Ais().measure(subject, Ais.Settings(ais_images=3, ais_chains=2, ais_steps=40, seed=7))
  np.testing.assert_array_equal(arrays['log_likelihood'], [-5, -6, -7])
  exact = -subject.run.generator.log_prob(subject.images('test', 3, 7)).numpy().mean()
  assert numbers.pop('exact_nll') == pytest.approx(exact, abs=1e-4)
  assert numbers.pop('exact_standard_error') > 0
  assert numbers == {
    'nll': 6.0,
    'standard_error': 0.5,
    'effective_sample_size': 1 + (25 + 36 + 49) / 3,
    'acceptance': 0.6,
    'sigma': 0.2,
    'n': 3,
    'chains': 2,
    'steps': 40,
    'leapfrog_steps': 10,
    'sigma_images': 4,
    'sigmas_tried': [(0.1, 10.0), (0.2, 9.0)],
    'bracket_lower': -31.5,
    'bracket_upper': -21.5,
    'bracket_gap': 10.0,
    'bracket_gap_standard_error': 0.3,
    'bracket_n': 4,
    'exact_n': 3,
  }


def test_an_order_is_not_claimed_within_the_gap_of_the_bounds():
  assert Ais().resolution({'bracket_gap': 70.0}) == 70.0
  assert Ais().resolution({'bracket_gap': None}) == 0.0
