"""The objectives of a Flow-GAN: maximum likelihood, an adversarial divergence, or both."""

from typing import TYPE_CHECKING

from flowgan_tf.lazy import offer
from flowgan_tf.objectives.choices import OBJECTIVES

__all__ = [
  'DIVERGENCES',
  'OBJECTIVES',
  'PENALTIES',
  'Divergence',
  'Objective',
  'gradient_penalty',
  'make',
  'zero_centered_penalty',
]

if TYPE_CHECKING:
  from flowgan_tf.objectives.divergences import DIVERGENCES, Divergence
  from flowgan_tf.objectives.objective import Objective, make
  from flowgan_tf.objectives.penalties import PENALTIES, gradient_penalty, zero_centered_penalty
else:
  __getattr__, __dir__ = offer(
    __name__,
    {
      'divergences': ['DIVERGENCES', 'Divergence'],
      'objective': ['Objective', 'make'],
      'penalties': ['PENALTIES', 'gradient_penalty', 'zero_centered_penalty'],
    },
  )
