"""The paper's study: analyses of a run, each with its estimator. Their results are kept in the run's folder.

The programs read the flags of the analyses here before they load TensorFlow. So the modules import TensorFlow, and
what needs it, at first use: see `flowgan_tf.base.lazy.lazy_import`.
"""

from flowgan_tf.base.settings import setting
from flowgan_tf.study.ais import AnnealedImportanceSampler
from flowgan_tf.study.analysis import Analysis, Settings, Subject
from flowgan_tf.study.apply import ANALYSES, analyses_of, analyze, studying
from flowgan_tf.study.independent_critic import critic_distances
from flowgan_tf.study.jacobian import jacobian_matrix, spectrum
from flowgan_tf.study.kde import GaussianMixture
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
  'analyses_of',
  'analyze',
  'critic_distances',
  'jacobian_matrix',
  'read_summary',
  'setting',
  'spectrum',
  'studying',
  'summarize',
]
