import dataclasses
import math

import keras
import numpy as np
import pytest

from flowgan_tf import data
from flowgan_tf.data import pipeline
from flowgan_tf.evaluation.evaluator import Evaluator
from flowgan_tf.runs.run import make_generator
from flowgan_tf.runs.seeds import Purpose
from tests.tiny import IMAGE_SHAPE, make_config


@pytest.fixture(scope='module')
def flow(config):
  keras.utils.set_random_seed(0)
  flow = make_generator(config, IMAGE_SHAPE)
  rng = np.random.default_rng(0)
  for variable in flow.trainable_variables:
    variable.assign_add(rng.normal(0, 0.2, variable.shape))
  return flow


@pytest.fixture(scope='module')
def evaluator(flow, dataset, config):
  return Evaluator(flow, dataset, config)


@pytest.mark.parametrize('split', ['train', 'validation', 'test'])
def test_likelihood_is_of_the_whole_split(evaluator, flow, dataset, split):
  """Splits of 120, 15 and 15 images, measured in batches of 100."""
  images = getattr(dataset, split).images
  x = data.dequantize(images, 256, 3 + Purpose.EVALUATION)
  log_prob = flow.log_prob(x).numpy().astype(np.float64)
  likelihood = evaluator.likelihood(split)
  assert likelihood.n == len(images)
  assert likelihood.nll == pytest.approx(-log_prob.mean(), abs=1e-4)
  assert likelihood.bits_per_dim == pytest.approx(8 - log_prob.mean() / (16 * math.log(2)), abs=1e-5)
  assert likelihood == evaluator.likelihood(split)


def test_likelihood_of_a_file_is_that_of_its_images(evaluator, flow, dataset, config, tmp_path, monkeypatch):
  """120 images, in chunks of one batch of 100 each."""
  np.save(tmp_path / 'train.npy', dataset.train.images)
  stored = dataclasses.replace(dataset, train=data.Split(data.StoredImages(tmp_path / 'train.npy'), None))
  monkeypatch.setattr(pipeline, '_VALUES_AT_ONCE', 1)
  monkeypatch.setattr(data.StoredImages, '__array__', None)
  assert Evaluator(flow, stored, config).likelihood('train') == evaluator.likelihood('train')


def test_samples(evaluator, flow):
  """501 samples take two calls."""
  samples = evaluator.sample(501, Purpose.SCORE)
  assert samples.shape == (501, 4, 4, 1) and samples.dtype == np.float32
  assert len(np.unique(samples.reshape(501, -1), axis=0)) == 501
  np.testing.assert_array_equal(evaluator.sample(501, Purpose.SCORE), samples)
  for other in (evaluator.sample(20, Purpose.GRID), evaluator.sample(20, Purpose.SCORE, step=1)):
    assert np.all(other != samples[:20])
  # Neither the prior's mean nor its scale is lost on the way.
  noise = flow.encode(samples).numpy()
  assert noise.std() == pytest.approx(math.pi / math.sqrt(3), rel=0.05)


def test_a_generator_without_a_density_has_no_likelihood(dataset):
  config = make_config({'dcgan.channels': (4,)}, generator='dcgan')
  evaluator = Evaluator(make_generator(config, IMAGE_SHAPE), dataset, config)
  assert evaluator.likelihood('test') is None
  assert evaluator.sample(3, Purpose.SCORE).shape == (3, *IMAGE_SHAPE)
