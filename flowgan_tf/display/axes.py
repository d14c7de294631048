"""How every figure looks: colours, panels, ticks, legends and labels of points.

Panels stand below each other, so that a figure can be read on a phone. Text and axes have a grey that is legible on
white and on black. The first six colours are Okabe and Ito's (2008), which the colour-blind can tell apart; lines
differ in dashes or markers too.
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
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

INK = '#767676'
GREEN = '#009e73'
# An objective keeps its colour from figure to figure; labels of other beginnings take those that are left.
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
ROUND_STEPS = [1, 2, 5, 10]
# Where a text stands beside its point, in the order of preference.
_SIDES = [(1, 0.7), (-1, 0.7), (1, -0.7), (-1, -0.7), (1.4, 0), (-1.4, 0), (0, 1.2), (0, -1.2)]
_LEGEND = {'frameon': False, 'fontsize': 10.5, 'labelcolor': INK, 'handlelength': 2.6, 'columnspacing': 1.4}
# Matplotlib's own 10^x is mathematical text: an SVG places its pieces by the widths of a font that a reader may lack.
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
_POWER = FuncFormatter(lambda value, _: '10' + f'{math.log10(value):.0f}'.translate(_SUPERSCRIPTS))


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


def iteration_axis(axes: Axes) -> None:
  axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=ROUND_STEPS))
  axes.xaxis.set_major_formatter(PLAIN)
  axes.set_xlabel('training iteration')


def set_log_ticks(axis: Axis) -> None:
  """Labels on a logarithmic axis however much or little it spans."""
  low, high = axis.get_view_interval()
  wide = high > 300 * low
  if wide:
    axis.set_major_locator(LogLocator(numticks=7))
  else:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 5 * low else MaxNLocator(4, steps=ROUND_STEPS))
  axis.set_minor_locator(NullLocator())
  axis.set_major_formatter(_POWER if wide else PLAIN)


def keep_apart(axes: Axes, curves: Sequence[ArrayLike], others: Sequence[ArrayLike] = ()) -> None:
  """Keeps the values of the smallest of the curves apart on the vertical axis where something is much larger."""
  axes.yaxis.set_major_formatter(PLAIN)
  smallest, largest = (
    choose((size for size in map(_size, arrays) if size > 0), default=0)
    for choose, arrays in [(min, curves), (max, [*curves, *others])]
  )
  if largest > 15 * smallest > 0:
    threshold = 10 ** math.floor(math.log10(smallest))
    decades = math.ceil(math.log10(largest / threshold))
    exponents = np.arange(0, decades + 1, math.ceil(decades / 5))
    ticks = np.outer(threshold * 10.0**exponents, [1, 3] if decades < 4 else [1]).ravel()
    axes.set_yscale('symlog', linthresh=threshold)
    # Limits that were asked for before, as by a horizontal line, have margins for the linear scale.
    axes.autoscale_view(scalex=False)
    axes.yaxis.set_major_locator(FixedLocator([*-ticks, 0, *ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PLAIN)


def _size(values: ArrayLike) -> float:
  """The largest absolute value that is finite; 0 if none is."""
  values = np.abs(np.asarray(values, np.float64))
  return np.max(values, initial=0, where=np.isfinite(values))


def set_nll_axis(axes: Axes, nll: np.ndarray, unit: str) -> None:
  """A horizontal axis whose scale is asinh((NLL - lowest) / step) where a linear one would hide most differences."""
  nll = nll[np.isfinite(nll)]
  lowest, middle, highest = np.quantile(nll, [0, 0.5, 1]) if nll.size else (0, 0, 0)
  if not highest - lowest > max(20 * (middle - lowest), 0.2 * max(abs(lowest), abs(highest))) or middle == lowest:
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND_STEPS))
    axes.xaxis.set_major_formatter(PLAIN)
    axes.set_xlabel(f'test NLL ({unit})')
    return
  step = 10 ** math.floor(math.log10(middle - lowest))
  axes.set_xscale(
    'function', functions=(lambda x: np.arcsinh((x - lowest) / step), lambda y: lowest + step * np.sinh(y))
  )
  decades = math.floor(math.log10((highest - lowest) / step))
  above = step * 10.0 ** np.arange(1, decades + 1, math.ceil(decades / 3))
  axes.set_xticks(
    [lowest, *lowest + above], [format_number(round(lowest, 2)), *(f'+{format_number(x)}' for x in above)]
  )
  axes.set_xlabel(f'test NLL ({unit}; +: above the lowest)')


def annotate(figure: Figure, axes: Axes, notes: Sequence[tuple[float, float, str]]) -> None:
  """Writes each text beside its point where it covers least of other texts, points and lines."""
  figure.draw_without_rendering()
  drawn = np.concatenate([_dense(axes.transData.transform(line.get_xydata())) for line in axes.lines])
  placed: list[Bbox] = []
  for x, y, text in notes:
    if not (math.isfinite(x) and math.isfinite(y)):
      continue
    note = axes.annotate(text, (x, y), (0, 0), textcoords='offset points', color=INK, fontsize=9, in_layout=False)

    def cost(side: tuple[float, float], note: Annotation = note) -> int:
      _move(note, side)
      box = note.get_window_extent()
      outside = (box.min < axes.bbox.min).any() or (box.max > axes.bbox.max).any()
      return 1000 * (box.count_overlaps(placed) + outside) + box.count_contains(drawn)

    _move(note, min(_SIDES, key=cost))
    placed.append(note.get_window_extent())


def _move(note: Annotation, side: tuple[float, float]) -> None:
  x, y = side
  note.set_position((6 * x, 6 * y))
  note.set_horizontalalignment('center' if x == 0 else 'left' if x > 0 else 'right')
  note.set_verticalalignment('center' if y == 0 else 'bottom' if y > 0 else 'top')


def _dense(line: np.ndarray) -> np.ndarray:
  """Points close to each other on a line `[n, 2]` in pixels."""
  line = line[np.isfinite(line).all(axis=1)]
  between = np.linspace(0, 1, 100, endpoint=False)[:, None, None]
  return np.concatenate([(line[:-1] + between * np.diff(line, axis=0)).reshape(-1, 2), line[-1:]])


def draw_legend(figure: Figure, handles: Sequence | None = None) -> None:
  """Above the panels, in as many columns as fit."""
  if handles is None:
    handles = figure.axes[0].get_legend_handles_labels()[0]
  # In characters of the font, of which 54 have room in a figure; a column's line and gap are as wide as 8.
  lengths = [len(handle.get_label()) + 8 for handle in handles]
  columns = next(n for n in range(len(lengths), 0, -1) if n == 1 or sum(map(max, np.array_split(lengths, n))) <= 54)
  figure.legend(handles=handles, loc='outside upper left', ncols=columns, **_LEGEND)
