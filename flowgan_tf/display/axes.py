"""How every plot looks: colours, panels, scales, ticks and legends.

Panels are stacked, so that a plot can be read on a phone. Text and axes have a grey that is legible on white and on
black. The first six colours come from Okabe and Ito (2008); colour-blind readers can tell them apart. Lines also differ
in their dashes or markers.
"""

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence

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
# An objective has the same colour in every plot. Other labels take the colours that are left.
_OBJECTIVES = ['MLE', 'ADV', 'Hybrid']
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
# Where a text may stand beside its point, the preferred place first: offset in points, and alignment.
_SIDES = [(6, 4, 'left', 'bottom'), (-6, 4, 'right', 'bottom'), (6, -4, 'left', 'top'), (-6, -4, 'right', 'top')]
_LEGEND = {'frameon': False, 'fontsize': 10.5, 'labelcolor': INK, 'borderpad': 0.2, 'columnspacing': 1.2}
_LEGEND |= {'handlelength': 2.6, 'handletextpad': 0.6}
_SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')


def format_number(value: float) -> str:
  """Writes a number with thousands separators, or as a power of ten if that is shorter."""
  if math.isinf(value):
    return '∞'
  mantissa, _, exponent = f'{value:,.6g}'.replace('-', '−').partition('e')
  if not exponent:
    return mantissa
  factor = mantissa.removesuffix('1') if mantissa in ('1', '−1') else f'{mantissa}·'
  return f'{factor}10' + str(int(exponent.replace('−', '-'))).translate(_SUPERSCRIPTS)


PLAIN = FuncFormatter(lambda value, _: format_number(value))


def make_panels(rows: int) -> tuple[Figure, list[Axes]]:
  """Makes a figure of stacked panels that share their horizontal axis."""
  with mpl.rc_context(_STYLE):
    figure = Figure(figsize=(4.8, 1.2 + 2.2 * rows), layout='constrained')
    grid = figure.subplots(rows, 1, sharex=True, squeeze=False)
  panels = list(grid[:, 0])
  figure.align_ylabels(panels)
  return figure, panels


def choose_looks(labels: Iterable[str]) -> dict[str, dict]:
  """Chooses the colour, dashes and marker of each label."""
  labels = list(dict.fromkeys(labels))
  places = {next((x for x in labels if x.startswith(name)), None): place for place, name in enumerate(_OBJECTIVES)}
  free = (place for place in range(3 + len(labels)) if place not in [places.get(label) for label in labels])
  looks = {}
  for label in labels:
    turn, color = divmod(places[label] if label in places else next(free), len(COLORS))
    at = color + turn
    looks[label] = {
      'color': COLORS[color],
      'linestyle': DASHES[at % len(DASHES)],
      'marker': _MARKERS[at % len(_MARKERS)],
    }
  return looks


def plot_marked(axes: Axes, x: ArrayLike, y: ArrayLike, look: Mapping, label: str | None = None) -> None:
  """Plots a solid line with a few markers. Dashes are left for training images."""
  # Matplotlib cannot space markers on a line without points, and would not mark a single point.
  spacing = 0.2 if np.isfinite(np.asarray(y, np.float64)).sum() > 1 else None
  axes.plot(x, y, label=label, color=look['color'], marker=look['marker'], markersize=4, markevery=spacing)


def set_plain_ticks(axis: Axis, integer: bool = False) -> None:
  """Sets a few ticks with long labels. Matplotlib would set as many as fit with short labels."""
  axis.set_major_locator(MaxNLocator(5, integer=integer, steps=_STEPS))
  axis.set_major_formatter(PLAIN)


def set_log_ticks(axis: Axis) -> None:
  """Adds ticks between the powers of ten if an axis holds few of these. Call it after drawing.

  Matplotlib would leave such ticks without labels, or write them as 9 × 10⁻².
  """
  low, high = axis.get_view_interval()
  if high < 300 * low:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 5 * low else MaxNLocator(4, steps=_STEPS))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_locator(NullLocator())


def keep_apart(axes: Axes, curves: Sequence[ArrayLike], others: Sequence[ArrayLike] = ()) -> None:
  """Makes the vertical scale asinh if something is so large that it would flatten the smallest curve.

  Call it before drawing, so that the margins suit the scale.
  """
  smallest = min(filter(None, map(_size, curves)), default=0)
  largest = max(map(_size, [*curves, *others]), default=0)
  if largest > 15 * smallest > 0:
    width = linear_width(smallest)
    axes.set_yscale('asinh', linear_width=width)
    ticks = powers_of_ten(width, largest)
    axes.set_yticks([*-ticks, 0, *ticks])
    axes.minorticks_off()
  axes.yaxis.set_major_formatter(PLAIN)


def linear_width(smallest: float) -> float:
  """Returns the width of the linear part of an asinh scale, a power of ten, for the least difference worth seeing."""
  return 10.0 ** max(math.floor(math.log10(smallest)), -30)


def powers_of_ten(first: float, last: float) -> np.ndarray:
  """Returns at most four ticks for an asinh scale. The labels of Matplotlib's ticks would overlap near 0."""
  decades = math.floor(math.log10(last / first) + 1e-9)
  stride = decades // 4 + 1
  return first * 10.0 ** np.arange(min(stride - 1, 1), decades + 1, stride)


def _size(values: ArrayLike) -> float:
  """Returns the largest finite absolute value, or 0 without one."""
  values = np.abs(np.asarray(values, np.float64))
  return np.max(values, initial=0, where=np.isfinite(values))


def annotate(figure: Figure, axes: Axes, notes: Sequence[tuple[float, float, str]]) -> None:
  """Writes each text beside its point, if possible on a side where it covers neither another text nor a line.

  The points of a sweep crowd at its ends. With the same offset for all of them, their labels would overlap.
  """
  with glyphs_may_be_missing():
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
      crossed = sum(line.intersects_bbox(box.padded(3), filled=False) for line in lines)  # Markers are wider.
      return 10 * (box.count_overlaps(placed) + (not inside)) + crossed

    cost(min(_SIDES, key=cost))
    placed.append(note.get_window_extent())


def draw_legend(figure: Figure, handles: Sequence | None = None) -> None:
  """Puts a legend above the panels, in as many columns as fit. The figure grows with its rows."""
  if handles is None:
    handles = figure.axes[0].get_legend_handles_labels()[0]
  for columns in range(len(handles), 0, -1):
    legend = figure.legend(handles=handles, loc='outside upper left', ncols=columns, **_LEGEND)
    for text in legend.get_texts():
      text.set_parse_math(False)  # Names of folders may hold dollar signs.
    with glyphs_may_be_missing():
      fits = legend.get_window_extent().width <= figure.bbox.width
    if columns == 1 or fits:
      break
    legend.remove()
  figure.set_figheight(figure.get_figheight() + 0.2 * (math.ceil(len(handles) / columns) - 1))


@contextlib.contextmanager
def glyphs_may_be_missing() -> Iterator[None]:
  """Silences Matplotlib where it measures or draws a name that its font cannot write. It draws boxes instead."""
  with warnings.catch_warnings():
    warnings.filterwarnings('ignore', r'Glyph .* missing from', UserWarning)
    yield
