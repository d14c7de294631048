"""Estimators for the paper's analyses. They take arrays and generators, and know nothing of runs."""

from flowgan_tf.estimators.annealing import AnnealedImportanceSampler
from flowgan_tf.estimators.gaussian_mixture import GaussianMixture
from flowgan_tf.estimators.independent_critic import critic_gap
from flowgan_tf.estimators.jacobian_spectrum import jacobian, spectrum

__all__ = [
  'AnnealedImportanceSampler',
  'GaussianMixture',
  'critic_gap',
  'jacobian',
  'spectrum',
]
