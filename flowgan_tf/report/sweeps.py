"""Comparisons of runs that differ in lambda: a table, likelihood against quality, and condition numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowgan_tf.display import plots
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.display.words import SCORE_NAMES
from flowgan_tf.report.evaluations import RUN, evaluation_columns
from flowgan_tf.report.trainings import common_score
from flowgan_tf.study.jacobian import Jacobian
from flowgan_tf.study.summary import Summary

__all__ = ['condition_numbers', 'front', 'sweep_table']


def sweep_table(runs: Sequence[Summary]) -> Table:
  """Makes the table of runs at their best score, with the condition number of the Jacobian."""
  shown = ('step', 'nll', 'mode_score', 'inception_score', 'fid')
  columns = [column for column in evaluation_columns('test') if column.key in shown]
  condition = Column('condition number', 'median_condition_number', '.3g', source=Jacobian.name, infinite='∞')
  rows = []
  for run in runs:
    records = {
      'run': {'label': run.label, 'seed': run.config.seed},
      '': run.evaluated('best_score') or run.evaluated('latest') or {},
    }
    if study := run.studies.get(Jacobian.name):
      records[Jacobian.name] = study.record
    rows.append(Row(records))
  return Table('Runs at their best score', (RUN, Column('seed', 'seed', source='run'), *columns, condition), rows)


def front(runs: Sequence[Summary], unit: str) -> Figure | None:
  """Draws score against test NLL, for runs at their best score; None without two runs, one of them hybrid."""
  points = []
  name = common_score([record for run in runs if (record := run.evaluated('best_score'))])
  for run in runs:
    record = run.evaluated('best_score')
    if record and record.get(name) is not None and record.get('nll') is not None:
      nll, error = run.in_unit(record['nll'], unit), run.error_in_unit(record.get('standard_error') or 0.0, unit)
      weight = run.weight if run.kind == 'Hybrid' else None
      points.append((run.kind, weight, nll, record[name], error, record.get(f'{name}_std') or 0.0))
  if len(points) < 2 or all(point[1] is None for point in points):
    return None
  return Figure.of_plot(
    plots.likelihood_quality_front(points, unit, SCORE_NAMES[name]),
    f'{SCORE_NAMES[name]} against test NLL, a point for each of {len(points)} runs.',
    f'Likelihood and quality for different λ, each run at its best {SCORE_NAMES[name]}; up and to the left is better. '
    'Bars: standard error over test images, standard deviation over splits of the samples.',
  )


def condition_numbers(runs: Sequence[Summary]) -> Figure | None:
  """Draws the Jacobian's condition number against lambda, for generators with a density; None without two lambdas."""
  found: dict[float, list] = {}
  for run in runs:
    study = run.studies.get(Jacobian.name)
    # Only a flow's own log-determinant can be compared.
    if study and 'largest_relative_difference' in study.record:
      values = study.arrays['singular_values'].astype(np.float64)
      with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        found.setdefault(run.weight, []).append(values[:, 0] / values[:, -1])
  weights = sorted(found)
  if len(weights) < 2:
    return None
  return Figure.of_plot(
    plots.condition_numbers(weights, [np.concatenate(found[w]) for w in weights]),
    f'Condition number of the Jacobian at {len(weights)} values of λ.',
    'Largest over smallest singular value of the Jacobian of the generator: median and quartiles over noise vectors '
    'and runs. λ = 0 is adversarial training, infinity maximum likelihood.',
  )
