"""The paper's study: analyses of a run, each with its estimator. Their results are kept in the run's folder.

The programs read the flags of the analyses here before TensorFlow is loaded. So the modules import TensorFlow, and
whatever needs it, at its first use: see `flowgan_tf.lazy.later`.
"""

from typing import TYPE_CHECKING

from flowgan_tf.lazy import offer
from flowgan_tf.study.analysis import Analysis, Settings, setting
from flowgan_tf.study.apply import ANALYSES, analyze, studying
from flowgan_tf.study.independent_critic import critic_distances
from flowgan_tf.study.jacobian import jacobian_matrix, spectrum
from flowgan_tf.study.kde import GaussianMixture
from flowgan_tf.study.subject import Subject
from flowgan_tf.study.summary import Study, Summary, read_summary, summarize

__all__ = [
  'ANALYSES',
  'Analysis',
  'AnnealedImportanceSampler',
  'GaussianMixture',
  'Settings',
  'Study',
  'Subject',
  'Summary',
  'analyze',
  'critic_distances',
  'jacobian_matrix',
  'read_summary',
  'setting',
  'spectrum',
  'studying',
  'summarize',
]

if TYPE_CHECKING:
  from flowgan_tf.study.annealing import AnnealedImportanceSampler
else:
  __getattr__, __dir__ = offer(__name__, {'annealing': ['AnnealedImportanceSampler']})
