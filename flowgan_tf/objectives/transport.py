"""The cost of the transport from noise to samples, a term that keeps an adversarial flow near its start."""

from __future__ import annotations

import dataclasses
from typing import Any

from flowgan_tf import bijectors
from flowgan_tf.base import settings
from flowgan_tf.base.errors import check
from flowgan_tf.base.lazy import tf
from flowgan_tf.base.settings import NOT_NEGATIVE, setting
from flowgan_tf.flows.histograms import pixel_logit
from flowgan_tf.flows.registry import traits_of
from flowgan_tf.objectives.likelihood import check_moving
from flowgan_tf.objectives.term import Drawn, Number, Term, between


class Transport(Term):
  """The squared distance between each sample and its noise, as pixels.

  ```none
  transport_weight mean (G(z) - S(z))^2,   the mean over samples and pixels
  ```

  `S` undoes the whitening, if the flow has it, and then maps logits to pixels. So a flow without any other layers costs
  nothing.

  Source: S. Lin et al. Adversarial Flow Models. 2025. https://arxiv.org/abs/2511.22475
  """

  adversarial_only = needs_samples = True
  weight_setting = 'transport_weight'
  numbers = (
    Number('transport', 'transport', 'Squared distance between samples and their noise as pixels, during training.'),
  )

  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Settings(settings.Settings):
    """The weight of the cost of the transport from noise to samples."""

    transport_weight: float = setting(
      0.0, 'Weight of the mean of (G(z) - S(z))^2. S maps whitened logits to pixels.', must=NOT_NEGATIVE
    )
    final_transport_weight: float | None = setting(
      None, 'That weight after the last step. Default: the same.', kind=float, must=NOT_NEGATIVE
    )

    def __post_init__(self):
      super().__post_init__()
      check_moving('transport_weight', self.transport_weight, 'final_transport_weight', self.final_transport_weight)

    @classmethod
    def check(cls, config: Any) -> None:
      """Checks that noise and samples can be compared."""
      weight, traits = config.transport_weight if config.objective != 'mle' else 0.0, traits_of(config)
      expected = f'0 with generator {config.generator}, whose noise has another shape than images'
      check('transport_weight', weight, expected, not weight or traits.noise_like_images)
      expected = '0 with histogram networks that see the condition, as the step from logits to pixels depends on it'
      check('transport_weight', weight, expected, not (weight and config.condition and traits.logits_see_condition))

  def loss(self, drawn: Drawn) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Logs `transport`, the cost before weighting."""
    # Networks of histograms would move the goal.
    goal = tf.stop_gradient(_start(drawn.generator, drawn.noise))
    cost = tf.cast(tf.reduce_mean(tf.math.squared_difference(drawn.samples, goal)), tf.float32)
    weight = between(self.settings.transport_weight, self.settings.final_transport_weight, drawn.progress)
    return weight * cost, {'transport': cost}


def _start(flow, noise):
  """Returns `S(z)`."""
  for part in flow.submodules:
    if isinstance(part, bijectors.SpectralWhitening):
      noise = part.inverse(noise)
  return pixel_logit(flow).inverse(noise)
