"""Log-densities of images under a flow whose noise is scaled by a temperature."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from flowgan_tf.flows import Flow
from flowgan_tf.flows.prior import tempered

__all__ = ['tempered_log_prob']


def tempered_log_prob(flow: Flow, images: tf.Tensor, temperatures: Sequence[float]) -> tf.Tensor:
  """Log-densities of images under the flow `x = G(t z)`, `z ~ prior`, for each temperature `t`.

  ```none
  log p_t(x) = log p(x) - log prior(z) + log prior_t(z),   z = G^-1(x) in R^d
  prior_t(z) = prior(z / t) / t^d                          of a mixture: that with t times its scale
  ```

  Args:
    flow: The flow, whose noise has one part.
    images: Images `[n, *event_shape]`.
    temperatures: The positive numbers `t`, as many as `k`.

  Returns:
    Tensor `[n, k]`, in nats.
  """
  noise = flow.encode(images)
  rest = flow.log_prob(images) - flow.distribution.log_prob(noise)
  return tf.stack([rest + tempered(flow.distribution, t).log_prob(noise) for t in temperatures], axis=-1)
