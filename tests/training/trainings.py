"""What trainings left in their folders, trainings that fail where a test wants it, and parts that take no time."""

import numpy as np
import tensorflow as tf

from flowgan_tf.metrics.likelihood import Likelihood
from flowgan_tf.metrics.samples import score_samples
from flowgan_tf.runs.log import read_metrics
from flowgan_tf.training import loop
from tests.processes import newest


def weights(*parts):
  return [v.numpy() for part in parts for v in part.variables]


class StubStep:
  """Moves all weights by the mean of the images; to the loop it is a training step."""

  def __init__(self, state, objective, config, replicas):
    self.state, self.rate = state, config.optimizer.learning_rate

  def __call__(self, images, step, gradient_norm):
    images = images[0] if isinstance(images, tuple) else images  # Without conditions.
    state, nll, rate = self.state, tf.reduce_mean(images), self.rate * self.state.rate_factor
    for variable in (*state.generator.trainable_variables, *(state.critic.trainable_variables if state.critic else ())):
      variable.assign_add(tf.fill(variable.shape, rate * nll))
    for average, variable in zip(state.ema.trainable_variables, state.generator.trainable_variables, strict=True):
      average.assign((average + variable) / 2)
    state.step.assign_add(1)
    return {'nll': nll, 'learning_rate': rate} | ({'gradient_norm': rate * nll} if gradient_norm else {})


class StubEvaluator:
  """Measures the first weight of a generator; to the loop it is an evaluator."""

  def __init__(self, generator, dataset, config, **_):
    self.generator, self.shape = generator, dataset.image_shape

  def likelihood(self, split, quick=False):
    return Likelihood(float(tf.reduce_mean(self.generator.trainable_variables[0])), 0.1, 2.0, 0.0, 10)

  def sample(self, n, purpose, step=0, condition=None):
    return np.random.default_rng((purpose, step)).random((n, *self.shape), np.float32)

  def score(self, samples, scorer):
    return score_samples(samples, scorer)


def checkpoint_of(workdir, name='latest'):
  """Every number of the newest checkpoint, by its key."""
  reader = tf.train.load_checkpoint(str(newest(workdir, name)))
  keys = reader.get_variable_to_shape_map()
  apart = ('_CHECKPOINTABLE', 'run/', 'save_counter')
  return {key: reader.get_tensor(key) for key in keys if not key.startswith(apart)}


def records_of(workdir):
  return [{k: v for k, v in r.items() if k != 'seconds'} for r in read_metrics(workdir)]


def assert_same_run(first, second):
  a, b = checkpoint_of(first), checkpoint_of(second)
  assert a.keys() == b.keys() and len(a) > 10
  for key, value in a.items():
    np.testing.assert_array_equal(value, b[key], err_msg=key)
  assert records_of(first) == records_of(second)


def poison_after(step, variables, above=0.0):
  """A `TrainStep` that turns a weight to NaN at its end, if the rate is above a factor."""
  original = loop.TrainStep

  def make(state, *args):
    train_step = original(state, *args)

    def poisoned(images, **kwargs):
      metrics = train_step(images, **kwargs)
      if int(state.step) == step and float(state.rate_factor) > above:
        first = getattr(state, variables).trainable_variables[0]
        first.assign(first * np.nan)
      return metrics

    return poisoned

  return make
