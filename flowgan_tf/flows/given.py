"""A conditional flow with its condition: a distribution without keywords."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.networks.adapter import HiddenFromKeras

if TYPE_CHECKING:
  from flowgan_tf.flows.flow import Flow


class Given(HiddenFromKeras, tfp.distributions.Distribution):
  """The distribution p(x | c) of a conditional flow, for one condition or a batch of them.

  Its batch shape is the shape of the conditions without their event. It takes no keywords, so that it can be a part of
  any distribution of TFP. `Flow.given` makes it.
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
    return {}

  @property
  def flow(self) -> Flow:
    """The conditional flow."""
    return self._flow

  @property
  def condition(self) -> tf.Tensor:
    """The condition, `[*batch_shape, *flow.condition_shape]`."""
    return self._condition

  def encode(self, images: tf.Tensor) -> tf.Tensor:
    """Maps images to noise; see `Flow.encode`."""
    return self._flow.encode(images, condition=self._condition)

  def decode(self, noise: tf.Tensor) -> tf.Tensor:
    """Maps noise to images; see `Flow.decode`."""
    return self._flow.decode(noise, condition=self._condition)

  def _batch_ndims(self):
    return self._condition.shape.rank - len(self._flow.condition_shape or ())

  def _batch_shape(self):
    return self._condition.shape[: self._batch_ndims()]

  def _batch_shape_tensor(self):
    return tf.shape(self._condition)[: self._batch_ndims()]

  def _event_shape(self):
    return self._flow.event_shape

  def _event_shape_tensor(self):
    return self._flow.event_shape_tensor()

  def _default_event_space_bijector(self):
    return self._flow.experimental_default_event_space_bijector()

  def _sample_n(self, n, seed=None):
    return self._flow.sample(tf.concat([[n], self._batch_shape_tensor()], axis=0), seed, condition=self._condition)

  def _log_prob(self, x):
    return self._flow.log_prob(x, condition=self._condition)
