"""The analyses of the paper's study, by name.

The programs read the flags of the analyses here before TensorFlow is loaded, so that an analysis imports what needs it
where it uses it.
"""

from __future__ import annotations

from flowgan_tf.study.ais import Ais
from flowgan_tf.study.analysis import Analysis
from flowgan_tf.study.classifiers import Classifiers
from flowgan_tf.study.critic_gap import CriticGap
from flowgan_tf.study.gmm import Gmm
from flowgan_tf.study.jacobian import Jacobian
from flowgan_tf.study.kde import Kde
from flowgan_tf.study.outliers import Outliers
from flowgan_tf.study.temperature import Temperature

__all__ = ['ANALYSES']

# In the order of the page.
_ALL = (
  Kde(),
  Ais(),
  Gmm(),
  Jacobian(),
  Temperature(),
  Classifiers(),
  Outliers(),
  CriticGap(),
)

ANALYSES: dict[str, Analysis] = {analysis.name: analysis for analysis in _ALL}
"""Every analysis by its name."""
