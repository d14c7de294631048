"""An independent critic of generators that are known to repeat training images, or not to, on scikit-learn's digits."""

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf

from flowgan_tf.estimators.independent_critic import critic_gap
from flowgan_tf.networks import dcgan_critic

LEVELS = 17


def digits():
  """Training images, validation images, and as many others, at random."""
  images = sklearn.datasets.load_digits().images.astype(np.uint8)[..., np.newaxis]
  images = np.random.default_rng(0).permutation(images)
  return images[:60], images[60:760], images[760:]


def replay(images):
  """A generator that repeats the given images, dequantised as the data are."""
  table = tf.constant(images, tf.float32)

  def sample(n, seed):
    indices = tf.random.stateless_uniform([n], seed, maxval=len(images), dtype=tf.int32)
    noise = tf.random.stateless_uniform([n, *images.shape[1:]], tf.random.experimental.stateless_fold_in(seed, 7))
    return (tf.gather(table, indices) + noise) / LEVELS

  return sample


def measure(sample, train, validation, steps, seed=0):
  keras.utils.set_random_seed(0)
  critic = dcgan_critic((8, 8, 1), channels=(16, 32), dense_units=0)
  return critic_gap(sample, train, validation, LEVELS, critic, steps, batch_size=50, seed=seed, learning_rate=1e-3)


@pytest.fixture(scope='module')
def of_copies():
  train, validation, _ = digits()
  return measure(replay(train), train, validation, steps=500)


@pytest.fixture(scope='module')
def of_fresh_images():
  train, validation, others = digits()
  return measure(replay(others), train, validation, steps=500)


def test_a_generator_that_replays_its_training_images_has_a_gap(of_copies):
  assert of_copies.gap > 3 * of_copies.gap_standard_error > 0


def test_a_generator_of_fresh_images_has_none(of_fresh_images):
  assert abs(of_fresh_images.gap) < 2.5 * of_fresh_images.gap_standard_error


def test_copies_are_closer_to_training_than_to_validation_images(of_copies):
  assert abs(of_copies.train) < 3 * of_copies.train_standard_error
  assert of_copies.validation > 2 * of_copies.validation_standard_error


def test_the_gap_is_the_difference_of_the_distances(of_copies):
  assert of_copies.gap == pytest.approx(of_copies.validation - of_copies.train)
  assert (of_copies.n, of_copies.steps) == (60, 500)


def test_the_seed_decides():
  train, validation, _ = digits()
  first, again, other = (measure(replay(train), train, validation, steps=3, seed=seed) for seed in (1, 1, 2))
  assert first == again and first.gap != other.gap


def test_outputs_that_are_not_finite_are_refused():
  train, validation, _ = digits()
  with pytest.raises(ValueError, match=r"^the critic's outputs must be finite\. Got: NaN or infinity\.$"):
    measure(lambda n, seed: replay(train)(n, seed) * np.nan, train, validation, steps=1)


def test_sets_that_cannot_be_measured_are_refused():
  images = np.zeros((4, 8, 8, 1), np.uint8)
  for train, validation in ((images[:1], images), (images, images[:3]), (images, images[:, :4])):
    with pytest.raises(ValueError, match=r'^`train` must hold at least 2 .* Got: .* and .*\.$'):
      measure(replay(images), train, validation, steps=1)
