"""The sections of the page for analyses, built from the attributes of each registered analysis."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

from flowgan_tf.display.tables import Column, Row, Table
from flowgan_tf.report.commands import Commands
from flowgan_tf.report.evaluations import RUN, paper_row
from flowgan_tf.report.page import Code, Section
from flowgan_tf.study.analyses import ANALYSES
from flowgan_tf.study.analysis import Analysis
from flowgan_tf.study.summary import Summary

__all__ = ['analysis_sections']


def analysis_sections(runs: Sequence[Summary], commands: Commands) -> Iterator[Section]:
  """Yields a section for each title of the analyses: tables, notes and figures, or the command that would fill it.

  Args:
    runs: Runs on one data set.
    commands: Makes the commands behind the numbers.
  """
  by_title: dict[str, list[Analysis]] = {}
  for analysis in ANALYSES.values():
    by_title.setdefault(analysis.title, []).append(analysis)
  for title, analyses in by_title.items():
    yield Section(title, _items(analyses, runs, commands))


def _items(analyses: Sequence[Analysis], runs: Sequence[Summary], commands: Commands) -> list:
  studied = {a: [run for run in runs if a.name in run.studies] for a in analyses}
  studied = {analysis: found for analysis, found in studied.items() if found}
  if not studied:
    lines = commands.missing(runs, [analysis.name for analysis in analyses])
    return [Code('\n'.join(['# Nothing has been measured yet. This fills the section:', *lines]))]
  rows = _rows(studied, commands)
  columns = [column for analysis in studied for column in analysis.own_columns() if column.source != 'paper']
  published = [column for analysis in studied for column in analysis.own_columns() if column.source == 'paper']
  name = (RUN, Column('iteration', 'step', ',', source='run'))
  found = [c for analysis in studied for c in analysis.own_columns()[: len(analysis.columns)] if c.source != 'paper']
  if len(studied) == 1:
    tables = [Table(_caption(studied, rows), (*name, *columns, *published), rows)]
  else:
    # Several analyses side by side are wide enough without their details.
    details = [column for column in columns if column not in found]
    tables = [
      Table(_caption(studied, rows), (*name, *found, *published), rows),
      Table('Details of the estimates', (*name, *details), rows),
    ]
  notes = [*_orders(studied), *itertools.chain(*(a.notes(found) for a, found in studied.items()))]
  figures = itertools.chain(*(_figures(analysis, found, commands) for analysis, found in studied.items()))
  return [tables[0], *notes, *tables[1:], *figures]


def _rows(studied: dict[Analysis, list[Summary]], commands: Commands) -> list[Row]:
  """Analyses of one run and step share a row."""
  rows: dict[tuple, tuple[dict, dict]] = {}
  for analysis, runs in studied.items():
    for run in runs:
      record = run.studies[analysis.name].record
      for name, numbers in analysis.records(record).items():
        label = f'{run.label}, {name}' if name else run.label
        start = {'run': {'label': label, 'step': record['step']}}, {'run': commands.train(run)}
        records, links = rows.get((run.path, name, record['step']), start)
        records = {**records, analysis.name: numbers}
        links = {**links, analysis.name: commands.analyze([run], analysis.name)}
        published = analysis.published.get(run.dataset, {})
        both = {o: {**records.get('paper', {}), **numbers} for o, numbers in published.items()}
        rows[run.path, name, record['step']] = paper_row(records, links, run, both)
  # The rows of a run that was analysed at several steps stay together.
  order = list(dict.fromkeys(path for path, *_ in rows))
  return [Row(*rows[key]) for key in sorted(rows, key=lambda key: (order.index(key[0]), key[2]))]


def _caption(studied: dict[Analysis, list[Summary]], rows: Sequence[Row]) -> str:
  first = next(iter(studied))
  return first.caption + (f' (the paper: {first.paper})' if any('paper' in row.records for row in rows) else '')


def _figures(analysis: Analysis, runs: Sequence[Summary], commands: Commands) -> Iterator:
  groups = [runs] if analysis.draws_runs_together else [[run] for run in runs]
  for group in groups:
    command = commands.analyze(group, analysis.name)
    for figure in analysis.figures(group).values():
      yield dataclasses.replace(figure, command=command)


def _orders(studied: dict[Analysis, list[Summary]]) -> list[str]:
  orders = [
    f'{column.header}: {order}'
    for analysis, runs in studied.items()
    for column in analysis.columns
    if column.key in analysis.ranked and (order := _order(analysis, column, runs))
  ]
  if not orders:
    return []
  return [
    f'In order of NLL, {"; ".join(orders)}. ≈ means that the difference is within two standard errors, or within the '
    'gap between the bounds of AIS.'
  ]


def _order(analysis: Analysis, column: Column, runs: Sequence[Summary]) -> str:
  """Ranks runs by an estimate of their NLL; empty unless all were measured with the same settings."""
  records = [(run.studies[analysis.name].record, run.label) for run in runs]
  records = [(record, label) for record, label in records if record.get(column.key) is not None]
  if len(records) < 2 or any(record['settings'] != records[0][0]['settings'] for record, _ in records):
    return ''
  records.sort(key=lambda pair: pair[0][column.key])
  text = records[0][1]
  for (before, _), (record, label) in itertools.pairwise(records):
    error = math.hypot(before.get(column.error) or 0, record.get(column.error) or 0)
    unsure = max(2 * error, analysis.resolution(before), analysis.resolution(record))
    text += f' {"<" if record[column.key] - before[column.key] > unsure else "≈"} {label}'
  return text
