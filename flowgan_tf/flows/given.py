"""A conditional flow with its condition: a distribution without keywords."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability.python.internal import prefer_static as ps

from flowgan_tf.networks.adapter import HiddenFromKeras

if TYPE_CHECKING:
  from flowgan_tf.flows.flow import Flow


class Given(HiddenFromKeras, tfp.distributions.Distribution):
  """The distribution p(x | c) of a conditional flow, for one condition or a batch of them.

  Its batch shape is the shape of the conditions without their event. It takes no keywords, so that it can be a part of
  any distribution of TFP, such as a joint distribution or a mixture. `Flow.given` makes it.

  ```python
  joint = tfd.JointDistributionNamed({'y': tfd.Categorical(probs=flow.class_probs), 'x': lambda y: flow.given(y)})
  ```
  """

  def __init__(self, flow: Flow, condition: tf.Tensor, name: str = 'given'):
    """Builds the distribution from a flow and a checked condition."""
    parameters = dict(locals())
    self._flow, self._condition = flow, condition
    super().__init__(
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
  def flow(self) -> Flow:
    """The conditional flow."""
    return self._flow

  @property
  def condition(self) -> tf.Tensor:
    """The condition, `[*batch_shape, *flow.condition_shape]`."""
    return self._condition

  def log_prob(self, value: tf.Tensor, name: str = 'log_prob') -> tf.Tensor:
    """Log density of images in nats, `[..., *batch_shape]`; see `Flow.log_prob`."""
    return super().log_prob(self._flow._as_events('value', value, self._flow), name)

  def encode(self, images: tf.Tensor) -> tf.Tensor:
    """Maps images to noise; see `Flow.encode`."""
    return self._flow.encode(images, condition=self._condition)

  def decode(self, noise: tf.Tensor) -> tf.Tensor:
    """Maps noise to images; see `Flow.decode`."""
    return self._flow.decode(noise, condition=self._condition)

  def _event_shape(self):
    return self._flow.event_shape

  def _event_shape_tensor(self):
    return self._flow.event_shape_tensor()

  def _default_event_space_bijector(self):
    """The flow itself, from noise to images."""
    flow, event_ndims = self._flow, self.event_shape.rank

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
    shape = ps.concat([[n], self.batch_shape_tensor()], axis=0)
    return self._flow.sample(shape, seed, condition=self._condition)

  def _sample_and_log_prob(self, sample_shape, seed):
    shape = ps.concat([ps.reshape(sample_shape, [-1]), self.batch_shape_tensor()], axis=0)
    return self._flow.experimental_sample_and_log_prob(shape, seed, condition=self._condition)

  def _log_prob(self, x):
    return self._flow.log_prob(x, condition=self._condition)
