"""Estimators of the paper's study, one in each module, and `study`, which applies them to a run as `analyses` says."""

from flowgan_tf.analysis.ais import annealed_importance_sampling, bidirectional, choose_sigma
from flowgan_tf.analysis.analyses import ANALYSES, Settings
from flowgan_tf.analysis.critic_gap import critic_gap
from flowgan_tf.analysis.gmm import GaussianMixture
from flowgan_tf.analysis.jacobian import jacobian, spectrum
from flowgan_tf.analysis.kde import kde_estimate
from flowgan_tf.analysis.outliers import auroc, compare_log_probs
from flowgan_tf.analysis.study import Study, analyze, studying

__all__ = [
  'ANALYSES',
  'GaussianMixture',
  'Settings',
  'Study',
  'analyze',
  'annealed_importance_sampling',
  'auroc',
  'bidirectional',
  'choose_sigma',
  'compare_log_probs',
  'critic_gap',
  'jacobian',
  'kde_estimate',
  'spectrum',
  'studying',
]
