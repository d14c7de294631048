import math
import types

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import flows
from flowgan_tf.metrics.likelihood import bits_per_dim, make_likelihood_fn


def stub(log_prob=lambda x: tf.reduce_sum(x, axis=(1, 2, 3)), encode=tf.identity, decode=tf.identity):
  return types.SimpleNamespace(log_prob=log_prob, encode=encode, decode=decode, dtype=tf.float32)


@pytest.mark.parametrize(
  ('nll', 'shape', 'levels', 'expected'),
  [
    (0.0, (28, 28, 1), 256, 8.0),  # A uniform density of the unit cube.
    (0.0, (8, 8, 1), 16, 4.0),
    (-3 * 4 * math.log(2), (2, 2, 1), 256, 5.0),  # Density 2^3 in each dimension: 3 bits fewer.
    (-3334.56, (28, 28, 1), 256, 8 - 3334.56 / 784 / math.log(2)),  # The paper's MNIST model.
    (math.inf, (2, 2, 1), 256, math.inf),
  ],
)
def test_bits_per_dim(nll, shape, levels, expected):
  assert bits_per_dim(nll, shape, levels) == pytest.approx(expected)


def test_an_untrained_nice_is_uniform():
  """Zero shifts, unit scales and a logistic prior: x = sigmoid(z) is uniform, 8 bits for each of 256 grey levels."""
  flow = flows.nice((4, 4, 1), hidden_units=4, hidden_layers=1)
  images = np.random.default_rng(0).uniform(0.01, 0.99, (50, 4, 4, 1))
  likelihood = make_likelihood_fn(flow, 256, 20, jit=True)(images)
  assert likelihood.bits_per_dim == pytest.approx(8.0, abs=1e-5) and likelihood.nll == pytest.approx(0.0, abs=1e-4)
  # It is computed: TFP's bijectors remember the input of an output, which would have no error.
  assert 0 < likelihood.round_trip_error < 1e-6


@pytest.mark.parametrize(('n', 'chunk_size'), [(1, 20), (20, 20), (47, 47), (47, 20), (47, 40)])
def test_the_last_partial_batch_counts_and_chunks_are_measured_as_one(n, chunk_size):
  images = np.random.default_rng(n).random((n, 3, 2, 1)).astype(np.float32)
  chunks = (images[start : start + chunk_size] for start in range(0, n, chunk_size))
  likelihood = make_likelihood_fn(stub(), 256, 20, jit=False)(chunks)
  sums = images.sum(axis=(1, 2, 3), dtype=np.float64)
  assert likelihood.n == n
  assert likelihood.nll == pytest.approx(-sums.mean(), rel=1e-6)
  assert likelihood.bits_per_dim == pytest.approx(8 - sums.mean() / (6 * math.log(2)), rel=1e-6)
  if n == 1:
    assert math.isnan(likelihood.standard_error)
  else:
    assert likelihood.standard_error == pytest.approx(np.std(sums, ddof=1) / math.sqrt(n), rel=1e-5)


def test_a_broken_inverse_is_seen():
  """The largest error of one pixel of one image, also in the last batch."""

  def decode(noise):
    return noise - tf.one_hot([3], 4)[:, :, tf.newaxis, tf.newaxis] * 0.25 * tf.cast(noise > 2, tf.float32)

  images = np.random.default_rng(0).random((25, 4, 1, 1))
  measure = make_likelihood_fn(stub(decode=decode), 256, 10, jit=False)
  assert measure(images).round_trip_error == 0.0
  images[24, 3] = 2.5
  assert measure(images).round_trip_error == pytest.approx(0.25)


@pytest.mark.parametrize('round_trips', [1, 12, 99])
@pytest.mark.parametrize('chunk_size', [10, 25])
def test_the_round_trip_of_the_first_images_alone_is_measured(round_trips, chunk_size):
  """Image i comes back with an error of i / 1000; the likelihood is of all images."""
  images = np.arange(25, dtype=np.float32)[:, np.newaxis, np.newaxis, np.newaxis] * np.ones((2, 1, 1), np.float32)
  measure = make_likelihood_fn(stub(decode=lambda z: 1.001 * z), 256, 5, jit=False, round_trips=round_trips)
  likelihood = measure(images[start : start + chunk_size] for start in range(0, 25, chunk_size))
  assert likelihood.round_trip_error == pytest.approx((min(round_trips, 25) - 1) / 1000, rel=1e-2, abs=1e-6)
  assert likelihood.n == 25 and likelihood.nll == pytest.approx(-24.0)
