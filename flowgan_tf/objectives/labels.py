"""The labels given the images, a term that trains a flow with classes as a classifier."""

from __future__ import annotations

import dataclasses
from typing import Any

from flowgan_tf import devices
from flowgan_tf.base import settings
from flowgan_tf.base.errors import check
from flowgan_tf.base.lazy import tf
from flowgan_tf.base.settings import NOT_NEGATIVE, POSITIVE, setting
from flowgan_tf.objectives.likelihood import check_batch_norms, weight_of
from flowgan_tf.objectives.term import Drawn, Number, Seen, Term


class Labels(Term):
  """The mean of -log p(y | x) over the labelled images of the batch.

  ```none
  class_weight mean -log p(y | x),   p(y | x) = softmax_y(log p(x, y) / class_temperature)
  ```
  """

  needs_density = True
  weight_setting = 'class_weight'
  numbers = (
    Number('class_loss', 'class loss (nats)', 'Mean of -log p(y | x) of labelled training images, during training.'),
  )

  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Settings(settings.Settings):
    """The weight and the temperature of p(y | x) in the loss."""

    class_weight: float = setting(0.0, 'Weight of -log p(y | x) in the loss of a flow with classes.', must=NOT_NEGATIVE)
    class_temperature: float = setting(
      1.0, 'In the loss, p(y | x) is the softmax of log p(x, y) divided by this.', must=POSITIVE
    )

    @classmethod
    def check(cls, config: Any) -> None:
      """Checks that there are labels and a likelihood."""
      expected = "0 unless `condition` is 'label' and the objective has a likelihood"
      classifies = config.condition == 'label' and weight_of(config) != 0
      check('class_weight', config.class_weight, expected, classifies or not config.class_weight)
      check_batch_norms('class_weight', config)
      same = config.class_weight or config.class_temperature == 1
      check('class_temperature', config.class_temperature, '1 without `class_weight`', same)

  @classmethod
  def label(cls, config: Any) -> str:
    """The weight of p(y | x): 'class 10' would be a class."""
    return super().label(config).replace('class', 'p(y | x)')

  def of_images(self, seen: Seen) -> dict[str, tf.Tensor]:
    """Returns `surprise`, -log p(y | x), which is 0 without a label; and `labelled`, 1 with a label and otherwise 0."""
    tempered, known = seen.class_log_probs / self.settings.class_temperature, tf.greater_equal(seen.condition, 0)
    of_class = tf.gather(tempered, tf.maximum(seen.condition, 0), batch_dims=1)
    surprise = tf.where(known, tf.reduce_logsumexp(tempered, axis=-1) - of_class, 0.0)
    return {'surprise': surprise, 'labelled': tf.cast(known, surprise.dtype)}

  def loss(self, drawn: Drawn) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Logs `class_loss`, in nats per labelled image."""
    labelled = devices.mean([drawn.means['labelled']])[0]  # The mean is over the labelled images of all replicas.
    class_loss = tf.cast(drawn.means['surprise'] / tf.maximum(labelled, 1e-6), tf.float32)
    return self.settings.class_weight * class_loss, {'class_loss': class_loss}
