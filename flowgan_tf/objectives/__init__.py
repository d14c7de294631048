"""The objectives of a Flow-GAN: maximum likelihood, an adversarial divergence, or both, and further terms."""

from flowgan_tf.base.settings import Settings, setting
from flowgan_tf.objectives.critic import CRITICS, dcgan_critic, dense_critic
from flowgan_tf.objectives.divergences import DIVERGENCES, Divergence
from flowgan_tf.objectives.objective import OBJECTIVES, TERMS, Objective, make
from flowgan_tf.objectives.penalties import PENALTIES, gradient_penalty, zero_centered_penalty
from flowgan_tf.objectives.term import Drawn, Number, Seen, Term

__all__ = [
  'CRITICS',
  'DIVERGENCES',
  'OBJECTIVES',
  'PENALTIES',
  'TERMS',
  'Divergence',
  'Drawn',
  'Number',
  'Objective',
  'Seen',
  'Settings',
  'Term',
  'dcgan_critic',
  'dense_critic',
  'gradient_penalty',
  'make',
  'setting',
  'zero_centered_penalty',
]
