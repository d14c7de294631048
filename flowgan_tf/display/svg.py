"""Figures as files: an `<svg>` element that fits into a page, or a PNG."""

from __future__ import annotations

import hashlib
import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

from flowgan_tf.display.axes import INK

__all__ = ['figure_png', 'figure_svg']


def figure_svg(figure: Figure) -> str:
  """An `<svg>` element for a page: transparent, with the page's font, and its text colour for text and axes.

  Equal figures give equal text. The ids, of which only those that are referred to remain, differ between figures.
  """
  file = io.StringIO()
  style = {'svg.fonttype': 'none', 'svg.hashsalt': 'flowgan_tf', 'path.simplify_threshold': 0.3}
  with mpl.rc_context(style):
    metadata = dict.fromkeys(['Creator', 'Date', 'Format', 'Type'])
    figure.savefig(file, format='svg', transparent=True, metadata=metadata)
  svg = file.getvalue()
  svg = svg[svg.index('<svg') :].strip()
  # A style element would hold for the whole page.
  svg = re.sub(r'<defs>\s*<style.*?</style>\s*</defs>', '', svg, flags=re.DOTALL)
  svg = svg.replace('<svg ', '<svg font-family="system-ui, sans-serif" stroke-linejoin="round" ', 1)
  svg = re.sub(r'font: ([\d.]+px) [^;"]*', r'font-size: \1', svg)
  svg = re.sub(r'font-family: [^;"]*; ', '', svg)
  svg = svg.replace(INK, 'currentColor')
  used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
  svg = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else '', svg)
  prefix = 'f' + hashlib.sha256(svg.encode()).hexdigest()[:8]
  return re.sub(r'((?:url\(|href=")#| id=")', rf'\1{prefix}-', svg)


def figure_png(figure: Figure) -> bytes:
  """A PNG file at 200 dots an inch, transparent, for where an SVG would be too large."""
  file = io.BytesIO()
  figure.savefig(file, format='png', dpi=200, transparent=True, metadata={'Software': None})
  return file.getvalue()
