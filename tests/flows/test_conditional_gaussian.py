"""Couplings whose networks are linear make a Gaussian of a Gaussian, for each condition; SciPy knows its density."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special, stats

from flowgan_tf.bijectors import AffineCoupling, masks
from flowgan_tf.flows import Flow

KEPT = {'first': slice(0, None, 2), 'second': slice(1, None, 2)}


def linear_network(size):
  """A user's own network with two inputs: the shift is linear in both, and the log-scale depends on the condition."""
  x, condition = keras.Input([2], dtype='float64'), keras.Input([size], dtype='float64')
  shift = keras.layers.Dense(2, name='shift', dtype='float64')(
    keras.layers.Concatenate(dtype='float64')([x, condition])
  )
  log_scale = keras.layers.Dense(2, name='log_scale', dtype='float64')(condition)
  return keras.Model([x, condition], keras.layers.Concatenate(dtype='float64')([shift, log_scale]))


def make_flow(size, **conditional):
  networks = {name: linear_network(size) for name in KEPT}
  rng = np.random.default_rng(3)
  for network in networks.values():
    network.set_weights([rng.normal(0, 0.7, weight.shape) for weight in network.get_weights()])
  parts = [
    AffineCoupling(network, masks.even_odd(4, swap=name == 'second'), 2.0, name=name, condition_shape=[size])
    for name, network in networks.items()
  ]
  prior = tfp.distributions.Sample(tfp.distributions.Normal(np.float64(0), np.float64(1)), [4])
  return Flow(prior, tfp.bijectors.Chain(parts[::-1]), **conditional), networks


def gaussian(networks, condition):
  """`x = M z + m`, where each coupling in turn multiplies the rows of its changed entries."""
  matrix, mean = np.eye(4), np.zeros(4)
  for name, network in networks.items():
    kept = KEPT[name]
    changed = KEPT['second' if name == 'first' else 'first']
    (weights, bias), (of_scale, scale_bias) = (network.get_layer(part).get_weights() for part in ('shift', 'log_scale'))
    scale = np.exp(2 * np.tanh(np.tanh(condition @ of_scale + scale_bias) / 2))
    own_matrix, own_mean = np.eye(4), np.zeros(4)
    own_matrix[changed, changed] = np.diag(scale)
    own_matrix[changed, kept] = weights[:2].T
    own_mean[changed] = condition @ weights[2:] + bias
    matrix, mean = own_matrix @ matrix, own_matrix @ mean + own_mean
  return stats.multivariate_normal(mean, matrix @ matrix.T)


def test_densities_given_vectors_are_those_of_gaussians():
  flow, networks = make_flow(3, condition_shape=[3])
  rng = np.random.default_rng(0)
  conditions, points = rng.normal(size=(5, 3)), rng.normal(0, 2, (5, 7, 4))
  expected = np.stack([gaussian(networks, c).logpdf(x) for c, x in zip(conditions, points, strict=True)])
  np.testing.assert_allclose(flow.log_prob(points, condition=conditions[:, np.newaxis]), expected, rtol=1e-12)
  np.testing.assert_allclose(flow.given(conditions).log_prob(points[:, 0]), expected[:, 0], rtol=1e-12)
  assert np.ptp([gaussian(networks, c).logpdf(points[0, 0]) for c in conditions]) > 1


def test_samples_given_vectors_have_the_moments_of_gaussians():
  flow, networks = make_flow(3, condition_shape=[3])
  for seed, condition in enumerate(np.random.default_rng(1).normal(size=(2, 3))):
    exact = gaussian(networks, condition)
    samples = flow.sample(20_000, seed=(0, seed), condition=condition).numpy()
    whitened = np.linalg.solve(np.linalg.cholesky(exact.cov), (samples - exact.mean).T)
    assert stats.kstest(whitened.ravel(), 'norm').pvalue > 0.01
    np.testing.assert_allclose(np.cov(whitened), np.eye(4), atol=0.05)


def test_a_flow_with_classes_is_a_mixture_of_gaussians():
  class_probs = np.array([0.5, 0.3, 0.2])
  flow, networks = make_flow(3, class_probs=tf.constant(class_probs))
  points = np.random.default_rng(0).normal(0, 2, (6, 4))
  joint = np.stack([gaussian(networks, c).logpdf(points) for c in np.eye(3)], axis=1) + np.log(class_probs)
  np.testing.assert_allclose(flow.class_log_probs(points), joint, rtol=1e-12)
  np.testing.assert_allclose(flow.log_prob(points), special.logsumexp(joint, axis=1), rtol=1e-12)
  labels = np.array([0, 2, 1, 1, 0, 2])
  own = joint[np.arange(6), labels] - np.log(class_probs[labels])
  np.testing.assert_allclose(flow.log_prob(points, condition=labels), own, rtol=1e-12)
