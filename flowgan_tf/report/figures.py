"""The paper's figures from runs of one data set: a picture each, with its alternative text and its caption.

A figure without a run to draw is None.
"""

from __future__ import annotations

import itertools
import math
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from flowgan_tf.display import plots
from flowgan_tf.display.figure import Figure
from flowgan_tf.estimators.gaussian_mixture import winning_range
from flowgan_tf.evaluation.grids import image_grid
from flowgan_tf.metrics.likelihood import bits_per_dim
from flowgan_tf.programs.command_lines import analyze_command, train_command
from flowgan_tf.study.summary import Summary

__all__ = [
  'ANALYSIS_FIGURES',
  'SCORE_NAMES',
  'condition_numbers',
  'front',
  'learning_curves',
  'samples',
  'save',
  'score_curves',
]

SCORE_NAMES = {'mode_score': 'MODE score', 'inception_score': 'Inception score', 'fid': 'FID', 'kid': 'KID'}

# A set of images whose median is so many times the others' range away would leave them no room.
_ROOM = 4


def samples(runs: Sequence[Summary]) -> list[Figure]:
  """The newest sample grid of each run (the paper's Figure 1)."""
  figures = []
  for run in runs:
    if path := run.sample_grid():
      step = int(path.stem.removeprefix('step_'))
      figures.append(
        Figure.of_png(
          path.read_bytes(),
          f'64 samples of {run.label} after {step:,} iterations, in rows of 8.',
          f'{run.label}, iteration {step:,}.',
          train_command(run),
        )
      )
  return figures


def learning_curves(runs: Sequence[Summary], unit: str) -> Figure | None:
  """NLL and critic gap against iteration (the paper's Figure 2)."""
  series, critic = {}, {}
  for run in runs:
    validation = [record for record in run.records('validation') if 'nll' in record]
    train = run.records('train')
    if validation:
      steps = [record['step'] for record in validation]
      nll = [_nan(run.in_unit(record['nll'], unit)) for record in validation]
      series[run.label] = steps, _train_nll(run, steps, unit), nll
    gaps = [(record['step'], record['critic_gap']) for record in train if record.get('critic_gap') is not None]
    if gaps:
      critic[run.label] = tuple(np.transpose(_thinned(gaps)))
  if not series:
    return None
  trained = ' and training' * any(train is not None for _, train, _ in series.values())
  caption = f'Negative log-likelihood of validation{trained} images during training, in {unit}'
  return Figure.of_plot(
    plots.learning_curves(series, unit, critic),
    f'Lines of NLL against training iteration for {_listed(series)}'
    + ('; below, the gap that the critic sees between images and samples.' if critic else '.'),
    caption + ('; below it E[f(x)] − E[f(G(z))] of the critic they were trained with.' if critic else '.'),
  )


def score_curves(runs: Sequence[Summary]) -> Figure | None:
  """Sample score against iteration (the paper's Figure 5)."""
  scored = {run.label: [r for r in run.records('validation') if 'scorer' in r] for run in runs}
  records = [record for records in scored.values() for record in records]
  name = _common_score(records)
  if name is None:
    return None
  series = {
    label: ([r['step'] for r in records], [_nan(r.get(name)) for r in records])
    for label, records in scored.items()
    if records
  }
  numbers = sorted({f'{record["score_samples"]:,}' for record in records})
  networks = sorted({f'{record["scorer"]} {record["scorer_hash"]}' for record in records})
  return Figure.of_plot(
    plots.score_curves(series, SCORE_NAMES[name]),
    f'Lines of {SCORE_NAMES[name]} against training iteration for {_listed(series)}.',
    f'{SCORE_NAMES[name]} of {" or ".join(numbers)} samples during training, by {" and ".join(networks)}.',
  )


