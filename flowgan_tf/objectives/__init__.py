"""What a Flow-GAN minimises: maximum likelihood, an adversarial divergence, or both."""

from flowgan_tf.objectives.divergences import DIVERGENCES, Divergence
from flowgan_tf.objectives.gradient_penalty import gradient_penalty
from flowgan_tf.objectives.objective import OBJECTIVES, Objective, make

__all__ = ['DIVERGENCES', 'OBJECTIVES', 'Divergence', 'Objective', 'gradient_penalty', 'make']
