"""Annealed importance sampling against closed forms and numeric integrals."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate, optimize, stats

from flowgan_tf import flows
from flowgan_tf.estimators.annealing import AnnealedImportanceSampler


def standard_normal(dims):
  return tfp.distributions.Sample(tfp.distributions.Normal(np.float64(0), np.float64(1)), [dims])


def linear(noise_dims, image_dims, singular_values, seed=0):
  """`G(z) = A z + b`, and the distribution of `G(z) + sigma * noise`."""
  rng = np.random.default_rng(seed)
  left = stats.ortho_group.rvs(image_dims, random_state=rng)[:, :noise_dims]
  right = stats.ortho_group.rvs(noise_dims, random_state=rng)
  matrix = left * np.linspace(*singular_values, noise_dims) @ right
  offset = rng.normal(size=image_dims)

  def exact(sigma):
    return stats.multivariate_normal(offset, matrix @ matrix.T + sigma**2 * np.eye(image_dims))

  return lambda noise: noise @ matrix.T + offset, exact


def curve(noise):
  """A nonlinear generator with one noise dimension. Because of the sine, posteriors have several modes."""
  return tf.concat([tf.sin(2 * noise), 0.3 * noise**2], axis=-1)


@pytest.mark.parametrize(('noise_dims', 'image_dims'), [(3, 5), (10, 10)])
def test_the_estimate_is_the_closed_form_of_a_linear_generator(noise_dims, image_dims):
  decode, exact = linear(noise_dims, image_dims, (0.5, 1.5))
  images = exact(0.3).rvs(12, random_state=1)
  sampler = AnnealedImportanceSampler(decode, standard_normal(noise_dims), chains=32, steps=300, batch_size=256)
  estimate = sampler.estimate(images, 0.3, seed=0)  # batches of 8 and 4 images
  truth = exact(0.3).logpdf(images)
  np.testing.assert_allclose(estimate.log_likelihood, truth, atol=0.5)
  assert -0.1 < np.mean(estimate.log_likelihood - truth) < 0.05  # below in expectation
  assert estimate.nll == pytest.approx(-estimate.log_likelihood.mean())
  assert estimate.standard_error == pytest.approx(stats.sem(estimate.log_likelihood))
  assert estimate.acceptance == pytest.approx(0.65, abs=0.05)
  assert (estimate.n, estimate.chains, estimate.steps, estimate.sigma) == (12, 32, 300, 0.3)
  assert np.all((estimate.effective_sample_size > 1) & (estimate.effective_sample_size <= 32))


def test_both_directions_bracket_the_truth():
  decode, exact = linear(4, 6, (0.5, 1.5))
  sampler = AnnealedImportanceSampler(decode, standard_normal(4), chains=16, steps=300, batch_size=640)
  estimate = sampler.bidirectional(0.3, n=40, seed=0)
  truth = exact(0.3).logpdf(estimate.images)
  below, above = truth - estimate.lower.log_likelihood, estimate.upper.log_likelihood - truth
  for error in (below, above):
    assert -2 * stats.sem(error) < error.mean() < 0.1
  assert estimate.gap == pytest.approx(np.mean(above + below)) and 0 < estimate.gap < 0.2
  assert estimate.gap_standard_error == pytest.approx(stats.sem(above + below))
  whitened = np.linalg.solve(np.linalg.cholesky(exact(0.3).cov), (estimate.images - exact(0.3).mean).T)
  assert stats.kstest(whitened.ravel(), 'norm').pvalue > 0.01  # The images come from the model.


def test_fewer_temperatures_widen_the_gap():
  decode, _ = linear(4, 6, (0.5, 1.5))
  samplers = [
    AnnealedImportanceSampler(decode, standard_normal(4), chains=4, steps=steps, batch_size=80)
    for steps in (5, 40, 320)
  ]
  gaps = [sampler.bidirectional(0.1, n=20, seed=0).gap for sampler in samplers]
  assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0


@pytest.mark.parametrize('sigma', [0.1, 0.5])
def test_a_nonlinear_generator_against_numeric_integration(sigma):
  images = np.array([[0.0, 0.0], [0.9, 0.3], [-0.5, 1.1], [0.2, 2.0]])

  def density(z, image):
    center = np.array([np.sin(2 * z), 0.3 * z**2])
    return stats.norm.pdf(z) * np.prod(stats.norm.pdf(image, center, sigma))

  truth = [
    np.log(integrate.quad(density, -6, 6, args=(x,), points=np.linspace(-5, 5, 41), limit=500)[0]) for x in images
  ]
  sampler = AnnealedImportanceSampler(curve, standard_normal(1), chains=1000, steps=200, batch_size=4000)
  estimate = sampler.estimate(images, sigma, seed=0)
  np.testing.assert_allclose(estimate.log_likelihood, truth, atol=0.1)


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


def test_the_chosen_sigma_is_the_one_of_maximum_likelihood():
  decode, exact = linear(2, 8, (0.5, 1.5))
  images = exact(0.12).rvs(10, random_state=0)
  choice = AnnealedImportanceSampler(decode, standard_normal(2), chains=8, steps=100).choose_sigma(images, seed=0)
  best = optimize.minimize_scalar(lambda s: -exact(s).logpdf(images).mean(), bounds=(0.01, 0.5), method='bounded')
  assert choice.sigma == pytest.approx(best.x, rel=0.07)
  assert choice.nll == pytest.approx(best.fun, abs=0.15)
  assert (choice.sigma, choice.nll) in choice.tried and choice.nll == min(nll for _, nll in choice.tried)
  assert all(0.01 < sigma < 0.5 for sigma, _ in choice.tried)


def test_the_seed_decides():
  sampler = AnnealedImportanceSampler(curve, standard_normal(1), chains=2, steps=5)

  def estimate(seed):
    return sampler.estimate([[0.5, 0.2], [0.1, 0.9]], 0.2, seed).log_likelihood

  np.testing.assert_array_equal(estimate(3), estimate(3))
  assert np.all(estimate(3) != estimate(4))


def test_one_image_and_one_chain_have_no_spread():
  sampler = AnnealedImportanceSampler(curve, standard_normal(1), chains=1, steps=2)
  estimate = sampler.estimate([[0.5, 0.2]], 0.2, seed=0)
  assert np.isnan(estimate.standard_error) and estimate.effective_sample_size == pytest.approx([1])


@pytest.mark.parametrize('name', ['chains', 'steps', 'leapfrog_steps', 'batch_size'])
def test_counts_below_one_are_refused(name):
  with pytest.raises(ValueError, match=rf'^`{name}` must be at least 1. Got: 0.$'):
    AnnealedImportanceSampler(curve, standard_normal(1), **{name: 0})


def test_arguments_out_of_range_are_refused():
  sampler = AnnealedImportanceSampler(curve, standard_normal(1))
  for sigma in (0.0, -1.0, np.nan, np.inf):
    with pytest.raises(ValueError, match=rf'^`sigma` must be positive and finite. Got: {sigma}.$'):
      sampler.estimate([[0.5, 0.2]], sigma, seed=0)
  with pytest.raises(ValueError, match=r'^`images` must not be empty. Got: shape \(0, 2\).$'):
    sampler.estimate(np.zeros((0, 2)), 0.2, seed=0)
  with pytest.raises(ValueError, match=r"`images` must have the generator's shape, \(2,\). Got: \(3,\)"):
    sampler.estimate([[0.5, 0.2, 0.1]], 0.2, seed=0)
  with pytest.raises(ValueError, match=r'^`n` must be at least 1. Got: 0.$'):
    sampler.bidirectional(0.2, n=0, seed=0)
  with pytest.raises(ValueError, match=r'^`sigma` must be positive and finite. Got: 0.'):
    sampler.bidirectional(0.0, n=1, seed=0)
