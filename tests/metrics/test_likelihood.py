import math
import types

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from flowgan_tf import flows
from flowgan_tf.metrics.likelihood import bits_per_dim, calibration_error, make_likelihood_fn


def stub(log_prob=lambda x: tf.reduce_sum(x, axis=(1, 2, 3)), encode=tf.identity, decode=tf.identity):
  flow = types.SimpleNamespace(log_prob=log_prob, encode=encode, decode=decode, dtype=tf.float32, classes=None)
  flow.on_batches = lambda function: lambda images, labels=None: function(flow, images)
  return flow


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
  flow = flows.nice((4, 4, 1), couplings=2, hidden_units=4, hidden_layers=1, normalization='none')
  images = np.random.default_rng(0).uniform(0.01, 0.99, (50, 4, 4, 1))
  likelihood = make_likelihood_fn(flow, 256, 25, jit=True)(images)
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


def test_an_error_that_is_not_a_number_is_seen_in_a_later_chunk():
  images = np.zeros((20, 4, 1, 1), np.float32)
  images[15] = 1
  measure = make_likelihood_fn(stub(decode=lambda z: z / (1 - z)), 256, 10, jit=False)
  assert not np.isfinite(measure(np.split(images, 2)).round_trip_error)
  images[15] = np.nan
  assert np.isnan(measure(np.split(images, 2)).round_trip_error)


@pytest.mark.parametrize('round_trips', [0, 1, 12, 99])
@pytest.mark.parametrize('chunk_size', [10, 25])
def test_the_round_trip_of_the_first_images_alone_is_measured(round_trips, chunk_size):
  """Image i comes back with an error of i / 1000; the likelihood is of all images."""
  images = np.arange(25, dtype=np.float32)[:, np.newaxis, np.newaxis, np.newaxis] * np.ones((2, 1, 1), np.float32)
  measure = make_likelihood_fn(stub(decode=lambda z: 1.001 * z), 256, 5, jit=False, round_trips=round_trips)
  likelihood = measure(images[start : start + chunk_size] for start in range(0, 25, chunk_size))
  expected = (min(round_trips, 25) - 1) / 1000 if round_trips else np.nan
  assert likelihood.round_trip_error == pytest.approx(expected, rel=1e-2, abs=1e-6, nan_ok=True)
  assert likelihood.n == 25 and likelihood.nll == pytest.approx(-24.0)


@pytest.mark.parametrize('round_trips', [None, 0, 12])
@pytest.mark.parametrize('chunks', [1, 3])
def test_each_image_keeps_its_condition(round_trips, chunks):
  flow = flows.nice((2, 2, 1), couplings=2, hidden_units=4, hidden_layers=1, condition_shape=(1,))
  for i, variable in enumerate(flow.trainable_variables):
    variable.assign_add(0.5 * tf.random.stateless_normal(variable.shape, (0, i)))
  rng = np.random.default_rng(0)
  images, conditions = (
    draw.astype(np.float32) for draw in (rng.uniform(0.1, 0.9, (24, 2, 2, 1)), rng.normal(size=(24, 1)))
  )
  found = make_likelihood_fn(flow, 256, 5, jit=False, round_trips=round_trips)(np.split(images, chunks), conditions)
  expected = -flow.log_prob(images, condition=conditions).numpy()
  assert found.nll == pytest.approx(expected.mean(), abs=1e-5)
  assert abs(expected.mean() + flow.log_prob(images, condition=conditions[::-1]).numpy().mean()) > 0.01


# Classes.


def test_calibration_error_in_a_loop():
  rng = np.random.default_rng(0)
  probs, labels = rng.dirichlet([0.5] * 4, 300), rng.integers(0, 4, 300)
  probs[0] = [1, 0, 0, 0]
  expected = 0.0
  for b in range(15):
    inside = [i for i in range(300) if b <= 15 * max(probs[i]) < b + 1 or (b == 14 and max(probs[i]) == 1)]
    if inside:
      accuracy = np.mean([np.argmax(probs[i]) == labels[i] for i in inside])
      expected += len(inside) / 300 * abs(accuracy - np.mean([max(probs[i]) for i in inside]))
  assert expected > 0.1 and calibration_error(probs, labels) == pytest.approx(expected)


def test_probabilities_that_are_true_are_calibrated():
  rng = np.random.default_rng(0)
  probs = rng.dirichlet([0.5] * 3, 20_000)
  labels = (probs.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
  assert calibration_error(probs, labels) < 0.015
  assert calibration_error(np.eye(3)[labels], labels) == 0
  assert calibration_error(np.eye(3)[labels], (labels + 1) % 3) == 1


def test_classes_against_sums_written_out():
  """p(x, y) is p(y) times a normal density around y; 25 images in batches of 10."""
  rng = np.random.default_rng(0)
  labels, class_probs = rng.integers(0, 3, 25), np.array([0.5, 0.3, 0.2])
  images = rng.normal(labels[:, np.newaxis, np.newaxis, np.newaxis], 1, (25, 2, 1, 1)).astype(np.float32)

  def class_log_probs(x):
    squares = tf.reduce_sum((x - tf.range(3.0)) ** 2, axis=(1, 2))
    return -squares / 2 - math.log(2 * math.pi) + tf.math.log(tf.constant(class_probs, tf.float32))

  flow = stub()
  vars(flow).update(classes=3, class_probs=class_probs, class_log_probs=class_log_probs)
  found = make_likelihood_fn(flow, 256, 10, jit=False)(images, labels)
  joint = np.zeros((25, 3))
  for i, image in enumerate(images.reshape(25, 2).astype(np.float64)):
    for y in range(3):
      joint[i, y] = class_probs[y] * np.prod([math.exp(-((v - y) ** 2) / 2) / math.sqrt(2 * math.pi) for v in image])
  assert found.nll == pytest.approx(-np.log(joint.sum(axis=1)).mean(), rel=1e-5)
  assert found.standard_error == pytest.approx(scipy.stats.sem(np.log(joint.sum(axis=1))), rel=1e-4)
  own = joint[np.arange(25), labels] / class_probs[labels]
  assert found.conditional_nll == pytest.approx(-np.log(own).mean(), rel=1e-5)
  hits = joint.argmax(axis=1) == labels
  assert found.class_accuracy == hits.mean() and 0.4 < hits.mean() < 1
  assert found.class_accuracy_error == pytest.approx(hits.std() / 5)
  posterior = joint / joint.sum(axis=1, keepdims=True)
  assert found.calibration_error == pytest.approx(calibration_error(posterior, labels), abs=1e-5)
  assert make_likelihood_fn(stub(), 256, 10, jit=False)(images).record().keys().isdisjoint({'class_accuracy'})


def test_the_calibration_of_a_flow_that_blew_up_is_nan():
  probs = np.array([[0.5, 0.5], [np.nan, np.nan]])
  assert np.isnan(calibration_error(probs, np.array([0, 1])))
