"""Draws the first table of docs/results.md: FID against test NLL, with a line through the trainings of each model.

python -m benchmarks.front docs/results.md docs/images/front.png
"""

import pathlib
import re
import sys

from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from flowgan_tf.display.axes import COLORS, INK

_ROW = re.compile(r'^\| (?P<model>[^|]+) \| (?P<training>[^|]+) \| (?P<nll>-[\d,]+) ± .* \| (?P<fid>[\d.]+) \|$')


def rows(page: str) -> list[tuple[str, str, float, float]]:
  """Returns model, training, NLL and FID of each row of the page's first table that has both numbers."""
  table = page.partition('| model | training |')[2].partition('\n\n')[0]
  plain = re.sub(r'\*\*|\[([^\]]*)\]\([^)]*\)', r'\1', table)
  found = filter(None, map(_ROW.match, plain.splitlines()))
  return [(r['model'], r['training'], float(r['nll'].replace(',', '')), float(r['fid'])) for r in found]


def draw(points: list[tuple[str, str, float, float]]) -> Figure:
  """Plots the rows; down and to the left is better."""
  figure = Figure(figsize=(8, 4.6), layout='constrained')
  axes = figure.subplots()
  leftmost = min(points, key=lambda point: point[2])[0]
  for color, model in zip(COLORS, dict.fromkeys(point[0] for point in points), strict=False):
    trainings = [point[1:] for point in points if point[0] == model]
    _, nll, fid = zip(*trainings, strict=True)
    axes.plot(nll, fid, color=color, marker='o', markersize=6, linewidth=1.4, label=model)
    for training, x, y in trainings:
      # The labels of the leftmost model are on its left, so that they cover no other model.
      side, aligned = (-7, 'right') if model == leftmost else (7, 'left')
      at, text = (side, -9 if 'hybrid' in training else 6), training.replace('maximum likelihood', 'MLE')
      label = axes.annotate(text, (x, y), at, textcoords='offset points', fontsize=8, color=color, ha=aligned)
      label.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground='white')])
  axes.set_yscale('log')
  axes.margins(0.24, 0.12)
  axes.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
  axes.yaxis.set_minor_formatter(NullFormatter())
  axes.set_yticks([2, 5, 10, 20, 50, 100])
  axes.set_xlabel('test NLL (nats): lower is better', color=INK)
  axes.set_ylabel('FID of samples: lower is better', color=INK)
  axes.tick_params(colors=INK, labelsize=9)
  axes.spines[['top', 'right']].set_visible(False)
  axes.legend(frameon=False, fontsize=9)
  return figure


if __name__ == '__main__':
  draw(rows(pathlib.Path(sys.argv[1]).read_text(encoding='utf-8'))).savefig(sys.argv[2], dpi=150)
