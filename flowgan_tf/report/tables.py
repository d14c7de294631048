"""Tables of runs, for the terminal and for the page: settings, and evaluations beside the paper's numbers.

#### References

[1]: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in
     Generative Models. AAAI 2018. https://arxiv.org/abs/1705.08868
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowgan_tf.base.plugins import is_plugin
from flowgan_tf.data.conditions import kind_of
from flowgan_tf.display.tables import SCORE_NAMES, Column, Row, Table
from flowgan_tf.flows.classes import class_name
from flowgan_tf.flows.registry import traits_of
from flowgan_tf.metrics.conditional import FEWEST_OF_A_CLASS
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
_GIVEN = 'given c'
GIVEN_NOTE = '-log p(x | c), which cannot be compared with -log p(x)'
_LIKELIHOODS = ('nll', 'bits_per_dim', 'nll_float64', 'bits_per_dim_float64')
_MOST_CLASSES = 20  # with a column each
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
    plain = {'path': run.path, 'dtype': config.precision}
    plain |= {'generator': config.generator, 'given': run.given}
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


def is_given(record: Mapping[str, Any]) -> bool:
  """Whether the NLL in a record of an evaluation is the mean of -log p(x | c), which cannot be compared with -log p(x).

  With labels, the NLL is the mean of -log p(x), the sum over all labels.
  """
  return not kind_of(record.get('condition', '')).has_marginal


def _apart(record: Mapping[str, Any], source: str = '') -> dict[str, Mapping[str, Any]]:
  """The records of a row: the NLL of p(x | c) has a source, and so a column, of its own."""
  if not is_given(record):
    return {source: record}
  likelihood = {name for name in record if name in _LIKELIHOODS or name.startswith('standard_error')}
  return {source: {n: v for n, v in record.items() if n not in likelihood}, f'{source} {_GIVEN}': record}


def _with_given(columns: Sequence[Column]) -> tuple[Column, ...]:
  """Puts a column for p(x | c) behind each column of a likelihood."""
  both = ((c, dataclasses.replace(c, header=f'{c.header}, {_GIVEN}', source=f'{c.source} {_GIVEN}')) for c in columns)
  return tuple(column for pair in both for column in pair[: 1 + (pair[0].key in _LIKELIHOODS)])


_STEP = Column('iteration', 'step', ',')


def _likelihood_columns(split: str) -> tuple[Column, ...]:
  return _with_given(
    (
      Column(f'{split} NLL (nats)', 'nll', ',.2f', 'standard_error'),
      Column('bits/dim', 'bits_per_dim', '.3f', 'bits_per_dim_error'),
      Column('round trip', 'round_trip_error', '.1e'),
      Column('NLL float64', 'nll_float64', ',.2f', 'standard_error_float64'),
      Column('bits/dim float64', 'bits_per_dim_float64', '.3f'),
      Column('round trip float64', 'round_trip_error_float64', '.1e'),
      Column(f'{split} images', 'n', ','),
    )
  )


_SCORE_COLUMNS = (
  Column('MODE', 'mode_score', '.2f', 'mode_score_std'),
  Column('Inception', 'inception_score', '.2f', 'inception_score_std'),
  Column('FID', 'fid', '.2f'),
  Column('KID', 'kid', '.4f', 'kid_std'),
  Column('samples', 'score_samples', ','),
)
_VARIETY_COLUMNS = (
  Column('precision', 'precision', '.3f'),
  Column('recall', 'recall', '.3f'),
  Column('density', 'density', '.3f'),
  Column('coverage', 'coverage', '.3f'),
  Column('near copies', 'near_copies', '.1%', 'near_copies_error'),
)
_CONDITIONAL_COLUMNS = (
  _STEP,
  Column('class accuracy', 'class_accuracy', '.1%', 'class_accuracy_error'),
  Column('calibration error', 'calibration_error', '.3f'),
  Column('NLL given the label', 'conditional_nll', ',.2f'),
  Column('label as asked', 'label_share', '.1%', 'label_share_error'),
  Column('worst class (label)', 'worst_share'),
  Column('FID within classes', 'class_fid', '.2f'),
  Column('worst class (FID)', 'worst_fid'),
  Column('PSNR (dB)', 'psnr', '.2f'),
  Column('SSIM', 'ssim', '.3f'),
  Column('consistency (dB)', 'consistency', '.2f'),
  Column('spread', 'spread', '.4f'),
)


def _with_worst(record: Mapping[str, Any]) -> dict[str, Any]:
  """Adds the worst class by the share of its samples that the classifier assigns to it, and the worst by FID."""
  record, names = dict(record), record.get('class_names')
  if 'worst_label' in record:
    record['worst_share'] = f'{record["worst_label_share"]:.1%}, class {class_name(record["worst_label"], names)}'
  if 'worst_fid_label' in record:
    record['worst_fid'] = f'{record["worst_class_fid"]:.2f}, class {class_name(record["worst_fid_label"], names)}'
  return record


def evaluation_table(records: Sequence[dict]) -> str:
  """Formats what `evaluation.evaluate_run` returned for the terminal: tables, and the basis of their numbers."""
  split, all_records = records[0]['split'], [*_by_step(records), *_of_real_images(records)]
  rows, parts = [Row(_apart(record)) for record in all_records], []
  for columns in ((_STEP, *_likelihood_columns(split)), _SCORE_COLUMNS, _VARIETY_COLUMNS):
    if filled := _filled(rows, columns):
      parts.append(str(Table('', (_CHECKPOINT, *columns), filled)))
  lines = ['\n\n'.join(parts), *variety_notes(records)]
  if 'condition' in records[0]:
    rows = [Row({'': _with_worst(record)}) for record in all_records]
    table = Table('', (_CHECKPOINT, *_CONDITIONAL_COLUMNS), rows)
    lines += ['', f'given {records[0]["condition"]}:', str(table), *conditional_notes(records)]
  if is_given(records[0]):
    lines.append(f'NLL, {_GIVEN}: mean of {GIVEN_NOTE}')
  if 'nll' not in records[0]:
    lines.append('no likelihood: the generator is not invertible')
  scored = next((record for record in records if 'scorer' in record), None)
  if scored:
    network = f'{scored["scorer"]} {scored["scorer_hash"]}'
    if 'classifier_accuracy' in scored:
      network += f' with {scored["classifier_accuracy"]:.1%} test accuracy'
    lines.append(
      f'scores: {scored["score_splits"]} splits, {network}; '
      f'FID against {scored["reference_images"]:,} training images, KID against at most 10,000 of them'
    )
  return '\n'.join(lines)


def variety_notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
  """Says what precision, recall, density, coverage and near copies are, in a line for each kind of number."""
  notes = []
  if numbers := sorted({record['prdc_images'] for record in records if 'prdc_images' in record}):
    n = ' or '.join(f'{number:,}' for number in numbers)
    notes.append(
      f'precision, density: how real samples look; recall, coverage: whether all kinds are there ({n} images)'
    )
  if found := [record for record in records if 'near_copies' in record]:
    test, training = (f'{min(r[name] for r in found):,}' for name in ('held_out_images', 'copied_from'))
    notes.append(
      f'near copies: nearer to one of {training} training images than 99% of {test} test images; 1% is as expected'
    )
  return notes


def conditional_notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
  """Says what the numbers of conditional runs mean and how many images are behind them, in a line for each kind."""

  def numbers(name, choose=min):
    return choose(record[name] for record in records if name in record)

  notes, found = [], {name for record in records for name, value in record.items() if value}
  if 'class_accuracy' in found:
    notes.append('class accuracy: share of images whose label has the largest p(y | x)')
  if 'label_share' in found:
    notes.append('label as asked: share of samples that a classifier assigns to the class they were drawn for')
    if 'labeller_accuracy' in found:
      notes[-1] += f'; it assigns {numbers("labeller_accuracy"):.1%} of the test images to their own class'
  if 'class_fid' in found:
    least = f'{numbers("class_fid_samples"):,} samples and {numbers("class_fid_references"):,} training images'
    notes.append(f'FID within classes (intra-FID): each class has at least {least}; fewer samples give a higher FID')
  if 'class_fid_left_out' in found:
    left_out = numbers('class_fid_left_out', max)
    which = 'class, which has' if left_out == 1 else 'classes, which have'
    few = f'fewer than {FEWEST_OF_A_CLASS} samples or training images'
    notes.append(f'FID within classes (intra-FID): the mean leaves out {left_out:,} {which} {few}')
  if 'psnr' in found:
    notes.append('PSNR and SSIM: samples against the images that their conditions come from')
    notes.append('consistency: PSNR of samples, reduced again, against their conditions')
  if 'spread' in found:
    of = f'{numbers("spread_samples")} samples for each of {numbers("spread_conditions"):,} conditions'
    notes.append(f'spread: standard deviation of {of}, averaged over pixels')
  return notes


def checkpoint_tables(runs: Sequence[Summary]) -> list[Table]:
  """Makes tables of every checkpoint of every run on the test images: likelihoods and, if there are any, scores."""
  rows = _checkpoint_rows(runs, _apart)
  parts = {
    'Likelihood of the test images at every checkpoint': _likelihood_columns('test'),
    'Scores of samples at every checkpoint': _SCORE_COLUMNS,
  }
  return [
    Table(caption, (RUN, _CHECKPOINT, _STEP, *columns), filled)
    for caption, columns in parts.items()
    if (filled := _filled(rows, columns))
  ]


def variety_table(runs: Sequence[Summary]) -> Table | None:
  """Makes the table of whether samples look real, show all kinds of images and are copies; None if none is measured."""
  rows = _filled(_checkpoint_rows(runs, _apart), _VARIETY_COLUMNS)
  columns = (RUN, _CHECKPOINT, *_VARIETY_COLUMNS)
  return Table('Are samples copies, and are all kinds there?', columns, rows) if rows else None


def _filled(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
  return [row for row in rows if any(column.text(row) for column in columns)]


def conditional_table(runs: Sequence[Summary], what: str) -> Table:
  """Makes the table of how well every checkpoint of conditional runs keeps to its conditions."""
  columns = (RUN, _CHECKPOINT, *_CONDITIONAL_COLUMNS)
  rows = _checkpoint_rows(runs, lambda record: {'': _with_worst(record)})
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
  columns = (RUN, _CHECKPOINT, *(Column(f'class {class_name(i, names)}', f'{i}', '.1%') for i in range(classes)))
  return Table('Label as asked, by class', columns, rows)


def _checkpoint_rows(runs: Sequence[Summary], records_of: Callable[[dict], dict]) -> list[Row]:
  """A row for each checkpoint of each run on the test images, and one for real images that were scored alike."""
  rows = [
    Row(
      {'run': {'label': run.label}, **records_of(record)},
      {'run': commands.train(run)} | dict.fromkeys(records_of(record), commands.evaluate(run, record)),
    )
    for run in runs
    for record in _by_step(run.tested())
  ]
  measured = {
    (r['scorer_hash'], r['score_samples'], r.get('condition')): (run, r)
    for run in runs
    for r in run.tested()
    if 'scorer' in r
  }
  for run, record in measured.values():
    rows += [Row(records_of(real), {'': commands.evaluate(run, record)}) for real in _of_real_images([record])]
  return rows


def paper_table(runs: Sequence[Summary]) -> Table:
  """Makes the paper's Table 1 or 2 of runs on one data set: the best score and the best NLL, beside the paper's."""
  table = _PAPER.get(runs[0].dataset, {'score': 'mode_score', 'rows': {}})
  score, unit = table['score'], nll_unit(runs[0].dataset)
  nll = ('nll', ',.2f', 'standard_error') if unit == 'nats' else ('bits_per_dim', '.3f', 'bits_per_dim_error')
  columns = (
    RUN,
    Column(SCORE_NAMES[score], score, '.2f', f'{score}_std', source='best_score'),
    *_with_given([Column(f'test NLL ({unit})', *nll, source='best_nll')]),
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
      apart = _apart(record, name)
      records, links = records | apart, links | dict.fromkeys(apart, commands.evaluate(run, record))
    links['run'] = commands.train(run)
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
  columns = [column for column in (_STEP, *_likelihood_columns('test'), *_SCORE_COLUMNS) if column.key in shown]
  number = Column('condition number', 'median_condition_number', '.3g', source=Jacobian.name, infinite='∞')
  rows = []
  for run in runs:
    records = {
      'run': {'label': run.label, 'seed': run.config.seed},
      **_apart(run.evaluated('best_score') or run.evaluated('latest') or {}),
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
  if numbers is None or not kind_of(run.given).has_marginal or not of_paper:
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
  return [scores | {'checkpoints': 'real test images', 'class_names': real.get('class_names')}] if scores else []
