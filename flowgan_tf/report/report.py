"""The paper's study of any set of runs as one page: tables beside the paper's numbers, figures, commands."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from flowgan_tf.programs.command_lines import analyze_command, evaluate_command, train_command
from flowgan_tf.report import cells, figures, paper
from flowgan_tf.report.cells import Cell, Table
from flowgan_tf.report.page import Code, Page, Section
from flowgan_tf.study.summary import Summary

__all__ = ['make_report']

_TITLES = {
  'mnist': 'MNIST',
  'fashion_mnist': 'Fashion-MNIST',
  'cifar10': 'CIFAR-10',
  'svhn_cropped': 'SVHN',
  'digits': 'Digits',
}
_BITS = {'cifar10', 'svhn_cropped'}  # the field reports these in bits/dim


def make_report(runs: Sequence[Summary]) -> Page:
  """Builds the page.

  A cell is empty where a run holds no number. A section that no run has anything for names the command that fills it.

  Args:
    runs: As `summarize` returns them; runs of one data set are compared with each other.
  """
  groups = [list(group) for _, group in itertools.groupby(runs, key=lambda run: (run.dataset, run.fingerprint))]
  names = [_TITLES.get(group[0].dataset, group[0].dataset) for group in groups]
  sections = []
  for name, group in zip(names, groups, strict=True):
    prefix = f'{name}: ' if len(groups) > 1 else ''
    sections += [
      Section(prefix + title, [Markup(item) if isinstance(item, str) else item for item in items])
      for title, items in _sections(group)
      if items
    ]
  count = f'{len(runs)} run' + 's' * (len(runs) > 1)
  lead = (
    f'{count}. Likelihoods are of dequantised images, over the unit cube. Every number links to the command that made '
    'it; a click on a column sorts its table. The paper: Grover, Dhar, Ermon, '
    '<a href="https://arxiv.org/abs/1705.08868">Flow-GAN</a>, AAAI 2018.'
  )
  return Page(f'Flow-GAN on {" and ".join(names)}', sections, Markup(lead))


def _sections(runs):
  unit = 'bits/dim' if runs[0].dataset in _BITS else 'nats'
  learning = [f for f in (figures.learning_curves(runs, unit), figures.score_curves(runs)) if f]
  beyond = [f for f in (figures.front(runs, unit), figures.condition_numbers(runs)) if f]
  return [
    ('Runs', [_runs_table(runs)]),
    ('Likelihood and sample quality', _likelihood(runs, unit)),
    ('Samples', [pictures] if (pictures := figures.samples(runs)) else []),
    ('Training', learning),
    ('Estimates of the likelihood', _estimates(runs)),
    ('Mixture of Gaussians', _gmm(runs)),
    ('Jacobian of the generator', _jacobian(runs)),
    ('Likelihood of other images', _histograms(runs)),
    ('Overfitting', _critic(runs)),
    ('Likelihood against quality', beyond),
  ]


def _runs_table(runs):
  header = ['run', 'folder', 'generator', 'iterations', 'batch', 'critic steps', 'seed', 'wall time (min)', 'precision']
  rows = []
  for run in runs:
    command, config = train_command(run), run.config
    critic = '' if config.objective == 'mle' else Cell(str(config.critic_steps), config.critic_steps, command)
    rows.append(
      [
        Cell(run.label, command=command),
        run.path,
        config.generator,
        cells.cell(run.step, ',', command),
        Cell(str(config.batch_size), config.batch_size, command),
        critic,
        Cell(str(config.seed), config.seed, command),
        cells.cell(None if run.seconds is None else run.seconds / 60, ',.1f', command),
        config.precision,
      ]
    )
  return Table('How the runs were trained', header, rows)


def _likelihood(runs, unit):
  table = paper.TABLES.get(runs[0].config.dataset)
  if not any(record['split'] == 'test' for run in runs for record in run.evaluation):
    return [_missing(runs, 'bin/evaluate', each=True)]
  published = table['rows'] if table else {}
  score = table['score'] if table else 'mode_score'
  unit = table['unit'] if table else unit
  name = figures.SCORE_NAMES[score]
  header = ['run', name, f'test NLL ({unit})', 'iteration of each', 'samples', 'test images']
  if table:
    header += [f'the paper: {name}', 'the paper: NLL']
  rows, seen = [], set()
  for run in runs:
    best_score, best_nll = (run.evaluated(checkpoint) for checkpoint in ('best_score', 'best_nll'))
    row = [
      Cell(run.label, command=train_command(run)),
      cells.measured(run, best_score, score),
      cells.measured(run, best_nll, 'nll', unit),
      ', '.join(f'{record["step"]:,}' if record else '-' for record in (best_score, best_nll))
      if best_score or best_nll
      else '',
      cells.evaluated(run, best_score, 'score_samples', ','),
      cells.evaluated(run, best_nll, 'n', ','),
    ]
    if table:
      row += cells.paper_cells(_published(published, run), ['.2f', ',.2f'])
      seen.add(run.objective)
    rows.append(row)
  rows += [
    [f'{label} (the paper)', '', '', '', '', '', *cells.paper_cells(numbers, ['.2f', ',.2f'])]
    for label, numbers in published.items()
    if label not in seen
  ]
  caption = 'Sample score at the checkpoint with the best score, likelihood at that with the best validation NLL'
  if table:
    caption += f' (the paper: Table {table["number"]})'
  items = [Table(caption, header, rows), _checkpoints_table(runs)]
  networks = sorted({r['scorer'] + ' ' + r['scorer_hash'] for run in runs for r in run.evaluation if 'scorer' in r})
  if networks:
    items.append(
      f'Scores rest on {escape(" and ".join(networks))}. They compare only between numbers of the same network, '
      'of as many samples in as many splits: 10 splits here, 1 in the curves and figures below. With the paper, which '
      'used networks of its own, they compare in their order alone.'
    )
  return items


def _checkpoints_table(runs):
  header = [
    'run',
    'checkpoint',
    'iteration',
    'NLL (nats)',
    'bits/dim',
    'round trip',
    'MODE',
    'Inception',
    'FID',
    'KID',
    'samples',
    'test images',
  ]
  rows = []
  for run in runs:
    steps = {}
    for record in run.evaluation:
      if record['split'] == 'test':
        steps.setdefault(record['step'], []).append(record)
    for records in steps.values():
      record = records[0]
      rows.append(
        [
          Cell(run.label, command=evaluate_command(run, record)),
          ', '.join(r['checkpoint'] for r in records),
          cells.evaluated(run, record, 'step', ','),
          cells.measured(run, record, 'nll', 'nats'),
          cells.measured(run, record, 'nll', 'bits/dim'),
          cells.evaluated(run, record, 'round_trip_error', '.1e'),
          *(cells.measured(run, record, score) for score in ('mode_score', 'inception_score')),
          cells.evaluated(run, record, 'fid', '.1f'),
          cells.evaluated(run, record, 'kid', '.3f'),
          cells.evaluated(run, record, 'score_samples', ','),
          cells.evaluated(run, record, 'n', ','),
        ]
      )
  return Table('Every checkpoint on the test images', header, rows)


def _estimates(runs):
  studied = [run for run in runs if {'kde', 'ais'} & run.studies.keys()]
  if not studied:
    return [_missing(runs, 'bin/analyze', '--what=kde,ais')]
  published = paper.ESTIMATES.get(runs[0].config.dataset, {})
  header = ['run', 'exact', 'KDE', 'AIS', 'exact, images of AIS']
  header += ['the paper: exact', 'the paper: KDE', 'the paper: AIS'] * bool(published)
  rows, details = [], []
  for run in studied:
    found = [run.studies[what].record for what in ('kde', 'ais') if what in run.studies]
    # What was measured at different iterations is of different models.
    for step in sorted({record['step'] for record in found}):
      of = {record['what']: record for record in found if record['step'] == step}
      kde, ais = of.get('kde'), of.get('ais')
      by_kde, by_ais = (record and analyze_command(run, record['what']) for record in (kde, ais))
      name = Cell(run.label, command=train_command(run))
      row = [
        name,
        cells.plus_minus(kde, 'exact_nll', 'exact_standard_error', ',.2f', by_kde),
        cells.plus_minus(kde, 'nll', 'standard_error', ',.2f', by_kde),
        cells.plus_minus(ais, 'nll', 'standard_error', ',.2f', by_ais),
        cells.plus_minus(ais, 'exact_nll', 'exact_standard_error', ',.2f', by_ais),
      ]
      if published:
        exact, by_annealing, by_window = _published(published, run) or (None,) * 3
        row += cells.paper_cells((exact, by_window, by_annealing), [',.2f'] * 3)
      rows.append(row)
      details.append(
        [
          name,
          Cell(f'{step:,}', step),
          *(
            cells.number(kde, key, form, by_kde)
            for key, form in (('n_test', ','), ('n_samples', ','), ('bandwidth', '.4f'))
          ),
          *(
            cells.number(ais, key, form, by_ais)
            for key, form in (('n', ','), ('chains', ','), ('steps', ','), ('sigma', '.4f'))
          ),
          cells.plus_minus(ais, 'bracket_gap', 'bracket_gap_standard_error', ',.2f', by_ais),
        ]
      )
  caption = 'NLL in nats per image, exact and estimated from the generator alone'
  items = [Table(caption + (' (the paper: Table 3)' if published else ''), header, rows)]
  orders = [
    f'{name}: {order}'
    for name, what, key, error in (
      ('exact', 'kde', 'exact_nll', 'exact_standard_error'),
      ('KDE', 'kde', 'nll', 'standard_error'),
      ('AIS', 'ais', 'nll', 'standard_error'),
    )
    if (order := _order(studied, what, key, error))
  ]
  if orders:
    items.append(
      f'In the order of their NLL, {"; ".join(orders)}. ≈ stands where the difference is within two standard errors, '
      'or within the gap between the bounds of AIS.'
    )
  header = ['run', 'iteration', 'KDE: test images', 'KDE: samples', 'KDE: bandwidth']
  header += ['AIS: test images', 'AIS: chains', 'AIS: temperatures', 'AIS: σ', 'AIS: gap between bounds']
  items.append(Table('What the estimates rest on', header, details))
  if any('ais' in run.studies for run in studied):
    items.append(
      'AIS is of the generator with Gaussian noise of standard deviation σ on its images, σ the best for a few '
      'validation images. The gap is that between its stochastic lower and upper bound of log p for images simulated '
      'from that model, in nats; that of real images may be larger.'
    )
  return items


def _order(runs, what, key, error):
  """Runs by an estimate of their NLL; empty unless all were measured with the same settings."""
  records = [(run.studies[what].record, escape(run.label)) for run in runs if what in run.studies]
  records = [(record, label) for record, label in records if record.get(key) is not None]
  if len(records) < 2 or any(record['settings'] != records[0][0]['settings'] for record, _ in records):
    return ''
  records.sort(key=lambda pair: pair[0][key])
  text = records[0][1]
  for (before, _), (record, label) in itertools.pairwise(records):
    unsure = max(
      2 * math.hypot(before.get(error) or 0, record.get(error) or 0),
      *(r.get('bracket_gap') or 0 for r in (before, record)),
    )
    text += f' {"&lt;" if record[key] - before[key] > unsure else "≈"} {label}'
  return text


def _gmm(runs):
  studied = [run for run in runs if 'gmm' in run.studies]
  if not studied:
    return [_missing(runs[:1], 'bin/analyze', '--what=gmm')]
  drawn = figures.ANALYSIS_FIGURES['gmm'](runs)
  record, command = studied[0].studies['gmm'].record, analyze_command(studied[0], 'gmm')
  header = ['Gaussians', 'best bandwidth', 'validation NLL (nats)', 'test NLL (nats)', 'test images']
  row = [
    cells.cell(record['centers'], ',', command),
    cells.cell(record['best_bandwidth'], '.4f', command),
    cells.plus_minus(record, 'best_nll', 'best_standard_error', ',.2f', command),
    cells.plus_minus(record, 'test_nll', 'test_standard_error', ',.2f', command),
    cells.cell(record['test_n'], ',', command),
  ]
  table = Table('The mixture with the bandwidth that suits the validation images best', header, [row])
  return [table, *drawn.values()]


def _jacobian(runs):
  studied = [run for run in runs if 'jacobian' in run.studies]
  if not studied:
    return [_missing(runs, 'bin/analyze', '--what=jacobian')]
  published = paper.LOG_DETS.get(runs[0].config.dataset, {})
  header = ['run', 'mean log-determinant (nats)', 'condition number, median', 'largest']
  header += ['singular values below precision', 'iteration', 'noise vectors']
  if published:
    header.append('the paper: mean log-determinant')
  rows = []
  for run in studied:
    record, command = run.studies['jacobian'].record, analyze_command(run, 'jacobian')
    row = [
      Cell(run.label, command=train_command(run)),
      cells.plus_minus(record, 'mean_log_det', 'standard_error', ',.1f', command),
      cells.cell(record['median_condition_number'], '.2e', command, '∞'),
      cells.cell(record['largest_condition_number'], '.2e', command, '∞'),
      cells.cell(record['below_precision'] / record['d'], '.1%', command),
      cells.cell(record['step'], ',', command),
      cells.cell(record['n'], ',', command),
    ]
    if published:
      row += cells.paper_cells((_published(published, run),), [',.2f'])
    rows.append(row)
  items = [Table('Singular values at random noise vectors', header, rows)]
  if any(run.studies['jacobian'].record['below_precision'] for run in studied):
    items.append(
      'Singular values below precision are smaller than the largest times the rounding of the arithmetic. Where there '
      'are such, condition numbers are lower bounds, and the log-determinant of a generator without an inverse is an '
      'upper one.'
    )
  return [*items, *figures.ANALYSIS_FIGURES['jacobian'](runs).values()]


def _histograms(runs):
  studied = [run for run in runs if 'histograms' in run.studies]
  header = ['run, images', 'mean log p (nats)', 'AUROC of test against them', 'iteration', 'images']
  rows = []
  for run in studied:
    record, command = run.studies['histograms'].record, analyze_command(run, 'histograms')
    for name, numbers in record['sets'].items():
      rows.append(
        [
          Cell(f'{run.label}, {name}', command=command),
          cells.plus_minus(numbers, 'mean_log_prob', 'standard_error', ',.2f', command),
          '' if numbers['auroc'] is None else cells.cell(numbers['auroc'], '.3f', command),
          cells.cell(record['step'], ',', command),
          cells.cell(numbers['n'], ',', command),
        ]
      )
  if not studied:
    return [_missing(runs, 'bin/analyze', '--what=histograms')]
  caption = 'Log-likelihood of sets of images; the AUROC is 0.5 where likelihood cannot tell them from test images'
  return [Table(caption, header, rows), *figures.ANALYSIS_FIGURES['histograms'](runs).values()]


def _critic(runs):
  studied = [run for run in runs if 'critic' in run.studies]
  if not studied:
    return [_missing(runs, 'bin/analyze', '--what=critic')]
  header = ['run', 'training − samples', 'validation − samples', 'gap', 'iteration', 'images', 'updates of the critic']
  rows = []
  for run in studied:
    record, command = run.studies['critic'].record, analyze_command(run, 'critic')
    rows.append(
      [
        Cell(run.label, command=train_command(run)),
        *(
          cells.plus_minus(record, key, f'{key}_standard_error', '.4f', command)
          for key in ('train', 'validation', 'gap')
        ),
        *(cells.cell(record[key], ',', command) for key in ('step', 'n', 'steps')),
      ]
    )
  caption = (
    'Distance of samples from images to an independent critic (Danihelka et al. 2017); a gap of more than two standard '
    'errors above 0 is overfitting'
  )
  return [Table(caption, header, rows)]


def _published(table, run):
  """The paper's numbers for a run's objective, if its generator is the paper's."""
  return table.get(run.objective) if run.config.generator == paper.GENERATORS[run.dataset] else None


def _missing(runs, program, flags='', each=False):
  paths = [[run.path] for run in runs] if each else [[run.path for run in runs]]
  commands = [shlex.join([program, *some, *flags.split()]) for some in paths]
  return Code('# Nothing measured yet; this fills the section:\n' + '\n'.join(commands))
