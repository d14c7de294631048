"""Tables of runs, for the terminal and for the page: settings, and evaluations beside the paper's numbers.

#### References

[1]: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in
     Generative Models. AAAI 2018. https://arxiv.org/abs/1705.08868
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flowgan_tf.display.tables import SCORE_NAMES, Column, Row, Table
from flowgan_tf.report import commands
from flowgan_tf.study.jacobian import Jacobian
from flowgan_tf.study.summary import Summary

PAPER = 'https://arxiv.org/abs/1705.08868'

# The paper's generator for each data set. The tables show its numbers only beside runs of that generator.
_PAPERS_GENERATORS = {'mnist': 'nice', 'cifar10': 'real_nvp'}

# The paper's Tables 1 and 2: sample score and test NLL, in the unit of the table.
_PAPER = {
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
_CHECKPOINT = Column('checkpoint', 'checkpoints')


def nll_unit(dataset: str) -> str:
  """Returns the unit in which papers report likelihoods on a data set, 'nats' or 'bits/dim'."""
  return 'bits/dim' if dataset in _IN_BITS else 'nats'


def runs_table(runs: Sequence[Summary]) -> Table:
  """Makes the table of the most important settings and the wall time."""
  rows = []
  for run in runs:
    config = run.config
    record = {'label': run.label, 'step': run.step, 'batch_size': config.batch_size, 'seed': config.seed}
    plain = {'path': run.path, 'generator': config.generator, 'precision': config.precision}
    if run.start:
      plain['start'] = f'{pathlib.Path(run.start["run"]).name}, iteration {run.start["step"]:,}'
    if config.objective != 'mle':
      record['critic_steps'] = config.critic_steps
    if run.seconds is not None:
      record['minutes'] = run.seconds / 60
    rows.append(Row({'run': record, 'config': plain}, {'run': commands.train(run)}))
  columns = (
    RUN,
    Column('folder', 'path', source='config'),
    Column('generator', 'generator', source='config'),
    Column('starts from', 'start', source='config'),
    Column('iterations', 'step', ',', source='run'),
    Column('batch', 'batch_size', ',', source='run'),
    Column('critic steps', 'critic_steps', ',', source='run'),
    Column('seed', 'seed', source='run'),
    Column('wall time (min)', 'minutes', ',.1f', source='run'),
    Column('precision', 'precision', source='config'),
  )
  return Table('How the runs were trained', columns, rows)


def _evaluation_columns(split: str) -> tuple[Column, ...]:
  """Returns columns for everything that `evaluate_run` measures for a checkpoint on a split."""
  return (
    Column('iteration', 'step', ','),
    Column(f'{split} NLL (nats)', 'nll', ',.2f', 'standard_error'),
    Column('bits/dim', 'bits_per_dim', '.3f', 'bits_per_dim_error'),
    Column('round trip', 'round_trip_error', '.1e'),
    Column('NLL float64', 'nll_float64', ',.2f', 'standard_error_float64'),
    Column('bits/dim float64', 'bits_per_dim_float64', '.3f'),
    Column('round trip float64', 'round_trip_error_float64', '.1e'),
    Column(f'{split} images', 'n', ','),
    Column('MODE', 'mode_score', '.2f', 'mode_score_std'),
    Column('Inception', 'inception_score', '.2f', 'inception_score_std'),
    Column('FID', 'fid', '.2f'),
    Column('KID', 'kid', '.4f', 'kid_std'),
    Column('samples', 'score_samples', ','),
  )


def evaluation_table(records: Sequence[dict]) -> str:
  """Formats what `evaluation.evaluate_run` returned for the terminal: a table, and the basis of its scores."""
  split = records[0]['split']
  rows = [Row({'': record}) for record in [*_by_step(records), *_of_real_images(records)]]
  lines = [str(Table('', (_CHECKPOINT, *_evaluation_columns(split)), rows))]
  if 'nll' not in records[0]:
    lines.append('no likelihood: the generator is not invertible')
  scored = next((record for record in records if 'scorer' in record), None)
  if scored:
    network = f'{scored["scorer"]} {scored["scorer_hash"]}'
    if 'classifier_accuracy' in scored:
      network += f' with {scored["classifier_accuracy"]:.1%} test accuracy'
    lines.append(
      f'scores: {scored["score_splits"]} splits, {network}; '
      f'FID and KID against {scored["reference_images"]:,} training images'
    )
  return '\n'.join(lines)


def checkpoints_table(runs: Sequence[Summary]) -> Table:
  """Makes the table of every checkpoint of every run on the test images."""
  rows = [
    Row(
      {'run': {'label': run.label}, '': record},
      {'run': commands.train(run), '': commands.evaluate(run, record)},
    )
    for run in runs
    for record in _by_step(run.tested())
  ]
  measured = {(r['scorer_hash'], r['score_samples']): (run, r) for run in runs for r in run.tested() if 'scorer' in r}
  for run, record in measured.values():
    rows += [Row({'': real}, {'': commands.evaluate(run, record)}) for real in _of_real_images([record])]
  return Table('Every checkpoint on the test images', (RUN, _CHECKPOINT, *_evaluation_columns('test')), rows)


def paper_table(runs: Sequence[Summary]) -> Table:
  """Makes the paper's Table 1 or 2 of runs on one data set: the best score and the best NLL, beside the paper's."""
  table = _PAPER.get(runs[0].dataset, {'score': 'mode_score', 'rows': {}})
  score, unit = table['score'], nll_unit(runs[0].dataset)
  nll = ('nll', ',.2f', 'standard_error') if unit == 'nats' else ('bits_per_dim', '.3f', 'bits_per_dim_error')
  columns = (
    RUN,
    Column(SCORE_NAMES[score], score, '.2f', f'{score}_std', source='best_score'),
    Column(f'test NLL ({unit})', *nll, source='best_nll'),
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
    records = {'run': {'label': run.label, 'steps': ', '.join(steps) if found else ''}, **found}
    links = {'run': commands.train(run)} | {name: commands.evaluate(run, record) for name, record in found.items()}
    rows.append(Row(*paper_row(records, links, run, table['rows'])))
  seen = {run.objective for run in runs}
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
  columns = [column for column in _evaluation_columns('test') if column.key in shown]
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


def paper_row(
  records: Mapping[str, Mapping[str, Any]],
  links: Mapping[str, str],
  run: Summary,
  published: Mapping[str, Mapping[str, float]],
) -> tuple[dict, dict]:
  """Adds the paper's numbers for a run's objective to a row's records and links, if its generator is the paper's."""
  numbers = published.get(run.objective)
  if numbers is None or run.config.generator != _PAPERS_GENERATORS.get(run.dataset):
    return dict(records), dict(links)
  return {**records, 'paper': numbers}, {**links, 'paper': PAPER}


def _by_step(records: Sequence[dict]) -> list[dict]:
  """One record for each step, with the names of all its checkpoints, which hold the same generator."""
  steps: dict[int, list[dict]] = {}
  for record in records:
    steps.setdefault(record['step'], []).append(record)
  return [same[0] | {'checkpoints': ', '.join(r['checkpoint'] for r in same)} for same in steps.values()]


def _of_real_images(records: Sequence[dict]) -> list[dict]:
  """The row of the test images' own scores; empty if no record has them."""
  real = next((record for record in records if 'real_score_samples' in record), {})
  scores = {name.removeprefix('real_'): value for name, value in real.items() if name.startswith('real_')}
  return [scores | {'checkpoints': 'real test images'}] if scores else []
