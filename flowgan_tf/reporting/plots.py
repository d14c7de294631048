"""The paper's figures, drawn from arrays: every function returns a Matplotlib figure.

Panels stand below each other, so that a figure can be read on a phone. Text and axes have a grey that is legible on
white and on black; `figure_svg` leaves their colour to the page. The first six
colours are Okabe and Ito's (2008), which the colour-blind can tell apart; lines differ in dashes or markers too.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

__all__ = [
  'bandwidth_study',
  'condition_numbers',
  'figure_png',
  'figure_svg',
  'learning_curves',
  'likelihood_histograms',
  'likelihood_quality_front',
  'score_curves',
  'singular_values',
]

_INK = '#767676'
_GREEN = '#009e73'
# An objective keeps its colour from figure to figure; labels of other beginnings take those that are left.
_OBJECTIVES = {'MLE': 0, 'ADV': 1, 'Hybrid': 2}
_COLORS = ['#0072b2', '#d55e00', _GREEN, '#cc79a7', '#e69f00', '#56b4e9', '#8c6bb1', '#999933']
_DASHES = ['-', (0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5)), (0, (10, 3)), (0, (6, 2, 1.5, 2, 1.5, 2))]
_MARKERS = ['o', 's', '^', 'D', 'v', 'P']

_STYLE = {
  'axes.edgecolor': _INK,
  'axes.grid': True,
  'axes.grid.axis': 'y',
  'axes.labelcolor': _INK,
  'axes.linewidth': 0.8,
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.xmargin': 0.02,
  'font.size': 10.5,
  'grid.alpha': 0.25,
  'grid.color': _INK,
  'grid.linewidth': 0.6,
  'xtick.color': _INK,
  'ytick.color': _INK,
}
_ROUND_STEPS = [1, 2, 5, 10]
# Where a text stands beside its point, in the order of preference.
_SIDES = [(1, 0.7), (-1, 0.7), (1, -0.7), (-1, -0.7), (1.4, 0), (-1.4, 0), (0, 1.2), (0, -1.2)]
_LEGEND = {'frameon': False, 'fontsize': 10.5, 'labelcolor': _INK, 'handlelength': 2.6, 'columnspacing': 1.4}
# Matplotlib's own 10^x is mathematical text: an SVG places its pieces by the widths of a font that a reader may lack.
_SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')


def _number(value: float) -> str:
  """With thousands separators, and as a power of ten where it would be long."""
  if math.isinf(value):
    return '∞'
  mantissa, _, exponent = f'{value:,.6g}'.replace('-', '−').partition('e')
  if not exponent:
    return mantissa
  factor = mantissa.removesuffix('1') if mantissa in ('1', '−1') else f'{mantissa}·'
  return f'{factor}10' + str(int(exponent.replace('−', '-'))).translate(_SUPERSCRIPTS)


_PLAIN = FuncFormatter(lambda value, _: _number(value))
_POWER = FuncFormatter(lambda value, _: '10' + f'{math.log10(value):.0f}'.translate(_SUPERSCRIPTS))


def learning_curves(
  series: Mapping[str, tuple[ArrayLike, ArrayLike | None, ArrayLike]],
  unit: str,
  critic: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
) -> Figure:
  """Negative log-likelihood against training iteration, the critic's estimate below it (the paper's Figure 2).

  If one series dwarfs another, the scale is linear near 0 and logarithmic beyond.

  Args:
    series: For each label: iterations `[n]`, NLL of training images `[n]` or None, and of validation images `[n]`, in
      `unit`. A value that is not finite leaves a gap.
    unit: `'nats'` or `'bits/dim'`.
    critic: For each label: iterations `[m]` and the gap `E[f(x)] - E[f(G(z))]` of the Wasserstein critic `[m]`.
  """
  figure, panels = _panels(2 if critic else 1)
  looks = _looks([*series, *(critic or {})])
  for label, (steps, train, validation) in series.items():
    if train is not None:
      panels[0].plot(steps, train, color=looks[label]['color'], linestyle=':', linewidth=1.3)
    _marked(panels[0], steps, validation, looks[label])
  _far_apart(panels[0], [v for _, *curves in series.values() for v in curves if v is not None])
  panels[0].set_ylabel(f'NLL ({unit})')
  for label, (steps, gap) in (critic or {}).items():
    _marked(panels[1], steps, gap, looks[label])
    panels[1].set_ylabel('critic gap (critic units)')
  _iterations(panels[-1])
  handles = [Line2D([], [], label=label, markersize=4, **(look | {'linestyle': '-'})) for label, look in looks.items()]
  if any(train is not None and np.isfinite(train).sum() > 1 for _, train, _ in series.values()):
    handles += [Line2D([], [], color=_INK, label=n, linestyle=s) for n, s in [('validation', '-'), ('train', ':')]]
  _legend(figure, handles)
  return figure


def score_curves(series: Mapping[str, tuple[ArrayLike, ArrayLike]], name: str) -> Figure:
  """Sample-quality score against training iteration (the paper's Figure 5).

  Args:
    series: For each label: iterations `[n]` and scores `[n]`.
    name: Of the score, such as `'MODE score'`.
  """
  figure, (axes,) = _panels(1)
  for label, look in _looks(series).items():
    _marked(axes, *series[label], look, label)
  axes.set_ylabel(name)
  _iterations(axes)
  _legend(figure)
  return figure


def bandwidth_study(
  bandwidths: ArrayLike,
  nll: ArrayLike,
  score: ArrayLike,
  score_name: str,
  model_lines: Mapping[str, tuple[float, float]],
  winning: tuple[float, float] | None,
  unit: str = 'nats',
) -> Figure:
  """The mixture of Gaussians at the training points against its bandwidth (the paper's Figures 3 and 6).

  Args:
    bandwidths: Standard deviations `[n]` of the components, positive.
    nll: NLL `[n]` of held-out images in `unit`. Its scale is as in `learning_curves`.
    score: Sample-quality scores `[n]`.
    score_name: Such as `'MODE score'`.
    model_lines: NLL and score of each model, drawn as horizontal lines.
    winning: The smallest and largest bandwidth whose mixture beats the model on both, shaded; None if there is none.
    unit: Of the NLL.
  """
  figure, panels = _panels(2)
  for axes, values, index, name in [(panels[0], nll, 0, f'validation NLL ({unit})'), (panels[1], score, 1, score_name)]:
    axes.plot(bandwidths, values, color=_INK, marker='o', markersize=3.5, label='GMM')
    for label, look in _looks(model_lines).items():
      # The first of the dashes is none at all, which would look like an axis.
      dashes = look['linestyle'] if look['linestyle'] != '-' else _DASHES[4]
      axes.axhline(model_lines[label][index], color=look['color'], linestyle=dashes, label=label)
    if winning is not None:
      # The outline shows a single bandwidth too.
      axes.axvspan(*winning, color=_GREEN, alpha=0.18, linewidth=3, label='GMM better on both')
    axes.set_ylabel(name)
  # Bandwidths that are too small have a huge NLL.
  usual = np.sort(np.ravel(nll))[: math.ceil(0.5 * np.size(nll))]
  _far_apart(panels[0], [usual], [nll, [line for line, _ in model_lines.values()]])
  panels[1].set_xscale('log')
  _log_ticks(panels[1].xaxis)
  panels[1].set_xlabel('bandwidth σ (pixel values in [0, 1])')
  _legend(figure, panels[0].get_legend_handles_labels()[0])
  return figure


def singular_values(spectra: Mapping[str, ArrayLike]) -> Figure:
  """Distribution function of the singular values of generators' Jacobians (the paper's Figures 4 and 8).

  Args:
    spectra: For each label: singular values of all noise vectors together, any shape, not negative. Zeros count, at the
      left end of the axis; values that are not finite are left out.

  Raises:
    ValueError: If no value is positive and finite.
  """
  finite = {label: np.ravel(values)[np.isfinite(np.ravel(values))] for label, values in spectra.items()}
  if not any((values > 0).any() for values in finite.values()):
    raise ValueError(f'`spectra` must have a positive, finite value. Got: {dict(spectra)}')
  figure, (axes,) = _panels(1)
  axes.set_xscale('log')
  for label, look in _looks(spectra).items():
    style = {'label': label, 'color': look['color'], 'linestyle': look['linestyle']}
    if finite[label].size:
      axes.ecdf(finite[label], **style)
    else:
      axes.plot([], [], **style)
  axes.set_ylim(0, 1.03)
  _log_ticks(axes.xaxis)
  axes.set_xlabel('singular value s of the Jacobian')
  axes.set_ylabel('fraction of values below s')
  _legend(figure)
  return figure


def likelihood_histograms(edges: ArrayLike, counts: Mapping[str, ArrayLike], unit: str) -> Figure:
  """Histograms of the NLL of single images, each as shares of its own images.

  Args:
    edges: NLL `[bins + 1]` in `unit`, ascending.
    counts: For each label: images in each bin `[bins]`.
    unit: `'nats'` or `'bits/dim'`.
  """
  figure, (axes,) = _panels(1)
  for label, look in _looks(counts).items():
    shares = np.asarray(counts[label]) / max(np.sum(counts[label]), 1)
    axes.stairs(shares, edges, fill=True, color=look['color'], alpha=0.12, linewidth=0)
    axes.stairs(shares, edges, color=look['color'], linestyle=look['linestyle'], linewidth=1.5, label=label)
  axes.xaxis.set_major_locator(MaxNLocator(5, steps=_ROUND_STEPS))
  axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND_STEPS))
  axes.xaxis.set_major_formatter(_PLAIN)
  axes.set_xlabel(f'NLL of an image ({unit})')
  axes.set_ylabel('share of images')
  _legend(figure)
  return figure


def likelihood_quality_front(
  points: Sequence[tuple[str, float | None, float, float, float, float]],
  unit: str = 'nats',
  score_name: str = 'MODE score',
) -> Figure:
  """Sample-quality score against NLL for a sweep over lambda; upwards and to the left is better.

  If one NLL is far from most others, the scale shows distances from the lowest, the larger ones logarithmically.

  Args:
    points: `(label, lambda, nll, score, nll's standard error, score's standard deviation)`. Points of one label are
      joined in the order of lambda, unless several have the same; it stands beside each of them; None is no lambda.
    unit: Of the NLL.
    score_name: Such as `'MODE score'`.
  """
  figure, (axes,) = _panels(1)
  notes: list[tuple[float, float, str]] = []
  for label, look in _looks(dict.fromkeys(point[0] for point in points)).items():
    own = sorted((p for p in points if p[0] == label), key=lambda p: (p[1] is not None, p[1]))
    _, lambdas, nll, score, nll_se, score_sd = zip(*own, strict=True)
    style = look | {'linestyle': 'none'} if len(set(lambdas)) < len(lambdas) else look  # Seeds have no order.
    axes.errorbar(nll, score, score_sd, nll_se, label=label, elinewidth=0.9, markersize=5, **style)
    notes += [(x, y, f'λ = {_number(w)}') for x, y, w in zip(nll, score, lambdas, strict=True) if w is not None]
  axes.margins(0.22, 0.17)
  _nll_axis(axes, np.array([point[2] for point in points], np.float64), unit)
  axes.set_ylabel(score_name)
  _legend(figure)
  _annotate(figure, axes, notes)
  return figure


def condition_numbers(lambdas: Sequence[float], values: Sequence[ArrayLike]) -> Figure:
  """Condition number of the generator's Jacobian against lambda: the median, and bars from quartile to quartile.

  Args:
    lambdas: One for each model, in ascending order; 0 is adversarial training, infinity maximum likelihood.
    values: For each of them: condition numbers at the noise vectors `[noise vectors]`, or one number. NaN is left out;
      infinity, of a Jacobian that is singular in its precision, is the uppermost tick.
  """
  figure, (axes,) = _panels(1)
  valid = [np.ravel(v)[~np.isnan(np.ravel(v))] for v in values]
  # Quantiles cannot be interpolated with infinity, but with what is as good as infinite.
  quartiles = np.array(
    [np.quantile(np.minimum(v, 1e300), [0.25, 0.5, 0.75]) if v.size else np.full(3, np.nan) for v in valid]
  )
  infinite = quartiles > 1e200
  top = 10 * np.max(quartiles, initial=1, where=~infinite & ~np.isnan(quartiles))
  low, median, high = np.where(infinite, top, quartiles).T
  # 0 and infinity have no place on an axis of lambda, so each has the same room.
  places = np.arange(len(lambdas))
  axes.errorbar(places, median, [median - low, high - median], color=_COLORS[0], marker='o', markersize=5)
  axes.set_xlim(-0.06 * len(lambdas), 1.06 * len(lambdas) - 1)
  axes.set_yscale('log')
  _log_ticks(axes.yaxis)
  if infinite.any():
    ticks = [tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick < top / 2]
    axes.set_yticks([*ticks, top], [*map(axes.yaxis.get_major_formatter(), ticks), '∞'])
  names = {0: '0\nADV', math.inf: '∞\nMLE'}
  # With as many lines each, the labels have one baseline.
  axes.set_xticks(places, [names.get(weight, f'{_number(weight)}\n') for weight in lambdas])
  axes.set_xlabel('λ')
  axes.set_ylabel('condition number of the Jacobian')
  return figure


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
  svg = svg.replace(_INK, 'currentColor')
  used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
  svg = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else '', svg)
  prefix = 'f' + hashlib.sha256(svg.encode()).hexdigest()[:8]
  return re.sub(r'((?:url\(|href=")#| id=")', rf'\1{prefix}-', svg)


def figure_png(figure: Figure) -> bytes:
  """A PNG file at 200 dots an inch, transparent, for where an SVG would be too large."""
  file = io.BytesIO()
  figure.savefig(file, format='png', dpi=200, transparent=True, metadata={'Software': None})
  return file.getvalue()


def _panels(rows: int) -> tuple[Figure, list[Axes]]:
  """A figure of panels below each other that share their horizontal axis."""
  with mpl.rc_context(_STYLE):
    figure = Figure(figsize=(4.8, 1.2 + 2.2 * rows), layout='constrained')
    grid = figure.subplots(rows, 1, sharex=True, squeeze=False)
  panels = list(grid[:, 0])
  figure.align_ylabels(panels)
  return figure, panels


def _looks(labels: Iterable[str]) -> dict[str, dict]:
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
    turn, color = divmod(place, len(_COLORS))
    dashes = _DASHES[(color + turn) % len(_DASHES)]
    looks[label] = {'color': _COLORS[color], 'linestyle': dashes, 'marker': _MARKERS[(color + turn) % len(_MARKERS)]}
  return looks


def _marked(axes: Axes, x: ArrayLike, y: ArrayLike, look: Mapping, label: str | None = None) -> None:
  """A solid line with some markers, as dashes are for training images."""
  # Matplotlib cannot space the markers of a line without a point, and puts none on a single point.
  spacing = 0.2 if np.isfinite(np.asarray(y, np.float64)).sum() > 1 else None
  axes.plot(x, y, label=label, color=look['color'], marker=look['marker'], markersize=4, markevery=spacing)


def _iterations(axes: Axes) -> None:
  axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=_ROUND_STEPS))
  axes.xaxis.set_major_formatter(_PLAIN)
  axes.set_xlabel('training iteration')


def _log_ticks(axis: Axis) -> None:
  """Labels on a logarithmic axis however much or little it spans."""
  low, high = axis.get_view_interval()
  wide = high > 300 * low
  if wide:
    axis.set_major_locator(LogLocator(numticks=7))
  else:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 5 * low else MaxNLocator(4, steps=_ROUND_STEPS))
  axis.set_minor_locator(NullLocator())
  axis.set_major_formatter(_POWER if wide else _PLAIN)


def _far_apart(axes: Axes, curves: Sequence[ArrayLike], others: Sequence[ArrayLike] = ()) -> None:
  """Keeps the values of the smallest of the curves apart on the vertical axis where something is much larger."""
  axes.yaxis.set_major_formatter(_PLAIN)
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
    axes.yaxis.set_major_formatter(_PLAIN)


def _size(values: ArrayLike) -> float:
  """The largest absolute value that is finite; 0 if none is."""
  values = np.abs(np.asarray(values, np.float64))
  return np.max(values, initial=0, where=np.isfinite(values))


def _nll_axis(axes: Axes, nll: np.ndarray, unit: str) -> None:
  """A horizontal axis whose scale is asinh((NLL - lowest) / step) where a linear one would hide most differences."""
  nll = nll[np.isfinite(nll)]
  lowest, middle, highest = np.quantile(nll, [0, 0.5, 1]) if nll.size else (0, 0, 0)
  if not highest - lowest > max(20 * (middle - lowest), 0.2 * max(abs(lowest), abs(highest))) or middle == lowest:
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=_ROUND_STEPS))
    axes.xaxis.set_major_formatter(_PLAIN)
    axes.set_xlabel(f'test NLL ({unit})')
    return
  step = 10 ** math.floor(math.log10(middle - lowest))
  axes.set_xscale(
    'function', functions=(lambda x: np.arcsinh((x - lowest) / step), lambda y: lowest + step * np.sinh(y))
  )
  decades = math.floor(math.log10((highest - lowest) / step))
  above = step * 10.0 ** np.arange(1, decades + 1, math.ceil(decades / 3))
  axes.set_xticks([lowest, *lowest + above], [_number(round(lowest, 2)), *(f'+{_number(x)}' for x in above)])
  axes.set_xlabel(f'test NLL ({unit}; +: above the lowest)')


def _annotate(figure: Figure, axes: Axes, notes: Sequence[tuple[float, float, str]]) -> None:
  """Writes each text beside its point where it covers least of other texts, points and lines."""
  figure.draw_without_rendering()
  drawn = np.concatenate([_dense(axes.transData.transform(line.get_xydata())) for line in axes.lines])
  placed: list[Bbox] = []
  for x, y, text in notes:
    if not (math.isfinite(x) and math.isfinite(y)):
      continue
    note = axes.annotate(text, (x, y), (0, 0), textcoords='offset points', color=_INK, fontsize=9, in_layout=False)

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


def _legend(figure: Figure, handles: Sequence | None = None) -> None:
  """Above the panels, in as many columns as fit."""
  if handles is None:
    handles = figure.axes[0].get_legend_handles_labels()[0]
  # In characters of the font, of which 54 have room in a figure; a column's line and gap are as wide as 8.
  lengths = [len(handle.get_label()) + 8 for handle in handles]
  columns = next(n for n in range(len(lengths), 0, -1) if n == 1 or sum(map(max, np.array_split(lengths, n))) <= 54)
  figure.legend(handles=handles, loc='outside upper left', ncols=columns, **_LEGEND)
