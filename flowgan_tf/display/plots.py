"""The paper's figures, drawn from arrays. Each function returns a Matplotlib figure for `Figure.of_plot`."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from flowgan_tf.display.axes import (
  COLORS,
  DASHES,
  GREEN,
  INK,
  annotate,
  choose_looks,
  draw_legend,
  format_number,
  keep_apart,
  linear_width,
  make_panels,
  plot_marked,
  powers_of_ten,
  set_log_ticks,
  set_plain_ticks,
)


def learning_curves(
  series: Mapping[str, tuple[ArrayLike, ArrayLike | None, ArrayLike]],
  unit: str,
  critic: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
) -> Figure:
  """Plots negative log-likelihood against training iteration, and the critic's gap below it (the paper's Figure 2).

  If one series dwarfs another, the scale is asinh. A value that is not finite leaves a gap. For each label, `series`
  has the iterations `[n]`, the NLL of training images `[n]` or None, and the NLL of validation images; `critic` has the
  iterations `[m]` and the critic's gap `E[f(x)] - E[f(G(z))]` `[m]`.
  """
  figure, panels = make_panels(2 if critic else 1)
  looks = choose_looks([*series, *(critic or {})])
  keep_apart(panels[0], [v for _, *curves in series.values() for v in curves if v is not None])
  for label, (steps, train, validation) in series.items():
    if train is not None:
      panels[0].plot(steps, train, color=looks[label]['color'], linestyle=':', linewidth=1.3)
    plot_marked(panels[0], steps, validation, looks[label])
  panels[0].set_ylabel(f'NLL ({unit})')
  for label, (steps, gap) in (critic or {}).items():
    plot_marked(panels[1], steps, gap, looks[label])
    panels[1].set_ylabel('critic gap (critic units)')
  set_plain_ticks(panels[-1].xaxis, integer=True)
  panels[-1].set_xlabel('training iteration')
  handles = [Line2D([], [], label=label, markersize=4, **(look | {'linestyle': '-'})) for label, look in looks.items()]
  if any(train is not None and np.isfinite(train).sum() > 1 for _, train, _ in series.values()):
    handles += [Line2D([], [], color=INK, label=n, linestyle=s) for n, s in [('validation', '-'), ('train', ':')]]
  draw_legend(figure, handles)
  return figure


def score_curves(series: Mapping[str, tuple[ArrayLike, ArrayLike]], name: str) -> Figure:
  """Plots a sample-quality score `[n]` against training iteration `[n]` for each label (the paper's Figure 5)."""
  figure, (axes,) = make_panels(1)
  for label, look in choose_looks(series).items():
    plot_marked(axes, *series[label], look, label)
  axes.set_ylabel(name, parse_math=False)  # Of a term, it may hold dollar signs.
  set_plain_ticks(axes.xaxis, integer=True)
  axes.set_xlabel('training iteration')
  draw_legend(figure)
  return figure


def shares_seen(series: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
  """Plots the share of a divergence that critics see `[n]` against their updates `[n]` for each label."""
  figure, (axes,) = make_panels(1)
  axes.set_xscale('log')
  for label, look in choose_looks(series).items():
    plot_marked(axes, *series[label], look, label)
  axes.axhline(1, color=INK, linewidth=0.9)
  shares = np.concatenate([np.ravel(shares) for _, shares in series.values()])
  shares = shares[np.isfinite(shares)]
  # An estimate may be far below 0 after few updates.
  axes.set_ylim(max(-0.5, min(0.0, *shares)) if shares.size else 0, max(1.05, *shares) if shares.size else 1.05)
  axes.set_ylabel('estimate / exact divergence')
  set_log_ticks(axes.xaxis)
  axes.set_xlabel('updates of the critic')
  draw_legend(figure)
  return figure


def bandwidth_study(
  bandwidths: ArrayLike,
  nll: ArrayLike,
  score: ArrayLike,
  score_name: str,
  model_lines: Mapping[str, tuple[float, float]],
  winning: tuple[float, float] | None,
) -> Figure:
  """Plots NLL and score of a mixture of Gaussians against its bandwidth (the paper's Figures 3 and 6).

  Bandwidths, NLL and score are `[n]`. `model_lines` has the NLL and the score of each model, drawn as horizontal lines.
  `winning` is the smallest and the largest bandwidth at which the mixture beats the model on both, or None.
  """
  figure, panels = make_panels(2)
  panels[1].set_xscale('log')
  # The NLL is huge where the bandwidth is too small.
  usual = np.sort(np.ravel(nll))[: math.ceil(0.5 * np.size(nll))]
  keep_apart(panels[0], [usual], [nll, [line for line, _ in model_lines.values()]])
  for axes, values, index, name in [(panels[0], nll, 0, 'validation NLL (nats)'), (panels[1], score, 1, score_name)]:
    axes.plot(bandwidths, values, color=INK, marker='o', markersize=3.5, label='GMM')
    for label, look in choose_looks(model_lines).items():
      # A horizontal line without dashes would look like an axis.
      dashes = look['linestyle'] if look['linestyle'] != '-' else DASHES[4]
      axes.axhline(model_lines[label][index], color=look['color'], linestyle=dashes, label=label)
    if winning is not None:
      # The outline makes a single bandwidth visible too.
      axes.axvspan(*winning, color=GREEN, alpha=0.18, linewidth=3, label='GMM better on both')
    axes.set_ylabel(name)
  set_log_ticks(panels[1].xaxis)
  panels[1].set_xlabel('bandwidth σ (pixel values in [0, 1])')
  draw_legend(figure)
  return figure


def singular_values(spectra: Mapping[str, ArrayLike]) -> Figure:
  """Plots distribution functions of singular values of generators' Jacobians (the paper's Figures 4 and 8).

  Zeros count at the left end of the axis. Values that are not finite are left out.
  """
  finite = {label: np.ravel(values)[np.isfinite(np.ravel(values))] for label, values in spectra.items()}
  figure, (axes,) = make_panels(1)
  axes.set_xscale('log')
  for label, look in choose_looks(spectra).items():
    style = {'label': label, 'color': look['color'], 'linestyle': look['linestyle']}
    if finite[label].size:
      axes.ecdf(finite[label], **style)
    else:
      axes.plot([], [], **style)
  axes.set_ylim(0, 1.03)
  set_log_ticks(axes.xaxis)
  axes.set_xlabel('singular value s of the Jacobian')
  axes.set_ylabel('fraction of values below s')
  draw_legend(figure)
  return figure


def likelihood_histograms(edges: ArrayLike, counts: Mapping[str, ArrayLike], unit: str) -> Figure:
  """Plots histograms of the NLL of single images: for each label, the share of its images in each bin `[bins]`."""
  figure, (axes,) = make_panels(1)
  for label, look in choose_looks(counts).items():
    shares = np.asarray(counts[label]) / max(np.sum(counts[label]), 1)
    axes.stairs(shares, edges, fill=True, color=look['color'], alpha=0.12, linewidth=0)
    axes.stairs(shares, edges, color=look['color'], linestyle=look['linestyle'], linewidth=1.5, label=label)
  set_plain_ticks(axes.xaxis)
  axes.set_xlabel(f'NLL of an image ({unit})')
  axes.set_ylabel('share of images')
  draw_legend(figure)
  return figure


def front(
  points: Sequence[tuple[str, float, float, float, float, float, str]], score_name: str, unit: str = 'nats'
) -> Figure:
  """Plots sample-quality score against NLL, with bars of their errors. Up and to the left is better.

  If one NLL is far from most others, the axis shows differences from the lowest on an asinh scale. A point is `(label,
  order, nll, score, nll's standard error, score's standard deviation, note)`. Points of one label are joined in their
  order, unless several have the same order. The note is written beside the point.
  """
  figure, (axes,) = make_panels(1)
  all_nll = [point[2] for point in points if math.isfinite(point[2])] or [0]
  lowest, middle, highest = np.quantile(all_nll, [0, 0.5, 1])
  apart = middle > lowest and highest - lowest > max(20 * (middle - lowest), 0.2 * max(abs(lowest), abs(highest)))
  origin = lowest if apart else 0
  if apart:
    width = linear_width(middle - lowest)
    axes.set_xscale('asinh', linear_width=width)
  notes: list[tuple[float, float, str]] = []
  for label, look in choose_looks(point[0] for point in points).items():
    of_label = sorted((point for point in points if point[0] == label), key=lambda point: point[1])
    _, orders, nll, score, nll_se, score_sd, texts = zip(*of_label, strict=True)
    x = np.subtract(nll, origin)
    style = look | {'linestyle': 'none'} if len(set(orders)) < len(orders) else look  # Seeds have no order.
    axes.errorbar(x, score, score_sd, nll_se, label=label, elinewidth=0.9, markersize=5, **style)
    notes += [(*at, text) for *at, text in zip(x, score, texts, strict=True) if text and np.isfinite(at).all()]
  axes.margins(0.22, 0.17)
  set_plain_ticks(axes.xaxis)
  axes.set_xlabel(f'test NLL ({unit})')
  if apart:
    axes.set_xticks([0, *powers_of_ten(10 * width, highest - lowest)])
    axes.minorticks_off()
    axes.set_xlabel(f'test NLL above the lowest, {format_number(round(lowest, 2))} ({unit})')
  axes.set_ylabel(score_name)
  draw_legend(figure)
  annotate(figure, axes, notes)
  return figure


def condition_numbers(lambdas: Sequence[float], values: Sequence[ArrayLike]) -> Figure:
  """Plots the median condition number of the generator's Jacobian against lambda, with bars between the quartiles.

  The lambdas ascend; 0 is adversarial training, infinity maximum likelihood. `values` has the condition numbers for
  each. NaN is left out, and infinity is drawn at the uppermost tick.
  """
  figure, (axes,) = make_panels(1)
  valid = [np.ravel(v)[~np.isnan(np.ravel(v))] for v in values]
  # Quantiles cannot be interpolated between infinities. A huge number stands in for them.
  quartiles = np.array(
    [np.quantile(np.minimum(v, 1e300), [0.25, 0.5, 0.75]) if v.size else np.full(3, np.nan) for v in valid]
  )
  infinite = quartiles > 1e200
  top = 10 * np.max(quartiles, initial=1, where=~infinite & ~np.isnan(quartiles))
  low, median, high = np.where(infinite, top, quartiles).T
  # A logarithmic axis has no place for 0 and infinity, so the values of lambda are evenly spaced.
  places = np.arange(len(lambdas))
  axes.errorbar(places, median, [median - low, high - median], color=COLORS[0], marker='o', markersize=5)
  axes.set_xlim(-0.06 * len(lambdas), 1.06 * len(lambdas) - 1)
  axes.set_yscale('log')
  set_log_ticks(axes.yaxis)
  if infinite.any():
    ticks = [tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick < top / 2]
    axes.set_yticks([*ticks, top], [*map(axes.yaxis.get_major_formatter(), ticks), '∞'])
  names = {0: '0\nADV', math.inf: '∞\nMLE'}
  # Labels with the same number of lines share a baseline.
  axes.set_xticks(places, [names.get(weight, f'{format_number(weight)}\n') for weight in lambdas])
  axes.set_xlabel('λ')
  axes.set_ylabel('condition number of the Jacobian')
  return figure
