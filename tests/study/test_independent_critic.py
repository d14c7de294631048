"""An independent critic of generators that are known to repeat training images, or not to, on scikit-learn's digits."""

import keras
import numpy as np
import pytest
import scipy.stats
import sklearn.datasets
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.objectives import dcgan_critic
from flowgan_tf.runs.run import make_critic
from flowgan_tf.study import critic_distances
from flowgan_tf.study.independent_critic import IndependentCritic

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


def measure(sample, train, validation, steps):
  keras.utils.set_random_seed(0)
  critic = dcgan_critic((8, 8, 1), channels=(16, 32), dense_units=0)
  return critic_distances(sample, train, validation, LEVELS, critic, steps, 50, 0, learning_rate=1e-3)


@pytest.mark.slow
def test_a_generator_that_replays_its_training_images_has_a_gap():
  train, validation, _ = digits()
  found = measure(replay(train), train, validation, steps=400)
  assert found['gap'] > 3 * found['gap_standard_error'] > 0
  assert abs(found['train']) < 3 * found['train_standard_error']
  assert found['validation'] > 2 * found['validation_standard_error']
  assert found['gap'] == pytest.approx(found['validation'] - found['train'])
  assert (found['n'], found['steps']) == (60, 400)


def test_it_needs_a_validation_image_for_the_training_and_one_for_the_measurement():
  train, validation, _ = digits()
  with pytest.raises(UsageError, match=r'^`validation` must be at least 2 images\. Got: 1'):
    measure(replay(train), train, validation[:1], steps=1)


@pytest.mark.slow
def test_a_generator_of_fresh_images_has_none():
  train, validation, others = digits()
  found = measure(replay(others), train, validation, steps=500)
  assert abs(found['gap']) < 2.5 * found['gap_standard_error']


@pytest.mark.slow
def test_a_critic_with_several_outputs_is_their_mean():
  train, validation, _ = digits()
  found = []
  for offsets in ([0.0], [5.0, -5.0]):
    keras.utils.set_random_seed(0)
    one = dcgan_critic((8, 8, 1), channels=(2,), dense_units=0)
    critic = keras.Model(one.inputs, keras.ops.concatenate([one.outputs[0] + offset for offset in offsets], axis=1))
    found.append(critic_distances(replay(train), train, validation, LEVELS, critic, 5, 50, 0, learning_rate=1e-3))
  assert abs(found[0]['train']) > 1e-3
  assert found[1] == pytest.approx(found[0], rel=1e-3)


@pytest.mark.slow
def test_the_analysis_trains_a_critic_like_the_one_of_the_training(subject):
  numbers, arrays = IndependentCritic().measure(subject, IndependentCritic.Settings(critic_steps=2, seed=1))
  config, dataset = subject.run.config, subject.dataset
  images = dataset.train.images, dataset.validation.images
  found = []
  for seed in (1, 2):
    keras.utils.set_random_seed(seed)
    critic = make_critic(config, dataset.image_shape)
    found.append(
      critic_distances(subject.run.generator.sample, *images, dataset.levels, critic, 2, config.batch_size, seed)
    )
  assert numbers == pytest.approx(found[0]) and arrays == {}
  assert numbers['gap'] != pytest.approx(found[1]['gap'])


def test_distances_and_errors_of_a_critic_that_is_the_mean_pixel():
  """It does not learn. Samples have the means 0, 1/49, ..., 1, and validation images one, but for the noise."""
  critic = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)])
  critic.layers[-1].set_weights([np.ones((1, 1)), np.zeros(1)])
  levels, ones = np.arange(50) % 17, np.ones((100, 8, 8, 1), np.uint8)
  found = critic_distances(
    lambda n, seed: tf.reshape(tf.linspace(0.0, 1.0, n), (-1, 1, 1, 1)) * tf.ones((1, 8, 8, 1)),
    levels.astype(np.uint8).reshape(-1, 1, 1, 1) * ones[:50],
    5 * ones,
    LEVELS,
    critic,
    steps=1,
    batch_size=50,
    seed=0,
    learning_rate=0.0,
  )
  of_train, of_samples = (levels + 0.5) / 17, np.linspace(0, 1, 50)
  errors = {'train': scipy.stats.sem(of_train), 'samples': scipy.stats.sem(of_samples)}
  near = {'abs': 0.005}  # The noise of dequantisation.
  assert found['train'] == pytest.approx(of_train.mean() - 0.5, **near)
  assert found['validation'] == pytest.approx(5.5 / 17 - 0.5, **near)
  assert found['gap'] == pytest.approx(5.5 / 17 - of_train.mean(), **near)
  assert found['train_standard_error'] == pytest.approx(np.hypot(*errors.values()), rel=0.05)
  assert found['validation_standard_error'] == pytest.approx(errors['samples'], rel=0.05)
  assert found['gap_standard_error'] == pytest.approx(errors['train'], rel=0.05)
