"""The objectives of a Flow-GAN: maximum likelihood, an adversarial divergence, or both."""

from flowgan_tf.objectives.divergences import DIVERGENCES, Divergence
from flowgan_tf.objectives.objective import (
  OBJECTIVES,
  PENALTIES,
  Objective,
  gradient_penalty,
  make,
  zero_centered_penalty,
)

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
