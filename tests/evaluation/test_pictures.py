"""What the pictures show of a flow; test_sample.py tests them on runs."""

import math
import types

import keras
import numpy as np
import pytest

from flowgan_tf import flows
from flowgan_tf.evaluation import pictures
from flowgan_tf.evaluation.grids import image_grid


def make_run(**kwargs):
  keras.utils.set_random_seed(0)
  flow = flows.nice((4, 4, 1), hidden_units=4, hidden_layers=1, **kwargs)
  for variable in flow.trainable_variables:
    variable.assign_add(np.random.default_rng(0).normal(0, 0.1, variable.shape))
  return types.SimpleNamespace(generator=flow)


@pytest.fixture(scope='module')
def run():
  return make_run()


@pytest.mark.parametrize('n', [3, 501])  # 501 take two calls.
def test_samples_are_decoded_noise(run, n):
  picture = pictures.samples(run, n, seed=2, temperature=0.5)
  noise = 0.5 * run.generator.distribution.sample(n, seed=[2, 0]).numpy()
  np.testing.assert_allclose(picture.arrays['noise'], noise, rtol=1e-6)
  np.testing.assert_allclose(picture.arrays['images'], run.generator.decode(noise), atol=1e-6)
  np.testing.assert_array_equal(picture.grid, image_grid(picture.arrays['images']))


def test_interpolations_keep_the_variance_of_the_noise(run):
  picture = pictures.interpolations(run, 200, seed=1)
  noise = picture.arrays['noise'].reshape(200, 10, -1)
  np.testing.assert_allclose(noise.std(axis=(0, 2)), math.pi / math.sqrt(3), rtol=0.06)  # That of the logistic.
  np.testing.assert_allclose(picture.arrays['images'], run.generator.decode(picture.arrays['noise']), atol=1e-6)


def test_interpolations_go_from_mean_to_mean():
  run = make_run(components=3)
  prior = run.generator.distribution
  prior.means.assign(100.0 * prior.means)
  noise = pictures.interpolations(run, 200, seed=1).arrays['noise'].reshape(200, 10, 4, 4, 1)
  first, last = np.split(prior.sample_parts(400, seed=[1, 0])[0].numpy(), 2)
  for i in range(10):
    around = noise[:, i] - (first + i / 9 * (last - first))
    np.testing.assert_allclose(around.std(), math.pi / math.sqrt(3), rtol=0.06)
  np.testing.assert_allclose(noise[:, 0], prior.sample(400, seed=[1, 0])[:200], atol=1e-3)
