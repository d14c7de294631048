"""Draws the first table of docs/results/paper.md: MODE score and FID of each training by iteration.

python -m benchmarks.recipe docs/results/paper.md docs/images/paper-recipe.png
"""

import pathlib
import sys

from matplotlib.figure import Figure

from flowgan_tf.display.axes import choose_looks, draw_legend, make_panels, plot_marked, set_plain_ticks

_TRAININGS = {'MLE': 1, 'Hybrid': 4, 'ADV': 7}  # The first column of each: NLL, which MODE score and FID follow.
_PAPER = 'the paper'


def curves(page: str) -> tuple[dict[str, list[tuple[int, float, float]]], dict[str, float]]:
  """Returns iterations, MODE scores and FIDs of each training, and the paper's best MODE scores."""
  table = page.partition('| iteration |')[2].partition('\n\n')[0]
  rows = [[cell.strip(' *') for cell in line.strip('|').split('|')] for line in table.splitlines()[2:]]
  found: dict[str, list[tuple[int, float, float]]] = {training: [] for training in _TRAININGS}
  best: dict[str, float] = {}
  for row in rows:
    for training, first in _TRAININGS.items():
      mode, fid = row[first + 1 : first + 3]
      if row[0].startswith(_PAPER):
        best[training] = float(mode)
      elif mode:
        found[training].append((int(row[0].replace(',', '')), float(mode), float(fid)))
  return found, best


def draw(found: dict[str, list[tuple[int, float, float]]], best: dict[str, float]) -> Figure:
  """Plots the curves; a line at the right end of the scores is the paper's best."""
  figure, (of_mode, of_fid) = make_panels(2)
  for training, look in choose_looks(found).items():
    iterations, modes, fids = zip(*found[training], strict=True)
    plot_marked(of_mode, iterations, modes, look, training)
    plot_marked(of_fid, iterations, fids, look)
    of_mode.axhline(best[training], color=look['color'], linestyle=':', linewidth=1.3)
  of_mode.set_ylabel('MODE score (dotted: the paper)')
  of_fid.set_ylabel('FID')
  of_fid.set_ylim(bottom=0)
  set_plain_ticks(of_fid.xaxis, integer=True)
  of_fid.set_xlabel('training iteration, of 250,000')
  draw_legend(figure)
  return figure


if __name__ == '__main__':
  draw(*curves(pathlib.Path(sys.argv[1]).read_text(encoding='utf-8'))).savefig(sys.argv[2], dpi=150)
