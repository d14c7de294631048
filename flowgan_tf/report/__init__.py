"""One HTML page about runs."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports

__all__ = ['make_report', 'render']

if TYPE_CHECKING:
  from flowgan_tf.report.page import render
  from flowgan_tf.report.sections import make_report
else:
  __getattr__, __dir__ = lazy_exports(
    __name__,
    {'commands': [], 'figures': [], 'page': ['render'], 'sections': ['make_report'], 'tables': []},
  )
