"""Figures of runs: samples, curves of their training, and what lambda changes (the paper's Figures 1, 2 and 5)."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from flowgan_tf.data.conditions import kind_of
from flowgan_tf.display import plots
from flowgan_tf.display.axes import format_number
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import SCORE_NAMES, listed
from flowgan_tf.evaluation.tables import GIVEN_NOTE, is_given
from flowgan_tf.objectives.objective import NUMBERS
from flowgan_tf.objectives.term import OF_LOG, Number
from flowgan_tf.report import commands
from flowgan_tf.report.findings import as_good, shown_record
from flowgan_tf.study.analysis import scored_alike
from flowgan_tf.study.summary import Summary

# The numbers of evaluations of conditional runs that have a curve.
_CONDITIONAL = (
  Number(
    'class_accuracy',
    'class accuracy (%)',
    'Share of validation images whose label has the largest p(y | x), during training.',
    100,
  ),
  Number(
    'label_share',
    'label as asked (%)',
    'Share of samples that the classifier assigns to the class they were drawn for, during training.',
    100,
  ),
  Number(
    'consistency',
    'consistency (dB)',
    'PSNR of samples, reduced again, against the conditions of validation images, during training.',
  ),
)

_MOST_ROWS = 10  # of a training's grid of samples, so that each class has one


def sample_grids(runs: Sequence[Summary]) -> list[Figure]:
  """Returns the newest sample grid of each run that has one."""
  figures = []
  for run in runs:
    if run.sample_grid:
      step, png = run.sample_grid
      alt = f'Samples of {run.label} after {step:,} iterations.'
      caption = f'{run.label}, iteration {step:,}{_rows(run)}.'
      figures.append(Figure.of_png(png, alt, caption, commands.train(run.commands)))
  return figures


def real_images(runs: Sequence[Summary]) -> list[Figure]:
  """Returns a grid of validation images, which is laid out as the first run's samples are, if one of them has it."""
  grids = [(run, run.real_grid) for run in runs if run.real_grid]
  if not grids:
    return []
  run, png = grids[0]
  return [Figure.of_png(png, 'Real images.', f'Real images{_rows(run)}.', commands.train(run.commands))]


def learning_curves(runs: Sequence[Summary], unit: str) -> Figure | None:
  """Draws NLL and critic gap against iteration; None if no run has an NLL at two iterations."""
  series, critic = {}, {}
  for run in runs:
    validation = [record for record in run.records('validation') if 'nll' in record]
    if validation:
      steps = [record['step'] for record in validation]
      nats = (math.nan if record['nll'] is None else record['nll'] for record in validation)
      nll = np.array([run.in_unit(value, unit) for value in nats], np.float64)
      series[run.label] = steps, _train_nll(run, steps, unit), nll
    gaps = [(r['step'], r['critic_gap']) for r in run.records('train') if r.get('critic_gap') is not None]
    if gaps:
      critic[run.label] = tuple(np.transpose(_thinned(gaps)))
  if not _are_lines(series):
    return None
  trained = ' and training' * any(train is not None for _, train, _ in series.values())
  caption = f'Negative log-likelihood of validation{trained} images during training, in {unit}'
  if trained and any(run.config.pseudo_labels for run in runs):
    caption += ' (of training images with `pseudo_labels`: together with their components)'
  conditional = [run.label for run in runs if run.label in series and not kind_of(run.condition).has_marginal]
  if conditional:
    caption += f'; for {listed(conditional)} it is the mean of {GIVEN_NOTE}'
  return Figure.of_plot(
    plots.learning_curves(series, unit, critic),
    f'Lines of NLL against training iteration for {listed(series)}'
    + ('; below, the gap that the critic sees between images and samples.' if critic else '.'),
    caption + ('; below it the divergence as their critics estimate it.' if critic else '.'),
  )


def _rows(run: Summary) -> str:
  """What the rows of a grid of samples are."""
  names = f', {listed(run.class_names)}' if 0 < len(run.class_names) <= _MOST_ROWS else ''
  rows = kind_of(run.condition).rows
  return rows and f': {rows}{names}'


def conditional_curves(runs: Sequence[Summary]) -> list[Figure]:
  """Draws how well conditional runs keep to their conditions against iteration, each number in a figure of its own."""
  return _curves(runs, 'validation', _CONDITIONAL)


def term_curves(runs: Sequence[Summary]) -> list[Figure]:
  """Draws the numbers of terms against iteration, each in a figure of its own; the user's own plainly."""
  logged = {name for run in runs for record in run.records('train') for name in record}
  others = sorted(logged - OF_LOG - NUMBERS.keys())
  plain = [Number(name, name, f'{name}, a number of a term, during training.') for name in others]
  return _curves(runs, 'train', [*(number for number in NUMBERS.values() if number.axis), *plain])