def front(runs: Sequence[Summary], unit: str) -> Figure | None:
  """Score against test NLL of runs that differ in lambda, each at its best score."""
  points = []
  name = _common_score([record for run in runs if (record := run.evaluated('best_score'))])
  for run in runs:
    record = run.evaluated('best_score')
    if record and name in record and 'nll' in record:
      nll, error = run.in_unit(record['nll'], unit), run.error_in_unit(record.get('standard_error') or 0.0, unit)
      hybrid = run.config.objective == 'hybrid'
      weight = run.config['lambda'] if hybrid else None
      group = 'Hybrid' if hybrid else {'mle': 'MLE', 'adversarial': 'ADV'}[run.config.objective]
      points.append((group, weight, nll, record[name], error, record.get(f'{name}_std') or 0.0))
  if len(points) < 2 or all(point[1] is None for point in points):
    return None
  return Figure.of_plot(
    plots.likelihood_quality_front(points, unit, SCORE_NAMES[name]),
    f'{SCORE_NAMES[name]} against test NLL, a point for each of {len(points)} runs.',
    f'Likelihood and quality for different λ, each run at its best {SCORE_NAMES[name]}; up and to the left is better. '
    'Bars: standard error over test images, standard deviation over splits of the samples.',
  )


def condition_numbers(runs: Sequence[Summary]) -> Figure | None:
  """Condition number of the Jacobian against lambda."""
  found: dict[float, list] = {}
  for run in runs:
    if 'jacobian' in run.studies and run.config.generator != 'dcgan':
      weight = {'mle': math.inf, 'adversarial': 0.0}.get(run.config.objective, run.config['lambda'])
      values = run.studies['jacobian'].arrays['singular_values'].astype(np.float64)
      with np.errstate(divide='ignore'):
        found.setdefault(weight, []).append(values[:, 0] / values[:, -1])
  weights = sorted(found)
  if len(weights) < 2:
    return None
  return Figure.of_plot(
    plots.condition_numbers(weights, [np.concatenate(found[w]) for w in weights]),
    f'Condition number of the Jacobian at {len(weights)} values of λ.',
    'Largest over smallest singular value of the Jacobian of the generator: median and quartiles over '
    'noise vectors and runs. '
    'λ = 0 is adversarial training, infinity maximum likelihood.',
  )


def _gmm(runs):
  runs = [run for run in runs if 'gmm' in run.studies]
  figures = {}
  if not runs:
    return figures
  first = runs[0].studies['gmm']
  records, selection = first.record['bandwidths'], first.record['selection']
  command = analyze_command(runs[0], 'gmm')
  h = first.record['best_bandwidth']
  if selection:
    # Only models whose NLL and score are of the same images, samples and network.
    alike = [run for run in runs if _alike(run.studies['gmm'].record, first.record)]
    models = {run.label: run.studies['gmm'].record['model'] for run in alike}
    lines = {
      label: (model['nll'], model[selection])
      for label, model in models.items()
      if model.get('nll') is not None and model.get(selection) is not None
    }
    rival = next((label for label in lines if label.startswith('ADV')), next(iter(lines), None))
    winning = winning_range(records, *lines[rival], selection) if rival else None
    bandwidths, nll, score = np.transpose([(r['bandwidth'], r['nll'], r[selection]) for r in records])
    if winning:
      said = (
        f'Shaded: bandwidths from {winning[0]:.2g} to {winning[1]:.2g}, at which the mixture beats {rival} on both.'
      )
    else:
      said = f'At no bandwidth does the mixture beat {rival} on both.' if rival else ''
    name = SCORE_NAMES[selection]
    figures['gmm'] = Figure.of_plot(
      plots.bandwidth_study(bandwidths, nll, score, name, lines, winning),
      f'NLL and {name} of a mixture of Gaussians against its bandwidth, with horizontal lines for {_listed(lines)}.',
      f'Mixture of {first.record["centers"]:,} isotropic Gaussians, one on each training image: NLL of '
      f'{records[0]["n"]:,} validation images and {name} of {records[0]["score_samples"]:,} samples. {said}',
      command,
    )
  figures['gmm_samples'] = Figure.of_pixels(
    image_grid(first.arrays['samples']),
    'Samples of the mixture of Gaussians, in rows of 8.',
    f'Samples of the mixture at the bandwidth with the best validation NLL, {h:.3g}.',
    command,
  )
  return figures


