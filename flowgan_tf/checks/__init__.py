"""Whether a log-likelihood is right: `fg.check` tries a flow, a distribution or a bijector, and says what is wrong."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports

__all__ = ['Density', 'Finding', 'Report', 'check']

if TYPE_CHECKING:
  from flowgan_tf.checks.callables import Density
  from flowgan_tf.checks.finding import Finding, Report
  from flowgan_tf.checks.verdict import check
else:
  _MODULES = {'callables': ['Density'], 'finding': ['Finding', 'Report'], 'verdict': ['check']}
  __getattr__, __dir__ = lazy_exports(__name__, _MODULES)
