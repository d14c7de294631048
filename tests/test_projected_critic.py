"""The critic of examples/projected_critic.py, as a plug-in, and its parts beside NumPy."""

import importlib
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.config import default_config
from flowgan_tf.training.step import TrainStep
from tests.tiny import make_state, write_images

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / 'examples'
SHAPE = (8, 8, 1)


@pytest.fixture
def example(monkeypatch):
  monkeypatch.syspath_prepend(EXAMPLES)
  return importlib.import_module('projected_critic')


@pytest.fixture
def features(example, tmp_path):
  path = str(tmp_path / 'features.npz')
  np.savez(path, *example.classifier(SHAPE, classes=3).get_weights())
  return path


def test_a_hybrid_trains_with_it(example, features):
  """A step trains the heads and leaves the features and the mixing as they are."""
  config = default_config(
    objective='hybrid', critic='projected_critic:projected_critic', divergence='projected_critic:HINGE'
  )
  config.nice.couplings, config.nice.hidden_units, config.nice.hidden_layers = 2, 8, 1
  config.projected_critic.features, config.projected_critic.width = features, 2
  config.batch_size, config.critic_steps, config.reuse_batch = 4, 1, True
  state = make_state(config, SHAPE)
  frozen, before = ([v.numpy() for v in part] for part in (_frozen(state.critic), state.critic.trainable_variables))
  metrics = TrainStep(state, make_objective(config), config)(tf.random.stateless_uniform((4, *SHAPE), (0, 0)))
  assert all(np.isfinite(value) for value in metrics.values()) and 'gradient_penalty' not in metrics
  assert all(np.array_equal(v, old) for v, old in zip(_frozen(state.critic), frozen, strict=True))
  moved = [not np.array_equal(v, old) for v, old in zip(state.critic.trainable_variables, before, strict=True)]
  # The losses of images and samples pull the biases of the four outputs in opposite directions.
  assert len(moved) > 20 and sum(moved) >= len(moved) - 4


def _frozen(critic):
  return [v for v in critic.variables if not any(v is w for w in critic.trainable_variables)]


def test_it_judges_each_image_by_itself_and_sees_its_condition(example, features):
  critic = example.projected_critic(SHAPE, features=features, width=2, condition_shape=(3,))
  images = tf.random.stateless_uniform((5, *SHAPE), (0, 1))
  labels = tf.one_hot([0, 1, 2, 0, 1], 3)
  outputs = critic([images, labels])
  assert outputs.shape == (5, 4)
  np.testing.assert_allclose(critic([images[1:3], labels[1:3]]), outputs[1:3], rtol=1e-4, atol=1e-5)
  assert np.abs(critic([images, labels[::-1]]) - outputs)[[0, 1, 3, 4]].min() > 0


def test_a_hinge_of_the_best_critic_is_twice_the_total_variation(example):
  """Of two distributions over three values, which samples of 10 represent exactly."""
  real, fake = np.repeat([0, 1, 2], [6, 3, 1]), np.repeat([0, 1, 2], [1, 3, 6])
  best = tf.constant([1.0, 0.0, -1.0])  # sign(p - q)
  value = example.HINGE.value(tf.gather(best, real), tf.gather(best, fake))
  np.testing.assert_allclose(value, np.sum(np.abs([0.6 - 0.1, 0.0, 0.1 - 0.6])), rtol=1e-6)
  np.testing.assert_allclose(example.HINGE.generator_loss(None, tf.gather(best, fake)), 0.5, rtol=1e-6)


def test_the_spectral_norm_of_a_kernel_is_about_1(example):
  layer = example.SpectralConv2D(6, 3, padding='same', use_bias=False)
  images = tf.random.stateless_normal((2, 5, 5, 4), (0, 2))
  outputs, kernel = layer(images), layer.kernel.numpy()
  norm = np.linalg.norm(kernel.reshape(-1, 6), ord=2)
  scale = outputs / (tf.nn.conv2d(images, kernel, 1, 'SAME') / norm)
  np.testing.assert_allclose(scale, np.full_like(scale, scale[0, 0, 0, 0]), rtol=1e-3)
  assert 1 - 1e-3 < scale[0, 0, 0, 0] < 1.1


def test_augmented_images(example):
  """The same image is changed in the same way; a shift brings in zeros and keeps the rest, and a hole is zero."""
  images = tf.random.stateless_uniform((64, 16, 16, 3), (0, 3), 0.25, 1.0)
  augment = example.Augment()
  changed = augment(images)
  np.testing.assert_array_equal(augment(images[5:7]), changed[5:7])
  assert np.std(np.mean(changed, axis=(1, 2, 3))) > 0.1 > np.std(np.mean(images, axis=(1, 2, 3)))
  middle, end = tf.fill((1, 1), 0.5), tf.fill((1, 1), 0.999)
  np.testing.assert_array_equal(example._shifted(images[:1], middle, middle), images[:1])
  np.testing.assert_array_equal(example._shifted(images[:1], end, middle)[:, :-2], images[:1, 2:])
  np.testing.assert_array_equal(example._shifted(images[:1], end, middle)[:, -2:], 0)
  holed = np.asarray(example._with_hole(images[:1], middle, end)[0, :, :, 0] == 0)
  assert holed[6:11, 13:].all() and holed.sum() == 5 * 3


@pytest.mark.slow
def test_the_program_trains_a_classifier_and_writes_its_weights(example, tmp_path):
  path, dataset = tmp_path / 'features.npz', write_images(tmp_path / 'images.npz', 40, SHAPE, labels=True)
  command = [sys.executable, EXAMPLES / 'projected_critic.py', path, f'--dataset={dataset}', '--images=2560']
  printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
  assert re.search(r': [\d.]+% of \d+ test images have the right label', printed)
  assert [f.shape[1:3] for f in example.frozen_features(path, SHAPE, 'float32').outputs] == [(4, 4), (2, 2), (1, 1)]


def test_a_file_that_is_missing_or_for_other_images(example, features):
  for path, shape in (('none.npz', SHAPE), (features, (8, 8, 3))):
    with pytest.raises(UsageError, match=r'^`features` must be a file that projected_critic.py wrote for images'):
      example.projected_critic(shape, features=path)
