"""Whitening by the power spectrum."""

import numpy as np
import pytest
import scipy.fft
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf.bijectors import SpectralWhitening

SHAPE = (4, 3, 2)


def photographs(n):
  """Images with a slope from top to bottom, neighbours that are alike, and two channels that agree."""
  noise = np.random.default_rng(0).normal(size=(n, *SHAPE)).cumsum(axis=1).cumsum(axis=2)
  return noise @ np.array([[1.0, 0.5], [0.2, 0.3]]) + [3.0, -1.0]


def transform():
  """The cosine transform of each channel, as a matrix of all entries of an image."""
  rows, columns = (scipy.fft.dct(np.eye(size), axis=0, norm='ortho') for size in SHAPE[:2])
  return np.kron(np.kron(rows, columns), np.eye(SHAPE[2]))


def test_density_is_the_gaussian_of_independent_frequencies():
  images, matrix = photographs(60), transform()
  whitening = SpectralWhitening(SHAPE, dtype=tf.float64)
  whitening.fit(tf.constant(images), inverse=False)
  flow = tfp.distributions.TransformedDistribution(
    tfp.distributions.Sample(tfp.distributions.Normal(tf.zeros((), tf.float64), 1.0), SHAPE),
    tfp.bijectors.Invert(whitening),
  )
  mean = images.mean(axis=(0, 1, 2))
  spectra = (images - mean).reshape(60, -1) @ matrix.T
  covariance, channels = spectra.T @ spectra / 60, SHAPE[2]
  of_frequency = np.arange(covariance.shape[0]) // channels
  covariance[of_frequency[:, np.newaxis] != of_frequency] = 0
  expected = scipy.stats.multivariate_normal(np.tile(mean, 12), matrix.T @ covariance @ matrix)
  np.testing.assert_allclose(flow.log_prob(images[:5]), expected.logpdf(images[:5].reshape(5, -1)), rtol=1e-9)


def test_noise_of_the_data_is_white_with_the_given_deviation():
  images = photographs(200)
  whitening = SpectralWhitening(SHAPE, stddev=1.8, dtype=tf.float64)
  np.testing.assert_allclose(whitening.forward(images), images, atol=1e-12)  # A new one changes nothing.
  whitening.fit(tf.constant(images), inverse=False)
  spectra = whitening.forward(tf.constant(images)).numpy().reshape(200, -1) @ transform().T
  np.testing.assert_allclose(np.mean(spectra**2, axis=0), 1.8**2, rtol=1e-9)
  pairs = spectra.reshape(200, -1, SHAPE[2])
  np.testing.assert_allclose(np.mean(pairs[..., 0] * pairs[..., 1], axis=0), 0, atol=1e-9)


def test_constant_images_and_wrong_arguments():
  whitening = SpectralWhitening((2, 2, 1))
  whitening.fit(np.arange(3.0).reshape(3, 1, 1, 1) * np.ones((3, 2, 2, 1)), inverse=False)
  assert np.isfinite(whitening.forward_log_det_jacobian(tf.zeros((2, 2, 1)), 3))
  with pytest.raises(ValueError, match='inverse'):
    whitening.fit(np.zeros((3, 2, 2, 1)), inverse=True)
  with pytest.raises(ValueError, match='event_shape'):
    SpectralWhitening((4,))
  with pytest.raises(ValueError, match='stddev'):
    SpectralWhitening((2, 2, 1), stddev=0.0)


@pytest.mark.parametrize('prior', ['logistic', 'normal'])
def test_a_new_jet_with_whitening_has_the_colours_and_the_spectrum_of_the_data(prior):
  images = photographs(400)[..., :1]
  images = (1 / (1 + np.exp(-0.3 * images))).astype('float32')
  flow = fg.flows.jet((4, 3, 1), couplings=2, patch_size=1, width=4, hidden_units=4, whitening=True, prior=prior)
  fg.flows.fit_bijectors(flow, images)
  samples = flow.sample(4000, seed=(0, 1)).numpy()
  logits = [np.log(x) - np.log1p(-x) for x in (images, np.clip(samples, 1e-6, 1 - 1e-6))]
  data, model = (np.mean(scipy.fft.dctn(x - logits[0].mean(), axes=(1, 2), norm='ortho') ** 2, axis=0) for x in logits)
  np.testing.assert_allclose(model, data, rtol=0.15)
  np.testing.assert_allclose(flow.decode(flow.encode(images[:5]) + 0), images[:5], atol=1e-5)
