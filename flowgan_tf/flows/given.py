"""A conditional generator with its condition: no method takes the condition any more."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.flows.generator import Generator
from flowgan_tf.flows.tensors import as_shape, divided_shape
from flowgan_tf.networks.adapter import HiddenFromKeras


class GivenSampler:
  """A conditional generator with its condition, for what needs samples alone. `ImplicitGenerator.given` makes it."""

  def __init__(self, generator: Generator, condition: tf.Tensor):
    """Binds a generator to a checked condition."""
    self._generator, self._condition = generator, condition

  @property
  def condition(self) -> tf.Tensor:
    """The condition, `[..., *condition_shape]`."""
    return self._condition

  def sample_noise(self, n: int, seed: tf.Tensor, temperature: float | tf.Tensor | None = None) -> tf.Tensor:
    """Draws noise for `decode`; see `Generator.sample_noise`."""
    return self._generator.sample_noise(n, seed, temperature, condition=self._condition)

  def decode(self, noise: tf.Tensor, *, training: bool = False) -> tf.Tensor:
    """Maps noise to images; see `Flow.decode`."""
    return self._generator.decode(noise, training=training, condition=self._condition)

  def sample(
    self, sample_shape: int | Sequence[int] | tf.Tensor = (), seed: int | tf.Tensor | None = None
  ) -> tf.Tensor:
    """Draws samples `[*sample_shape, *batch_shape, *event_shape]`, where the conditions have the batch shape."""
    batch, _ = divided_shape(self._condition, len(self._generator.condition_shape or ()))
    shape = tf.concat([as_shape(sample_shape), batch], axis=0)
    return self._generator.sample(shape, seed, condition=self._condition)


class Given(HiddenFromKeras, tfp.distributions.Distribution, GivenSampler):
  """The distribution p(x | c) of a conditional flow, for one condition or a batch of them.

  Its batch shape is the shape of the conditions without their event. It needs no keywords, so that it can be a part of
  any distribution of TFP, such as a joint distribution or a mixture. `Flow.given` makes it.

  ```python
  joint = tfd.JointDistributionNamed({'y': tfd.Categorical(probs=flow.class_probs), 'x': lambda y: flow.given(y)})
  ```
  """

  def __init__(self, flow: tfp.distributions.TransformedDistribution, condition: tf.Tensor, name: str = 'given'):
    """Builds the distribution from a flow and a condition."""
    condition = flow._as_condition(condition)
    parameters = dict(locals())
    GivenSampler.__init__(self, flow, condition)
    tfp.distributions.Distribution.__init__(
      self,
      dtype=flow.dtype,
      reparameterization_type=flow.reparameterization_type,
      validate_args=False,
      allow_nan_stats=True,
      parameters=parameters,
      name=name,
    )

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return {'condition': tfp.util.ParameterProperties(event_ndims=lambda given: len(given.flow.condition_shape or ()))}

  @property
  def flow(self) -> tfp.distributions.TransformedDistribution:
    """The conditional flow."""
    return self._generator

  @property
  def distribution(self) -> tfp.distributions.Distribution:
    """The prior of the flow."""
    return self.flow.distribution

  def log_prob(
    self, value: tf.Tensor, name: str = 'log_prob', *, training: bool = False, component: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Log density of images in nats, `[..., *batch_shape]`; see `Flow.log_prob`."""
    return self.flow.log_prob(value, name, training=training, component=component, condition=self._condition)

  def class_log_probs(self, value: tf.Tensor, *, training: bool = False) -> tf.Tensor:
    """The flow's own: log p(x, y) of all classes; see `Flow.class_log_probs`."""
    return self.flow.class_log_probs(value, training=training)

  def nearest_component(self, images: tf.Tensor) -> tf.Tensor:
    """Returns pseudo-labels; see `Flow.nearest_component`."""
    return self.flow.nearest_component(images, condition=self._condition)

  def encode(self, images: tf.Tensor, *, training: bool = False) -> tf.Tensor:
    """Maps images to noise; see `Flow.encode`."""
    return self.flow.encode(images, training=training, condition=self._condition)

  def _event_shape(self):
    return self.flow.event_shape

  def _event_shape_tensor(self):
    return self.flow.event_shape_tensor()

  def _default_event_space_bijector(self):
    """The flow itself, from noise to images."""
    flow, event_ndims = self.flow, self.event_shape.rank

    def inverse_log_det_jacobian(images):
      images, condition = flow._broadcast(images, flow.event_shape, self._condition)
      keywords = flow._bijector_kwargs(False, condition)
      return flow.bijector.inverse_log_det_jacobian(images, event_ndims=event_ndims, **keywords)

    return tfp.bijectors.Inline(
      self.decode,
      self.encode,
      inverse_log_det_jacobian,
      forward_min_event_ndims=flow.distribution.event_shape.rank,
      inverse_min_event_ndims=event_ndims,
    )

  def _sample_n(self, n, seed=None):
    return GivenSampler.sample(self, n, seed)

  def _sample_and_log_prob(self, sample_shape, seed):
    shape = tf.concat([as_shape(sample_shape), self.batch_shape_tensor()], axis=0)
    return self.flow.experimental_sample_and_log_prob(shape, seed, condition=self._condition)

  def _log_prob(self, x, **kwargs):  # TFP's `prob` and the like call it.
    return self.log_prob(x, **kwargs)
