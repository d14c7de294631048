"""The paper's study: analyses of a run, each with its estimator. Their results are kept in the run's folder.

The programs read the flags of the analyses here before TensorFlow is loaded, so the modules that hold an analysis
import TensorFlow, and whatever needs it, at their first use: see `flowgan_tf.lazy.later`.
"""

from typing import TYPE_CHECKING

from flowgan_tf.lazy import offer
from flowgan_tf.study.ais import Ais
from flowgan_tf.study.analysis import Analysis, Settings, setting
from flowgan_tf.study.classifiers import Classifiers
from flowgan_tf.study.gmm import Gmm
from flowgan_tf.study.independent_critic import IndependentCritic, critic_distances
from flowgan_tf.study.jacobian import Jacobian, jacobian_matrix, spectrum
from flowgan_tf.study.kde import GaussianMixture, Kde
from flowgan_tf.study.outliers import Outliers
from flowgan_tf.study.temperature import Temperature

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

ANALYSES: dict[str, Analysis] = {
  analysis.name: analysis
  for analysis in (
    # In the order of the page.
    Kde(),
    Ais(),
    Gmm(),
    Jacobian(),
    Temperature(),
    Classifiers(),
    Outliers(),
    IndependentCritic(),
  )
}
"""Every analysis by its name."""

if TYPE_CHECKING:
  from flowgan_tf.study.annealing import AnnealedImportanceSampler
  from flowgan_tf.study.apply import analyze, studying
  from flowgan_tf.study.subject import Subject
  from flowgan_tf.study.summary import Study, Summary, read_summary, summarize
else:
  __getattr__, __dir__ = offer(
    __name__,
    {
      'annealing': ['AnnealedImportanceSampler'],
      'apply': ['analyze', 'studying'],
      'subject': ['Subject'],
      'summary': ['Study', 'Summary', 'read_summary', 'summarize'],
    },
  )
