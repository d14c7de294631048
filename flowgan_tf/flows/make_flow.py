"""The last step of the builders: a bijector becomes a flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_import, tf, tfp
from flowgan_tf.flows.builder import uniform_class_probs

if TYPE_CHECKING:
  from flowgan_tf.flows.flow import Flow
  from flowgan_tf.flows.initialization import InitialData

flows = lazy_import('flowgan_tf.flows.flow')
priors = lazy_import('flowgan_tf.flows.prior')


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
  noise = priors.make_prior(prior, components, event_shape, dtype, classes)
  probs = uniform_class_probs(classes, dtype)
  return flows.Flow(noise, bijector, name, class_probs=probs, condition_shape=condition_shape, initialize=initialize)