def _jacobian(runs):
  runs = [run for run in runs if 'jacobian' in run.studies]
  if not runs:
    return {}
  spectra = {run.label: run.studies['jacobian'].arrays['singular_values'] for run in runs}
  numbers = sorted({run.studies['jacobian'].record['n'] for run in runs})
  figure = Figure.of_plot(
    plots.singular_values(spectra),
    f'Distribution functions of the singular values of the Jacobians of {_listed(spectra)}.',
    f'Singular values of the Jacobian of the generator at {" or ".join(map(str, numbers))} noise vectors.',
    analyze_command(runs[0], 'jacobian') if len(runs) == 1 else None,
  )
  return {'jacobian': figure}


def _histograms(runs):
  figures = {}
  for i, run in enumerate(run for run in runs if 'histograms' in run.studies):
    study = run.studies['histograms']
    unit = 'bits/dim'
    nll = {
      name: bits_per_dim(-values, run.image_shape, study.record['levels']) for name, values in study.arrays.items()
    }
    low, high = np.quantile(np.concatenate([nll['train'], nll['test']]), [0, 1])
    room = _ROOM * (high - low)
    near = {n: v for n, v in nll.items() if low - room < np.median(v) < high + room}
    far = [f'{n} has {v.mean():.2f} on average' for n, v in nll.items() if n not in near]
    edges = np.linspace(*np.quantile(np.concatenate(list(near.values())), [0.001, 0.999]), 61)
    counts = {name: np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] for name, v in near.items()}
    figures['histograms' if i == 0 else f'histograms_{i}'] = Figure.of_plot(
      plots.likelihood_histograms(edges, counts, unit),
      f'Histograms of the NLL of single images under {run.label}: {_listed(near)}.',
      f'{run.label}: NLL of single images, in {unit}; the end bins hold what lies beyond.'
      + (f' Not drawn: {"; ".join(far)}.' if far else ''),
      analyze_command(run, 'histograms'),
    )
  return figures


# What an analysis looks like: figures by name, none where a table says it all.
ANALYSIS_FIGURES: dict[str, Callable[[Sequence[Summary]], dict[str, Figure]]] = {
  'gmm': _gmm,
  'jacobian': _jacobian,
  'histograms': _histograms,
}


def save(figure: Figure, path: pathlib.Path) -> pathlib.Path:
  return figure.save(path)


def _alike(record, other):
  keys = ('scorer', 'scorer_hash', 'score_samples')
  return record['selection'] == other['selection'] and all(
    record['model'].get(key) == other['bandwidths'][0].get(key) for key in keys
  )


def _common_score(records):
  """The score that chose checkpoints, of records that all have it."""
  return next((n for n in ('mode_score', 'inception_score') if records and all(n in r for r in records)), None)


def _train_nll(run, steps, unit):
  """Mean NLL of the batches since the evaluation before; None if the objective does not look at it."""
  records = [(r['step'], r['nll']) for r in run.records('train') if r.get('nll') is not None]
  if not records:
    return None
  at, nll = np.transpose(records)
  means = [math.nan]
  for before, step in itertools.pairwise(steps):
    batch = nll[(at > before) & (at <= step)]
    means.append(run.in_unit(batch.mean(), unit) if batch.size else math.nan)
  return means


def _thinned(rows, points=100):
  """Means of neighbouring rows, so that not every fluctuation of a batch is drawn."""
  parts = np.array_split(np.asarray(rows, np.float64), min(points, len(rows)))
  return [part.mean(axis=0) for part in parts]


def _nan(value):
  return math.nan if value is None else value


def _listed(labels):
  labels = list(labels)
  return ', '.join(labels[:-1]) + f' and {labels[-1]}' if len(labels) > 1 else ''.join(labels)
