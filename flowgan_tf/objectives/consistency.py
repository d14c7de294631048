"""The consistency of samples with their conditions, a term for conditions that are computed from images."""

from __future__ import annotations

import dataclasses
from typing import Any

from flowgan_tf.base import settings
from flowgan_tf.base.errors import check
from flowgan_tf.base.lazy import tf
from flowgan_tf.base.settings import NOT_NEGATIVE, setting
from flowgan_tf.data.conditions import kind_of
from flowgan_tf.objectives.term import Drawn, Number, Term


class Consistency(Term):
  """The squared error between samples, reduced again, and their conditions.

  ```none
  consistency_weight mean (reduce(G(z, c)) - c)^2,   the mean over samples and over the numbers of a condition
  ```

  Pixels that are hidden count as zeros on both sides.
  """

  adversarial_only = needs_samples = True
  weight_setting = 'consistency_weight'
  numbers = (
    Number(
      'consistency_loss',
      'consistency loss',
      'Squared error between samples, reduced again, and their conditions, during training.',
    ),
  )

  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Settings(settings.Settings):
    """The weight of the consistency of samples with their conditions."""

    consistency_weight: float = setting(
      0.0,
      'Weight of the squared error between samples, reduced again, and their conditions.',
      must=NOT_NEGATIVE,
      training_only=True,  # It needs the kind of the condition.
    )

    @classmethod
    def check(cls, config: Any) -> None:
      """Checks that the condition is computed from the image."""
      expected = '0 unless `condition` is computed from the image, as low resolution is'
      weight = config.consistency_weight
      check('consistency_weight', weight, expected, not weight or kind_of(config.condition).comes_from_image)

  def __init__(self, settings: Any, config: Any):
    """Takes the kind of the condition from the settings of a training."""
    super().__init__(settings, config)
    kind = config['condition']
    self._condition = kind_of(kind)(kind)

  def loss(self, drawn: Drawn) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Logs `consistency_loss`."""
    again = self._condition.reduce(drawn.samples)
    error = tf.reduce_mean(tf.math.squared_difference(again, drawn.condition))
    return self.settings.consistency_weight * error, {'consistency_loss': error}
