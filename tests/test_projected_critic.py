"""The critic of examples/projected_critic.py, as a plug-in, and its parts beside NumPy."""

import importlib
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
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
  np.savez(path, SHAPE, *example.classifier(SHAPE, classes=3).get_weights())
  return path


@pytest.mark.parametrize(
  ('penalty', 'precision'), [(0.05, 'mixed_bfloat16'), pytest.param(0.0, 'float32', marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures('eagerly')
def test_a_hybrid_trains_with_it(example, features, penalty, precision):
  """A step trains the heads and leaves the features and the mixing as they are."""
  config = default_config(
    objective='hybrid', critic='projected_critic:projected_critic', divergence='projected_critic:HINGE'
  )
  config.nice.couplings, config.nice.hidden_units, config.nice.hidden_layers = 2, 8, 1
  config.projected_critic.features, config.projected_critic.width = features, 2
  config.batch_size, config.critic_steps, config.reuse_batch = 4, 1, True
  config.gradient_penalty, config.precision = penalty, precision
  state = make_state(config, SHAPE)
  frozen, before = ([v.numpy() for v in part] for part in (_frozen(state.critic), state.critic.trainable_variables))
  metrics = TrainStep(state, make_objective(config), config)(tf.random.stateless_uniform((4, *SHAPE), (0, 0)))
  assert all(np.isfinite(value) for value in metrics.values()) and ('gradient_penalty' in metrics) == (penalty > 0)
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
  best = np.array([1.0, 0.0, -1.0])  # sign(p - q)
  value = example.HINGE.value(best[real], best[fake])
  np.testing.assert_allclose(value, np.sum(np.abs([0.6 - 0.1, 0.0, 0.1 - 0.6])), rtol=1e-6)
  for critic in (3 * best, best / 2, best + 0.5):
    r, f = critic[real], critic[fake]
    expected = np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean()
    np.testing.assert_allclose(example.HINGE.critic_loss(r, f), expected, rtol=1e-6)
    np.testing.assert_allclose(example.HINGE.generator_loss(None, f), -f.mean(), rtol=1e-6)
    assert example.HINGE.value(r, f) < value


def test_the_spectral_norm_of_a_kernel_is_about_1(example):
  layer = example.SpectralConv2D(6, 3, padding='same', use_bias=False)
  images = tf.random.stateless_normal((2, 5, 5, 4), (0, 2))
  outputs, kernel = layer(images), layer.kernel.numpy()
  norm = np.linalg.norm(kernel.reshape(-1, 6), ord=2)
  scale = outputs / (tf.nn.conv2d(images, kernel, 1, 'SAME') / norm)
  np.testing.assert_allclose(scale, np.full_like(scale, scale[0, 0, 0, 0]), rtol=1e-3)
  assert 1 - 1e-3 < scale[0, 0, 0, 0] < 1.1


def test_an_image_is_changed_alike_in_each_batch(example):
  images = tf.random.stateless_uniform((128, 32, 32, 3), (0, 3))
  changed = example.Augment()(images)
  for i in range(0, 128, 16):
    np.testing.assert_allclose(example.Augment()(images[i : i + 1]), changed[i : i + 1], atol=1e-5)
  assert np.abs(changed[1:] - changed[:-1]).mean() > 0.1
  broken = example.Augment()(tf.fill((1, 32, 32, 3), np.nan))
  assert np.isnan(broken).any()  # The loss is, too, and a training can go back.


def test_colours_by_hand(example):
  x = np.random.default_rng(0).uniform(size=(2, 4, 4, 3)).astype(np.float32)
  numbers = [np.full((2, 1, 1, 1), value, np.float32) for value in (0.75, 0.25, 0.9)]
  bright = x + 0.125
  grey = bright.mean(axis=3, keepdims=True)
  pale = 0.5 * (bright + grey)
  mean = pale.mean(axis=(1, 2, 3), keepdims=True)
  np.testing.assert_allclose(example.recoloured(x, *numbers), mean + 1.4 * (pale - mean), rtol=1e-5)
  same = [np.full((2, 1, 1, 1), 0.5, np.float32)] * 3
  np.testing.assert_allclose(example.recoloured(x, *same), x, atol=1e-6)


def test_a_shift_and_a_hole(example):
  """A shift brings in zeros and keeps the rest, and a hole is zero."""
  images = tf.random.stateless_uniform((1, 16, 16, 3), (0, 3), 0.25, 1.0)
  middle, end = tf.fill((1, 1), 0.5), tf.fill((1, 1), 1.0)
  np.testing.assert_array_equal(example.shifted(images, middle, middle), images)
  moved = example.shifted(images, end, middle)
  np.testing.assert_array_equal(moved[:, :-2], images[:, 2:])
  np.testing.assert_array_equal(moved[:, -2:], 0)
  hole = np.asarray(example.with_hole(images, middle, 0.99 * end)[0, :, :, 0] == 0)
  assert hole[6:11, 13:].all() and hole.sum() == 5 * 3


@pytest.mark.slow
def test_the_program_trains_a_classifier_and_writes_its_weights(example, tmp_path):
  path, dataset = tmp_path / 'features.npz', write_images(tmp_path / 'images.npz', 40, SHAPE, labels=True)
  command = [sys.executable, EXAMPLES / 'projected_critic.py', path, f'--dataset={dataset}', '--images=2560']
  printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
  assert re.search(r'features.npz: [\d.]+% of \d+ test images have the right label', printed)
  assert [f.shape[1:3] for f in example.frozen_features(path, SHAPE, 'float32').outputs] == [(4, 4), (2, 2), (1, 1)]


def test_what_does_not_fit_is_named(example, features, tmp_path):
  damaged = tmp_path / 'damaged.npz'
  damaged.write_bytes(pathlib.Path(features).read_bytes()[:1000])
  shapeless = tmp_path / 'shapeless.npz'
  np.savez(shapeless, *example.classifier(SHAPE, classes=3).get_weights())
  for path, shape in (
    ('none.npz', SHAPE),
    (shapeless, (3, 3, 1)),
    (damaged, SHAPE),
    (features, (8, 8, 3)),
    (features, (12, 8, 1)),
  ):
    with pytest.raises(UsageError, match=r'^`features` must be a file that projected_critic.py wrote for images of'):
      example.projected_critic(shape, features=path)
  with pytest.raises(UsageError, match=r'^`condition` must be labels or vectors for this critic. Got: \(4, 4, 1\)'):
    example.projected_critic(SHAPE, features=features, condition_shape=(4, 4, 1))
