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
  """Random walks from top to bottom and from left to right, in two channels that agree."""
  noise = np.random.default_rng(0).normal(size=(n, *SHAPE)).cumsum(axis=1).cumsum(axis=2)
  return noise @ np.array([[1.0, 0.5], [0.2, 0.3]]) + [3.0, -1.0]


def transform():
  """The cosine transform of each channel, as a matrix of all entries of an image."""
  rows, columns = (scipy.fft.dct(np.eye(size), axis=0, norm='ortho') for size in SHAPE[:2])
  return np.kron(np.kron(rows, columns), np.eye(SHAPE[2]))


def test_density_is_the_gaussian_of_independent_frequencies():
  images, matrix = photographs(60), transform()
  whitening = SpectralWhitening(SHAPE)
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
  whitening = SpectralWhitening(SHAPE, stddev=1.8)
  np.testing.assert_allclose(whitening.forward(images), images, atol=1e-12)  # A new one changes nothing.
  whitening.fit(tf.constant(images), inverse=False)
  spectra = whitening.forward(tf.constant(images)).numpy().reshape(200, -1) @ transform().T
  np.testing.assert_allclose(np.mean(spectra**2, axis=0), 1.8**2, rtol=1e-9)
  pairs = spectra.reshape(200, -1, SHAPE[2])
  np.testing.assert_allclose(np.mean(pairs[..., 0] * pairs[..., 1], axis=0), 0, atol=1e-9)


def test_constant_images_have_a_finite_density():
  whitening = SpectralWhitening((2, 2, 1))
  whitening.fit(np.ones((3, 2, 2, 1)), inverse=False)
  np.testing.assert_allclose(whitening.forward(np.ones((1, 2, 2, 1))), 0, atol=1e-12)
  assert np.isfinite(whitening.forward_log_det_jacobian(tf.zeros((2, 2, 1)), 3))


@pytest.mark.parametrize('size', [1e-3, 1.0, 1e3])
def test_the_smallest_variance_is_a_share_of_the_mean_one(size):
  """Of four frequencies of 2 x 2 grey images, only the mean varies: its transform is +-2 size."""
  whitening = SpectralWhitening((2, 2, 1))
  whitening.fit(size * np.array([-1.0, 1.0]).reshape((2, 1, 1, 1)) * np.ones((2, 2, 2, 1)), inverse=False)
  least = 1e-6 * size**2  # The mean variance is (4 + 0 + 0 + 0) / 4 size^2.
  expected = -0.5 * (np.log(4 * size**2) + 3 * np.log(least))
  found = whitening.forward_log_det_jacobian(tf.zeros((2, 2, 1), tf.float64), 3)
  np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
  ('name', 'call'),
  [
    ('inverse', lambda: SpectralWhitening(SHAPE).fit(np.zeros((5, *SHAPE)), inverse=True)),
    ('values', lambda: SpectralWhitening(SHAPE).fit(np.zeros((2, *SHAPE)), inverse=False)),
    ('values', lambda: SpectralWhitening(SHAPE).fit(np.zeros((5, 4, 3, 1)), inverse=False)),
    ('event_shape', lambda: SpectralWhitening((4,))),
    ('event_shape', lambda: SpectralWhitening((4, 0, 2))),
    ('stddev', lambda: SpectralWhitening(SHAPE, stddev=0.0)),
    ('stddev', lambda: SpectralWhitening(SHAPE, stddev=np.inf)),
  ],
)
def test_wrong_arguments_are_named(name, call):
  with pytest.raises(ValueError, match=f'`{name}`'):
    call()


@pytest.mark.parametrize('prior', ['logistic', 'normal'])
def test_logits_of_a_new_jet_have_the_spectrum_of_the_data(prior):
  images = (1 / (1 + np.exp(-0.3 * photographs(400)))).astype('float32')
  flow = fg.flows.jet(SHAPE, couplings=2, patch_size=1, width=4, hidden_units=4, whitening=True, prior=prior)
  fg.flows.fit_bijectors(flow, images)
  samples = np.clip(flow.sample(8000, seed=(0, 1)).numpy(), 1e-7, 1 - 1e-7)
  logits = [np.log(x) - np.log1p(-x) for x in (images, samples)]
  mean = logits[0].mean(axis=(0, 1, 2))
  np.testing.assert_allclose(logits[1].mean(axis=(0, 1, 2)), mean, atol=0.15)
  data, model = (
    np.einsum('nhwc,nhwd->hwcd', x, x) / len(x)
    for x in (scipy.fft.dctn(logit - mean, axes=(1, 2), norm='ortho') for logit in logits)
  )
  np.testing.assert_allclose(model, data, rtol=0.15, atol=0.02 * data.max())
  np.testing.assert_allclose(flow.decode(flow.encode(images[:5]) + 0), images[:5], atol=1e-5)
