"""A generator without a density: noise, a network, and nothing that inverts it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.base.errors import check_bool
from flowgan_tf.flows.checks import check_events
from flowgan_tf.flows.generator import Generator
from flowgan_tf.flows.given import GivenSampler
from flowgan_tf.networks.adapter import KerasModule


class ImplicitGenerator(Generator, tf.Module):
  """A generator that can only be sampled: `x = G(z)`, `z ~ prior`, where `G` has no inverse.

  It replaces a `Flow` wherever samples are enough, as in adversarial training. The density of an image would be an
  intractable integral over the noise, so there is neither `log_prob` nor `encode`.

  A conditional generator is `x = G(z, c)`. Its methods take the keyword `condition`, as a `Flow`'s do.
  """

  has_density = False

  def __init__(
    self,
    distribution: tfp.distributions.Distribution,
    network: keras.Layer,
    name: str,
    *,
    class_probs: tf.Variable | tf.Tensor | None = None,
    condition_shape: Sequence[int] | None = None,
  ):
    """Builds the generator.

    Args:
      distribution: Prior of the noise `z`, with the `event_shape` of one image.
      network: `G`, a Keras layer that maps noise `[batch, *event_shape]` to images of the same shape. With conditions
        it maps a list of noise and conditions, of which labels are one-hot vectors.
      name: Name of the generator.
      class_probs, condition_shape: As for a `Flow`.

    Raises:
      ValueError: If the network changes the shape, or both `class_probs` and `condition_shape` are given.
    """
    super().__init__(name=name)
    self._set_condition(class_probs, condition_shape)
    self.distribution = distribution
    seen = self.condition_shape if self.classes is None else (self.classes,)
    self._network = KerasModule(network, distribution.event_shape, condition_shape=seen)
    if self._network.output_event_shape != tuple(distribution.event_shape):
      raise ValueError(
        f'`network` must return the shape of its noise, {tuple(distribution.event_shape)}. '
        f'Got: {self._network.output_event_shape}.'
      )

  def train_on_samples(self, value: bool) -> None:
    """Does nothing: a network without an inverse is always trained on samples."""

  @property
  def event_shape(self) -> tf.TensorShape:
    """Shape of one image, and of its noise."""
    return self.distribution.event_shape

  @property
  def dtype(self) -> tf.DType:
    """Dtype of noise and images."""
    return self.distribution.dtype

  def decode(self, noise: tf.Tensor, *, training: bool = False, condition: tf.Tensor | str | None = None) -> tf.Tensor:
    """Maps noise `[..., *event_shape]` to images, `G(z)`; `training` and `condition` are as in `Flow.decode`."""
    check_bool('training', training)
    noise = tf.convert_to_tensor(noise, self.dtype)
    check_events('noise', noise, self.event_shape)  # The network would reshape any noise.
    noise, condition = self._broadcast(noise, self.event_shape, condition)
    return self._network(noise, self.seen_by_networks(condition), training=training)

  def given(self, condition: tf.Tensor | str | None = None) -> ImplicitGenerator | GivenSampler:
    """Returns the generator with its condition, whose methods take none; the generator itself without a condition."""
    return self if condition is None else GivenSampler(self, self._as_condition(condition))

  def sample(
    self,
    sample_shape: int | Sequence[int] | tf.Tensor = (),
    seed: int | tf.Tensor | None = None,
    name: str = 'sample',
    *,
    training: bool = False,
    condition: tf.Tensor | str | None = None,
  ) -> tf.Tensor:
    """Draws samples of shape `[*sample_shape, *event_shape]`, as `Flow.sample` does."""
    with tf.name_scope(name):
      shape, condition, seed = self._condition_of_samples(sample_shape, condition, seed)
      noise = self.distribution.sample(shape, seed=seed)
      return self.decode(noise, training=training, condition=condition)

  def __deepcopy__(self, memo: dict) -> ImplicitGenerator:
    """Copies the generator, with variables of its own. Both share the prior, which has none."""
    other = type(self)(
      self.distribution,
      copy.deepcopy(self._network, memo).layer,
      self.name,
      class_probs=copy.deepcopy(self.class_probs, memo),
      condition_shape=self.condition_shape,
    )
    memo[id(self)], other._build, other.traits = other, self._build, self.traits
    other.class_names, other.condition_check = self.class_names, self.condition_check
    return other
