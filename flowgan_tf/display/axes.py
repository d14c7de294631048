"""How every plot looks: colours, panels, scales, ticks and legends.

Panels stand below each other, so that a plot can be read on a phone. Text and axes have a grey that is legible on white
and on black. The first six colours are Okabe and Ito's (2008), which the colour-blind can tell apart; lines differ in
dashes or markers too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

INK = '#767676'
GREEN = '#009e73'
# An objective keeps its colour from plot to plot; labels that begin otherwise take those that are left.
_OBJECTIVES = {'MLE': 0, 'ADV': 1, 'Hybrid': 2}
COLORS = ['#0072b2', '#d55e00', GREEN, '#cc79a7', '#e69f00', '#56b4e9', '#8c6bb1', '#999933']
DASHES = ['-', (0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5)), (0, (10, 3)), (0, (6, 2, 1.5, 2, 1.5, 2))]
_MARKERS = ['o', 's', '^', 'D', 'v', 'P']

_STYLE = {
  'axes.edgecolor': INK,
  'axes.grid': True,
  'axes.grid.axis': 'y',
  'axes.labelcolor': INK,
  'axes.linewidth': 0.8,
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.xmargin': 0.02,
  'font.size': 10.5,
  'grid.alpha': 0.25,
  'grid.color': INK,
  'grid.linewidth': 0.6,
  'xtick.color': INK,
  'ytick.color': INK,
}
_STEPS = [1, 2, 2.5, 5, 10]
# Where a text stands beside its point, in the order of preference: offset in points, and alignment.
_SIDES = [(6, 4, 'left', 'bottom'), (-6, 4, 'right', 'bottom'), (6, -4, 'left', 'top'), (-6, -4, 'right', 'top')]
_LEGEND = {'frameon': False, 'fontsize': 10.5, 'labelcolor': INK, 'borderpad': 0.2, 'columnspacing': 1.2}
_LEGEND |= {'handlelength': 2.6, 'handletextpad': 0.6}
_SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')


def format_number(value: float) -> str:
  """With thousands separators, and as a power of ten where it would be long."""
  if math.isinf(value):
    return '∞'
  mantissa, _, exponent = f'{value:,.6g}'.replace('-', '−').partition('e')
  if not exponent:
    return mantissa
  factor = mantissa.removesuffix('1') if mantissa in ('1', '−1') else f'{mantissa}·'
  return f'{factor}10' + str(int(exponent.replace('−', '-'))).translate(_SUPERSCRIPTS)


PLAIN = FuncFormatter(lambda value, _: format_number(value))


def make_panels(rows: int) -> tuple[Figure, list[Axes]]:
  """A figure of panels below each other that share their horizontal axis."""
  with mpl.rc_context(_STYLE):
    figure = Figure(figsize=(4.8, 1.2 + 2.2 * rows), layout='constrained')
    grid = figure.subplots(rows, 1, sharex=True, squeeze=False)
  panels = list(grid[:, 0])
  figure.align_ylabels(panels)
  return figure, panels


def choose_looks(labels: Iterable[str]) -> dict[str, dict]:
  """Colour, dashes and marker of each label."""
  labels = list(dict.fromkeys(labels))
  places: dict[str, int] = {}
  for name, place in _OBJECTIVES.items():
    first = next((label for label in labels if label.startswith(name)), None)
    if first is not None:
      places[first] = place
  free = iter(place for place in range(3 + len(labels)) if place not in places.values())
  looks = {}
  for label in labels:
    place = places[label] if label in places else next(free)
    turn, color = divmod(place, len(COLORS))
    dashes = DASHES[(color + turn) % len(DASHES)]
    looks[label] = {'color': COLORS[color], 'linestyle': dashes, 'marker': _MARKERS[(color + turn) % len(_MARKERS)]}
  return looks


def plot_marked(axes: Axes, x: ArrayLike, y: ArrayLike, look: Mapping, label: str | None = None) -> None:
  """A solid line with some markers, as dashes are for training images."""
  # Matplotlib cannot space the markers of a line without a point, and puts none on a single point.
  spacing = 0.2 if np.isfinite(np.asarray(y, np.float64)).sum() > 1 else None
  axes.plot(x, y, label=label, color=look['color'], marker=look['marker'], markersize=4, markevery=spacing)


def set_plain_ticks(axis: Axis, integer: bool = False) -> None:
  """Few ticks, as their labels are long: Matplotlib's own choice reckons with short ones."""
  axis.set_major_locator(MaxNLocator(5, integer=integer, steps=_STEPS))
  axis.set_major_formatter(PLAIN)


