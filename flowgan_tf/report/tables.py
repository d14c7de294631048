"""Tables of runs for the page and for `sweep`: settings, and evaluations beside the paper's numbers.

#### References

[1]: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in
     Generative Models. AAAI 2018. https://arxiv.org/abs/1705.08868
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowgan_tf.base.plugins import is_plugin
from flowgan_tf.data.conditions import kind_of
from flowgan_tf.display.tables import SCORE_NAMES, Column, Row, Table
from flowgan_tf.evaluation.tables import (
  CHECKPOINT,
  CONDITIONAL_COLUMNS,
  SCORE_COLUMNS,
  STEP,
  VARIETY_COLUMNS,
  by_source,
  by_step,
  likelihood_columns,
  of_real_images,
  with_given,
  with_numbers,
  with_worst,
)
from flowgan_tf.flows.classes import class_name
from flowgan_tf.flows.registry import traits_of
from flowgan_tf.report import commands
from flowgan_tf.study.jacobian import Jacobian
from flowgan_tf.study.summary import Summary

PAPER = 'https://arxiv.org/abs/1705.08868'

# The paper's Tables 1 and 2: sample score and test NLL, in the unit of the table.
_PAPER: dict[str, dict[str, Any]] = {
  'mnist': {
    'number': 1,
    'score': 'mode_score',
    'rows': {
      'MLE': {'score': 7.42, 'nll': -3334.56},
      'ADV': {'score': 9.24, 'nll': -1604.09},
      'Hybrid λ = 0.1': {'score': 9.37, 'nll': -3342.95},
    },
  },
  'cifar10': {
    'number': 2,
    'score': 'inception_score',
    'rows': {
      'MLE': {'score': 2.92, 'nll': 3.54},
      'ADV': {'score': 5.76, 'nll': 8.53},
      'Hybrid λ = 1': {'score': 3.90, 'nll': 4.21},
    },
  },
}

_IN_BITS = {'cifar10', 'svhn_cropped'}

RUN = Column('run', 'label', source='run')
_MOST_CLASSES = 20  # with a column each


def nll_unit(dataset: str) -> str:
  """Returns the unit in which papers report likelihoods on a data set, 'nats' or 'bits/dim'."""
  return 'bits/dim' if dataset in _IN_BITS else 'nats'


def runs_table(runs: Sequence[Summary]) -> Table:
  """Makes the table of the most important settings and the wall time."""
  rows = []
  for run in runs:
    config = run.config
    record = {'label': run.label, 'step': run.step, 'batch_size': config.batch_size, 'seed': config.seed}
    plain = {'path': run.path, 'dtype': config.precision}
    plain |= {'generator': config.generator, 'given': run.condition}
    if run.start:
      plain['start'] = f'{pathlib.Path(run.start["run"]).name}, iteration {run.start["step"]:,}'
    if config.objective != 'mle':
      record['critic_steps'] = config.critic_steps
    if run.seconds is not None:
      record['minutes'] = run.seconds / 60
    rows.append(Row({'run': record, 'config': plain}, {'run': commands.train(run.commands)}))
  columns = (
    RUN,
    Column('folder', 'path', source='config'),
    Column('generator', 'generator', source='config'),
    Column('condition', 'given', source='config'),
    Column('starts from', 'start', source='config'),
    Column('iterations', 'step', ',', source='run'),
    Column('batch', 'batch_size', ',', source='run'),
    Column('critic steps', 'critic_steps', ',', source='run'),
    Column('seed', 'seed', source='run'),
    Column('wall time (min)', 'minutes', ',.1f', source='run'),
    Column('dtype', 'dtype', source='config'),
  )
  return Table('How the runs were trained', columns, rows)


def checkpoint_tables(runs: Sequence[Summary]) -> list[Table]:
  """Makes tables of every checkpoint of every run on the test images: likelihoods and, if there are any, scores."""
  rows = _checkpoint_rows(runs, by_source)
  parts = {
    'Likelihood of the test images at every checkpoint': likelihood_columns('test'),
    'Scores of samples at every checkpoint': SCORE_COLUMNS,
  }
  return [
    Table(caption, (RUN, CHECKPOINT, STEP, *columns), filled)
    for caption, columns in parts.items()
    if (filled := with_numbers(rows, columns))
  ]


def variety_table(runs: Sequence[Summary]) -> Table | None:
  """Makes the table of whether samples look real, show all kinds of images and are copies; None if none is measured."""
  rows = with_numbers(_checkpoint_rows(runs, by_source), VARIETY_COLUMNS)
  columns = (RUN, CHECKPOINT, *VARIETY_COLUMNS)
  return Table('Are samples copies, and are all kinds there?', columns, rows) if rows else None


def conditional_table(runs: Sequence[Summary], what: str) -> Table:
  """Makes the table of how well every checkpoint of conditional runs keeps to its conditions."""
  columns = (RUN, CHECKPOINT, *CONDITIONAL_COLUMNS)
  rows = _checkpoint_rows(runs, lambda record: {'': with_worst(record)})
  return Table(f'{what}, on the test images', columns, rows)


def classes_table(runs: Sequence[Summary]) -> Table | None:
  """Makes the table of the share of samples that the classifier assigns to their class; None for many classes."""
  rows, classes = [], 0
  for row in _checkpoint_rows(runs, lambda record: {'': record}):
    shares: Any = row.records[''].get('label_shares', ())
    classes = max(classes, len(shares))
    by_class = {'checkpoints': row.records['']['checkpoints']} | {f'{i}': share for i, share in enumerate(shares)}
    rows += [Row({**row.records, '': by_class}, row.links)] if shares else []
  if not 0 < classes <= _MOST_CLASSES:
    return None
  names = next((run.class_names for run in runs if run.class_names), ())
  columns = (RUN, CHECKPOINT, *(Column(f'class {class_name(i, names)}', f'{i}', '.1%') for i in range(classes)))
  return Table('Label as asked, by class', columns, rows)


def _checkpoint_rows(runs: Sequence[Summary], records_of: Callable[[dict], dict]) -> list[Row]:
  """A row for each checkpoint of each run on the test images, and one for real images that were scored alike."""
  rows = [
    Row(
      {'run': {'label': run.label}, **records_of(record)},
      {'run': commands.train(run.commands)} | dict.fromkeys(records_of(record), commands.evaluate(run, record)),
    )
    for run in runs
    for record in by_step(run.tested())
  ]
  measured = {
    (r['scorer_hash'], r['score_samples'], r.get('condition')): (run, r)
    for run in runs
    for r in run.tested()
    if 'scorer' in r
  }
  for run, record in measured.values():
    rows += [Row(records_of(real), {'': commands.evaluate(run, record)}) for real in of_real_images([record])]
  return rows


def paper_table(runs: Sequence[Summary]) -> Table:
  """Makes the paper's Table 1 or 2 of runs on one data set: the best score and the best NLL, beside the paper's."""
  table = _PAPER.get(runs[0].dataset, {'score': 'mode_score', 'rows': {}})
  score, unit = table['score'], nll_unit(runs[0].dataset)
  nll = ('nll', ',.2f', 'standard_error') if unit == 'nats' else ('bits_per_dim', '.3f', 'bits_per_dim_error')
  columns = (
    RUN,
    Column(SCORE_NAMES[score], score, '.2f', f'{score}_std', source='best_score'),
    *with_given([Column(f'test NLL ({unit})', *nll, source='best_nll')]),
    Column('iteration of each', 'steps', source='run'),
    Column('samples', 'score_samples', ',', source='best_score'),
    Column('test images', 'n', ',', source='best_nll'),
    Column(f'the paper: {SCORE_NAMES[score]}', 'score', '.2f', source='paper'),
    Column('the paper: NLL', 'nll', ',.2f', source='paper'),
  )
  rows = []
  for run in runs:
    found = {name: record for name in ('best_score', 'best_nll') if (record := run.evaluated(name))}
    steps = [f'{found[name]["step"]:,}' if name in found else '-' for name in ('best_score', 'best_nll')]
    records: dict[str, Mapping[str, Any]] = {'run': {'label': run.label, 'steps': ', '.join(steps) if found else ''}}
    links: dict[str, str] = {}
    for name, record in found.items():
      sources = by_source(record, name)
      records, links = records | sources, links | dict.fromkeys(sources, commands.evaluate(run, record))
    links['run'] = commands.train(run.commands)
    rows.append(Row(*paper_row(records, links, run, table['rows'])))
  seen = {run.objective for run, row in zip(runs, rows, strict=True) if 'paper' in row.records}
  rows += [
    Row({'run': {'label': f'{label} (the paper)'}, 'paper': numbers}, {'paper': PAPER})
    for label, numbers in table['rows'].items()
    if label not in seen
  ]
  caption = 'Sample score at the checkpoint with the best score; likelihood at the one with the best validation NLL'
  if 'number' in table:
    caption += f' (the paper: Table {table["number"]})'
  return Table(caption, columns, rows)


def sweep_table(runs: Sequence[Summary]) -> Table:
  """Makes the table of runs at their best score, with the condition number of the Jacobian."""
  shown = ('step', 'nll', 'mode_score', 'inception_score', 'fid')
  columns = [column for column in (STEP, *likelihood_columns('test'), *SCORE_COLUMNS) if column.key in shown]
  number = Column('condition number', 'median_condition_number', '.3g', source=Jacobian.name, infinite='∞')
  rows = []
  for run in runs:
    records = {
      'run': {'label': run.label, 'seed': run.config.seed},
      **by_source(run.evaluated('best_score') or run.evaluated('latest') or {}),
    }
    if study := run.studies.get(Jacobian.name):
      records[Jacobian.name] = study.record
    rows.append(Row(records))
  return Table('Runs at their best score', (RUN, Column('seed', 'seed', source='run'), *columns, number), rows)


def paper_row(
  records: Mapping[str, Mapping[str, Any]],
  links: Mapping[str, str],
  run: Summary,
  published: Mapping[str, Mapping[str, float]],
) -> tuple[dict, dict]:
  """Adds the paper's numbers for a run's objective to a row's records and links, if its generator is the paper's.

  The paper's generators see no conditions; runs with labels still have p(x), the sum over all labels.
  """
  numbers = published.get(run.objective)
  of_paper = not is_plugin(run.config.generator) and traits_of(run.config).paper == run.dataset
  if numbers is None or not kind_of(run.condition).has_marginal or not of_paper:
    return dict(records), dict(links)
  return {**records, 'paper': numbers}, {**links, 'paper': PAPER}
