"""A module from outside of the package, as a user would write it: a part of each kind that programs take by name."""

import dataclasses
from typing import Annotated

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg

tfb, tfd = tfp.bijectors, tfp.distributions


class ActNorm(tfb.Bijector):
  """Scales and shifts the data to mean 0 and standard deviation 1, as in Glow."""

  def __init__(self, name='act_norm'):
    parameters = dict(locals())
    self.mean, self.std = tf.Variable(0.0, name='mean'), tf.Variable(1.0, name='std')
    super().__init__(forward_min_event_ndims=0, parameters=parameters, name=name)

  def fit(self, values, inverse):
    assert inverse
    self.mean.assign(tf.reduce_mean(values))
    self.std.assign(tf.math.reduce_std(values))

  def _forward(self, x):
    return self.mean + self.std * x

  def _inverse(self, y):
    return (y - self.mean) / self.std

  def _forward_log_det_jacobian(self, x):
    return tf.math.log(tf.abs(self.std)) + tf.zeros_like(x)


@fg.flows.builder
def toy(
  image_shape,
  *,
  spread: Annotated[float, fg.flows.Setting('Factor of the noise.', 0.1, 10)] = 1.0,
  shifts=(0.0, 0.0),
  dtype='float32',
  name='toy',
):
  """One log-scale and two shifts for all pixels, before a sigmoid."""
  wide = tf.float64 if dtype == 'float64' else tf.float32
  log_scale = tf.Variable(tf.math.log(tf.cast(spread, wide)), name='log_scale')
  parts = [tfb.Shift(tf.Variable(tf.cast(shift, wide), name='shift')) for shift in shifts]
  scale = tfb.Scale(log_scale=log_scale)
  to_image = tfb.Chain([tfb.Invert(fg.bijectors.AlphaLogit()), scale, *parts], name=f'{name}_generator')
  prior = tfd.Sample(tfd.Logistic(tf.zeros((), wide), tf.ones((), wide)), image_shape)
  return fg.flows.Flow(prior, to_image, name)


@fg.flows.builder
def rows(vector_shape, *, dtype='float32', name='rows'):
  """A flow of the rows of a table."""
  prior = tfd.Sample(tfd.Normal(0.0, 1.0), vector_shape)
  return fg.flows.Flow(prior, ActNorm(), name)


class Bright(fg.objectives.Term):
  """The mean of the samples."""

  needs_samples = True

  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Settings(fg.objectives.Settings):
    toy_weight: float = fg.objectives.setting(0.0, 'Weight of the mean of the samples.', short=True)

  def loss(self, drawn):
    bright = tf.reduce_mean(drawn.samples)
    return self.settings.toy_weight * bright, {'bright': bright}


def squared(outputs):
  return tf.reduce_mean(tf.square(tf.cast(outputs, tf.float32)))


DIVERGENCE = fg.objectives.Divergence(
  name='toy_divergence',
  critic_loss=lambda real, fake: squared(real - 1.0) + squared(fake),
  generator_loss=lambda real, fake: squared(fake - 1.0),
  value=lambda real, fake: 1.0 - squared(real - 1.0) - squared(fake),
)


class Brightness(fg.study.Analysis):
  """The mean of samples."""

  name, title, description, caption = 'brightness', 'Brightness', 'mean of samples', 'Mean of samples'
  columns = (fg.display.tables.Column('mean', 'mean', '.3f'),)

  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Settings(fg.study.Settings):
    few: int = fg.study.setting(10, 'Samples.')

  def measure(self, subject, settings):
    return {'mean': float(subject.samples(settings.few, settings.seed).mean()), 'n': settings.few}, {}


BRIGHTNESS = Brightness()


def stripes():
  """Images whose upper half is white."""
  images = np.zeros((40, 4, 4, 1), np.uint8)
  images[:, :2] = 255
  parts = (fg.data.Split(images[part], None) for part in (slice(0, 24), slice(24, 32), slice(32, 40)))
  return fg.data.Dataset('stripes', 256, *parts, num_classes=None)