def set_log_ticks(axis: Axis) -> None:
  """Ticks of a logarithmic axis, on which all is drawn: between powers of ten too, where there are few of these."""
  low, high = axis.get_view_interval()
  if high < 300 * low:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 5 * low else MaxNLocator(4, steps=_STEPS))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_locator(NullLocator())


def keep_apart(axes: Axes, curves: Sequence[ArrayLike], others: Sequence[ArrayLike] = ()) -> None:
  """Keeps the values of the smallest of the curves apart on the vertical axis where something is much larger.

  To be called before anything is drawn, so that margins are those of the scale.
  """
  smallest = min(filter(None, map(_size, curves)), default=0)
  largest = max(map(_size, [*curves, *others]), default=0)
  if largest > 15 * smallest > 0:
    width = 10 ** math.floor(math.log10(smallest))
    axes.set_yscale('asinh', linear_width=width)
    ticks = powers_of_ten(width, largest)
    axes.set_yticks([*-ticks, 0, *ticks])
    axes.minorticks_off()
  axes.yaxis.set_major_formatter(PLAIN)


def powers_of_ten(first: float, last: float) -> np.ndarray:
  """Ticks of an asinh scale, at most six. The labels of its own ticks cover each other near 0."""
  decades = math.floor(math.log10(last / first) + 1e-9)
  stride = decades // 6 + 1
  return first * 10.0 ** np.arange(min(stride - 1, 1), decades + 1, stride)


def _size(values: ArrayLike) -> float:
  """The largest absolute value that is finite; 0 if none is."""
  values = np.abs(np.asarray(values, np.float64))
  return np.max(values, initial=0, where=np.isfinite(values))


def annotate(figure: Figure, axes: Axes, notes: Sequence[tuple[float, float, str]]) -> None:
  """Writes each text beside its point, where it covers no other text and no line if there is such a side.

  The points of a sweep crowd at its ends: with the same offset for all, their labels would cover each other.
  """
  figure.draw_without_rendering()
  lines = [line.get_path().transformed(line.get_transform()) for line in axes.lines]
  placed: list[Bbox] = []
  for x, y, text in notes:
    note = axes.annotate(text, (x, y), (0, 0), textcoords='offset points', color=INK, fontsize=9, in_layout=False)

    def cost(side: tuple[float, float, str, str], note: Annotation = note) -> int:
      *position, horizontal, vertical = side
      note.set(position=position, horizontalalignment=horizontal, verticalalignment=vertical)
      box = note.get_window_extent()
      inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
      crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
      return 10 * (box.count_overlaps(placed) + (not inside)) + crossed

    cost(min(_SIDES, key=cost))
    placed.append(note.get_window_extent())


def draw_legend(figure: Figure, handles: Sequence | None = None) -> None:
  """Above the panels, in as many columns as fit; the figure grows with its rows."""
  if handles is None:
    handles = figure.axes[0].get_legend_handles_labels()[0]
  for columns in range(len(handles), 0, -1):
    legend = figure.legend(handles=handles, loc='outside upper left', ncols=columns, **_LEGEND)
    if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
      break
    legend.remove()
  figure.set_figheight(figure.get_figheight() + 0.2 * (math.ceil(len(handles) / columns) - 1))
