"""The last step of the builders: a bijector becomes a flow."""

from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.flows.builder import uniform_class_probs
from flowgan_tf.flows.flow import Flow
from flowgan_tf.flows.initialization import InitialData
from flowgan_tf.flows.prior import make_prior


def make_flow(
  bijector: tfp.bijectors.Bijector,
  event_shape: Sequence[int],
  dtype: tf.DType,
  name: str,
  prior: str,
  components: int,
  classes: int | None,
  condition_shape: Sequence[int] | None,
  initialize: Callable[[Flow, InitialData], None] | None = None,
) -> Flow:
  """Returns the flow of a builder, from its bijector and from the arguments that concern noise and conditions."""
  noise, probs = make_prior(prior, components, event_shape, dtype, classes), uniform_class_probs(classes, dtype)
  return Flow(noise, bijector, name, class_probs=probs, condition_shape=condition_shape, initialize=initialize)
