"""Densities of flows put together by hand, against known entropies; test_all_flows.py integrates densities."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors, data, flows
from flowgan_tf.metrics import make_likelihood_fn

tfb = tfp.bijectors


def bits_per_dim_of(flow, grey_levels):
  """By the way of every evaluation: uint8 images, dequantised, NLL, bits per dimension."""
  likelihood = make_likelihood_fn(flow, 256, 100, jit=False)(data.dequantize(grey_levels, 256, seed=0))
  assert likelihood.n == len(grey_levels) and likelihood.round_trip_error < 1e-5
  return likelihood.bits_per_dim


def test_uniform_noise_has_eight_bits_per_dimension():
  """The sigmoid of logistic noise is uniform: the density of every image is 1, and each of 256 levels costs 8 bits."""
  shape = (32, 32, 3)
  chain = tfb.Chain([tfb.Invert(bijectors.AlphaLogit(0.0)), bijectors.DiagonalScaling(shape)])
  flow = flows.Flow(flows.prior.standard_prior('logistic', shape, tf.float32), chain, name='uniform')
  grey_levels = np.random.default_rng(0).integers(0, 256, (200, *shape), dtype=np.uint8)
  assert bits_per_dim_of(flow, grey_levels) == pytest.approx(8.0, abs=1e-3)
  # Another density of the same images costs more, by the divergence KL(uniform || q), here in one dimension.
  chain.trainable_variables[0].assign(tf.fill(shape, 0.5))
  points = (np.arange(100_000) + 0.5) / 100_000
  scale = np.exp(10 * np.tanh(0.05))
  log_q = scipy.stats.logistic(scale=scale).logpdf(np.log(points / (1 - points))) - np.log(points * (1 - points))
  assert bits_per_dim_of(flow, grey_levels) == pytest.approx(8.0 - log_q.mean() / np.log(2), abs=1e-3)


@pytest.mark.parametrize('model', ['correlated', 'independent'])
def test_gaussian_images_have_their_entropy_as_bits_per_dimension(model):
  """Pixels of an AR(1) process, x_i - m = r (x_{i-1} - m) + e: h = d/2 ln(2 pi e s^2) + (d - 1)/2 ln(1 - r^2).

  A model that knows the standard deviation, but not the correlation, pays for the second term.
  """
  shape, pixels, mean, std, correlation = (8, 8, 3), 192, 0.5, 0.05, 0.6
  rng = np.random.default_rng(0)
  x = np.empty((2000, pixels))
  x[:, 0] = rng.normal(0.0, std, 2000)
  for i in range(1, pixels):
    x[:, i] = correlation * x[:, i - 1] + rng.normal(0.0, std * np.sqrt(1 - correlation**2), 2000)
  grey_levels = np.floor(256 * (mean + x)).astype(np.uint8).reshape(2000, *shape)
  known = correlation if model == 'correlated' else 0.0
  covariance = scipy.linalg.toeplitz(known ** np.arange(pixels))
  scaling = bijectors.DiagonalScaling((pixels,))
  scaling.trainable_variables[0].assign(np.full(pixels, 10 * np.arctanh(np.log(std) / 10)))
  mixing = tfb.ScaleMatvecTriL(tf.constant(np.linalg.cholesky(covariance), tf.float32))
  chain = tfb.Chain([tfb.Reshape(shape, (pixels,)), tfb.Shift(tf.constant(mean)), scaling, mixing])
  flow = flows.Flow(flows.prior.standard_prior('normal', (pixels,), tf.float32), chain, name='gaussian')
  entropy = 0.5 * np.log(2 * np.pi * np.e * std**2) + 0.5 * (pixels - 1) / pixels * np.log(1 - known**2)
  assert bits_per_dim_of(flow, grey_levels) == pytest.approx(8 + entropy / np.log(2), abs=0.01)
