"""Tables for the terminal."""

from __future__ import annotations

import math
import typing
from collections.abc import Sequence

if typing.TYPE_CHECKING:
  from flowgan_tf.study.summary import Summary

__all__ = ['evaluation_table', 'study_lines', 'sweep_table', 'text_table']


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Aligns rows under a header: the first column to the left, numbers to the right."""
  widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

  def line(row):
    first, *rest = (
      cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
    )
    return '   '.join([first, *rest])

  rule = '-' * len(line(header))
  return '\n'.join([line(header), rule, *map(line, rows)])


def evaluation_table(records: Sequence[dict]) -> str:
  """The table of an evaluation, one row for each step; checkpoints of one step hold one generator and share a row.

  Args:
    records: As `training.evaluation.evaluate_run` returns them.

  Returns:
    The table, and under it what its numbers rest on. A cell without a number has a dash.
  """
  split = records[0]['split']
  columns: list[tuple[str, str, str]] = []  # header, key of the record, format
  if any('nll' in r for r in records):
    columns += [
      (f'{split} NLL (nats)', 'nll', ',.2f'),
      ('bits/dim', 'bits_per_dim', '.3f'),
      ('round trip', 'round_trip_error', '.1e'),
    ]
  if any('nll_float64' in r for r in records):
    columns += [
      ('NLL float64', 'nll_float64', ',.2f'),
      ('bits/dim float64', 'bits_per_dim_float64', '.3f'),
      ('round trip float64', 'round_trip_error_float64', '.1e'),
    ]
  if columns:
    columns.append(('images', 'n', ','))
  scored = [r for r in records if 'scorer' in r]
  if scored:
    columns += [('MODE', 'mode_score', '.2f')] if 'mode_score' in scored[0] else []
    columns += [
      ('Inception', 'inception_score', '.2f'),
      ('FID', 'fid', '.2f'),
      ('KID', 'kid', '.4f'),
      ('samples', 'score_samples', ','),
    ]
  checkpoints: dict[int, list[str]] = {}
  for r in records:
    checkpoints.setdefault(r['step'], []).append(r['checkpoint'])
  rows = [
    [', '.join(checkpoints[r['step']]), f'{r["step"]:,}', *(_cell(r, key, form) for _, key, form in columns)]
    for r in records
    if r['checkpoint'] == checkpoints[r['step']][0]
  ]
  table = text_table(['checkpoint', 'step', *(header for header, _, _ in columns)], rows)
  if 'nll' not in records[0]:
    table += '\nno likelihood: the generator is not invertible'
  if scored:
    table += f'\n{_scores_note(scored[0])}'
  return table


def sweep_table(runs: Sequence[Summary]) -> str:
  """The table of a sweep: each run at its best score, with the condition number of its Jacobian."""
  header = ['run', 'seed', 'iteration', 'test NLL (nats)', 'MODE', 'Inception', 'FID', 'condition number']
  rows = []
  for run in runs:
    record = run.evaluated('best_score') or run.evaluated('latest')
    study = run.studies.get('jacobian')
    cells = [('nll', ',.2f'), ('mode_score', '.2f'), ('inception_score', '.2f'), ('fid', '.2f')]
    row = [run.label, str(run.config.seed), f'{record["step"]:,}', *(_cell(record, *cell) for cell in cells)]
    rows.append([*row, _e(study.record['median_condition_number']) if study else '-'])
  return text_table(header, rows)


def study_lines(record: dict) -> list[str]:
  """What an analysis has found, for the terminal.

  Args:
    record: `record` of an `analysis.Study`.
  """
  r = record
  exact = []
  if 'exact_nll' in r:
    exact.append(f'exact NLL {_pm(r, "exact_nll", "exact_standard_error")} nats, n = {r["exact_n"]:,}')
  match r['what']:
    case 'gmm':
      lines = [
        f'best bandwidth {r["best_bandwidth"]:.4f}: validation NLL {_pm(r, "best_nll", "best_standard_error")}, '
        f'test NLL {_pm(r, "test_nll", "test_standard_error")} nats; {r["centers"]:,} Gaussians'
      ]
      if name := r['selection']:
        best = max(r['bandwidths'], key=lambda b: b[name])
        lines.append(f'best {name.replace("_", " ")} {best[name]:.2f} at bandwidth {best["bandwidth"]:.4f}')
      return lines
    case 'kde':
      return [
        f'KDE NLL {_pm(r, "nll", "standard_error")} nats, n = {r["n_test"]:,}; {r["n_samples"]:,} samples, bandwidth '
        f'{r["bandwidth"]:.4f}',
        *exact,
      ]
    case 'ais':
      return [
        f'AIS NLL {_pm(r, "nll", "standard_error")} nats, n = {r["n"]}; {r["chains"]} chains of {r["steps"]} '
        f'temperatures, sigma {r["sigma"]:.4f}, acceptance {r["acceptance"]:.2f}',
        f'simulated images: log p between {r["bracket_lower"]:,.2f} and {r["bracket_upper"]:,.2f}, '
        f'gap {_pm(r, "bracket_gap", "bracket_gap_standard_error")} nats, n = {r["bracket_n"]}',
        *exact,
      ]
    case 'jacobian':
      return [
        f'mean log-determinant {_pm(r, "mean_log_det", "standard_error")} nats at {r["n"]} noise vectors of '
        f'{r["d"]:,} dimensions',
        f'condition number: median {_e(r["median_condition_number"])}, largest {_e(r["largest_condition_number"])}',
      ]
    case 'histograms':
      header = ['images', 'mean log p (nats)', 'AUROC test against it', 'n']
      rows = [
        [
          name,
          _pm(s, 'mean_log_prob', 'standard_error'),
          '-' if s['auroc'] is None else f'{s["auroc"]:.3f}',
          f'{s["n"]:,}',
        ]
        for name, s in r['sets'].items()
      ]
      return text_table(header, rows).split('\n')
    case 'critic':
      return [
        f'distance of samples to {name} images {_pm(r, name, f"{name}_standard_error", ".4f")}'
        for name in ('train', 'validation')
      ] + [f'gap {_pm(r, "gap", "gap_standard_error", ".4f")}, n = {r["n"]:,}; {r["steps"]:,} updates of the critic']
  raise ValueError(f"`record['what']` must name an analysis. Got: {r['what']!r}")


def _pm(record, value, error, form=',.2f'):
  """A number and its error; '-' where there is none."""
  if record.get(value) is None:
    return '-'
  return f'{record[value]:{form}}' + ('' if record.get(error) is None else f' +- {record[error]:{form}}')


def _e(value):
  return 'infinite' if value is None else f'{value:.3g}'


def _cell(record, key, form):
  if record.get(key) is None:
    return '-'
  error = record.get({'nll': 'standard_error'}.get(key, f'{key}_std'), math.nan)
  return f'{record[key]:{form}}' + (f' +- {error:{form}}' if math.isfinite(error) else '')


def _scores_note(record):
  network = f'{record["scorer"]} {record["scorer_hash"]}'
  if 'classifier_accuracy' in record:
    network += f' with {record["classifier_accuracy"]:.1%} test accuracy'
  return (
    f'scores: {record["score_splits"]} splits, {network}; '
    f'FID and KID against {record["reference_images"]:,} training images'
  )