def _curves(runs: Sequence[Summary], kind: str, numbers: Iterable[Number]) -> list[Figure]:
  """Draws numbers in records of one kind, each in a figure of its own, if a run has it at two iterations."""
  figures = []
  for number in numbers:
    series = {}
    for run in runs:
      if points := [(r['step'], r[number.name]) for r in run.records(kind) if number.name in r]:
        steps, values = np.transpose(_thinned(points))
        series[run.label] = steps, number.scale * values
    if _are_lines(series):
      alt = f'Lines of {number.axis} against training iteration for {listed(series)}.'
      figures.append(Figure.of_plot(plots.score_curves(series, number.axis), alt, number.caption))
  return figures


def score_curves(runs: Sequence[Summary]) -> Figure | None:
  """Draws the sample score against iteration; None if the runs have no score in common, or none has two scores."""
  needed = {'scorer', 'scorer_hash', 'score_samples'}
  scored = {run.label: [r for r in run.records('validation') if needed <= r.keys()] for run in runs}
  records = list(itertools.chain(*scored.values()))
  name = _common_score(records)
  if name is None:
    return None
  series = {
    label: ([r['step'] for r in records], np.array([r.get(name) for r in records], np.float64))
    for label, records in scored.items()
    if records
  }
  if not _are_lines(series):
    return None
  numbers = sorted({f'{record["score_samples"]:,}' for record in records})
  networks = sorted({f'{record["scorer"]} {record["scorer_hash"]}' for record in records})
  return Figure.of_plot(
    plots.score_curves(series, SCORE_NAMES[name]),
    f'Lines of {SCORE_NAMES[name]} against training iteration for {listed(series)}.',
    f'{SCORE_NAMES[name]} of {" or ".join(numbers)} samples during training, by {" and ".join(networks)}.',
  )


def front(runs: Sequence[Summary], unit: str) -> Figure | None:
  """Draws score against test NLL, for runs at the checkpoint of `shown_record`.

  FID takes the place of a score that tells no run from the best. It returns None without two runs, or if their scores
  come from different networks or numbers of samples.
  """
  points, scored = [], []
  name = _telling_score([record for run in runs if (record := shown_record(run))])
  for run in runs:
    record = shown_record(run)
    if record and record.get(name) is not None and record.get('nll') is not None and not is_given(record):
      nll, error = run.in_unit(record['nll'], unit), run.error_in_unit(record.get('standard_error') or 0.0, unit)
      note = f'λ = {format_number(run.weight)}' if run.kind == 'Hybrid' else ''
      scored.append(record)
      points.append((run.kind, run.weight, nll, record[name], error, record.get(f'{name}_std') or 0.0, note))
  if name is None or len(points) < 2 or not all(scored_alike(record, scored[0]) for record in scored):
    return None
  return Figure.of_plot(
    plots.front(points, SCORE_NAMES[name], unit),
    f'{SCORE_NAMES[name]} against test NLL, a point for each of {len(points)} runs.',
    f'Likelihood against {SCORE_NAMES[name]}, at the best score of each run; '
    f'{"down" if name == "fid" else "up"} and to the left is better. Bars: standard error over test images'
    + (
      '; all sample scores are within two standard errors.'
      if name == 'fid'
      else ', standard deviation over splits of the samples.'
    ),
  )


def _telling_score(records: Sequence[dict]) -> str | None:
  """Returns the score that all records have, or 'fid' if all have that and no score is beyond the errors."""
  name = _common_score(records)
  if name is None or any(record.get('fid') is None or not record.get(f'{name}_std') for record in records):
    return name
  ranked = sorted((('', record[name], record[f'{name}_std']) for record in records), key=lambda found: -found[1])
  return 'fid' if len(as_good(ranked, records[0].get('score_splits', 1))) == len(ranked) else name


def _common_score(records: Sequence[dict]) -> str | None:
  """Returns 'mode_score' if all records have it, or else 'inception_score' if all have that; otherwise None."""
  return next((n for n in ('mode_score', 'inception_score') if records and all(n in r for r in records)), None)


def _are_lines(series: Mapping[str, Sequence]) -> bool:
  """Whether a curve has two points at least."""
  return any(len(steps) > 1 for steps, *_ in series.values())


def _train_nll(run: Summary, steps: Sequence[int], unit: str) -> list[float] | None:
  """Mean NLL of the batches since the previous evaluation; None if the objective does not use it."""
  records = [(r['step'], r['nll']) for r in run.records('train') if r.get('nll') is not None]
  if not records:
    return None
  at, nll = np.transpose(records)
  means = [math.nan]
  for before, step in itertools.pairwise(steps):
    batch = nll[(at > before) & (at <= step)]
    means.append(run.in_unit(batch.mean(), unit) if batch.size else math.nan)
  return means


def _thinned(rows: Sequence[tuple]) -> list[np.ndarray]:
  """At most 100 means of neighbouring rows, which smooth the fluctuations of single batches."""
  return [part.mean(axis=0) for part in np.array_split(np.asarray(rows, np.float64), min(100, len(rows)))]
