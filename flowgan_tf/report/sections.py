"""The sections of the page about any set of runs: tables beside the paper's numbers, figures, commands."""

import dataclasses
import itertools
import logging
import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from flowgan_tf.base.errors import printable
from flowgan_tf.data.conditions import kind_of
from flowgan_tf.display.tables import Column, Row, Table, listed
from flowgan_tf.evaluation.tables import GIVEN_NOTE, conditional_notes, is_given, variety_notes
from flowgan_tf.report import commands
from flowgan_tf.report.figures import (
  conditional_curves,
  front,
  learning_curves,
  real_images,
  sample_grids,
  score_curves,
  term_curves,
)
from flowgan_tf.report.findings import FEWEST_SAMPLES, about_length, findings, shown_record
from flowgan_tf.report.page import Code, Missing, Page, Section
from flowgan_tf.report.tables import (
  PAPER,
  RUN,
  checkpoint_tables,
  classes_table,
  conditional_table,
  nll_unit,
  paper_row,
  paper_table,
  runs_table,
  variety_table,
)
from flowgan_tf.study import analyses_of
from flowgan_tf.study.analysis import Analysis
from flowgan_tf.study.summary import Summary

_LOG = logging.getLogger(__name__)
# What is raised if a record lacks something, or has it in another form.
_OF_FORM = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

_GRIDS = 3  # of the samples with the smallest FID, beside real images, among the findings
_FINDINGS = 'What was found'
_TITLES = {
  'mnist': 'MNIST',
  'fashion_mnist': 'Fashion-MNIST',
  'cifar10': 'CIFAR-10',
  'svhn_cropped': 'SVHN',
  'digits': 'Digits',
}


def make_report(runs: Sequence[Summary], damage: Sequence[str] = ()) -> Page:
  """Builds the page.

  A cell is empty if the run has no such number. If no run has been measured, a section shows the command for it.

  Args:
    runs: What `summarize` returned. Runs on the same data are compared with each other.
    damage: Lines about damaged files that `summarize` has left out.
  """
  groups = [list(group) for _, group in itertools.groupby(runs, key=lambda run: (run.dataset, run.fingerprint))]
  names = [_TITLES.get(group[0].dataset, printable(group[0].dataset)) for group in groups]
  # Files of one name may hold different data.
  hashes = [f'{name} {group[0].fingerprint[:8]}' for name, group in zip(names, groups, strict=True)]
  names = [full if names.count(name) > 1 else name for name, full in zip(names, hashes, strict=True)]
  sections: list[Section] = []
  unfit: list[str] = []
  for name, group in zip(names, groups, strict=True):
    prefix = f'{name}: ' if len(groups) > 1 else ''
    sections += [Section(prefix + s.title, s.items) for s in _shown(group, unfit) if s.items]
  damage = [*damage, *unfit]
  if damage:
    said = 'Some files could not be read. The page does without them:'
    place = bool(sections) and sections[0].title.endswith(_FINDINGS)
    sections.insert(place, Section('Damaged files', [said, Code('\n'.join(map(printable, damage)))]))
  about = Markup(
    '{} run{}. Likelihoods are densities of dequantised images over the unit cube, or of rows of a table in the units '
    'of its columns. MLE is maximum likelihood, ADV adversarial training, and Hybrid both, with λ as the weight of the '
    'log-likelihood. ↑ marks numbers that are better if they are larger, ↓ numbers that are better if smaller. '
    'Every number links to the command that made it; click a column to sort its table. The paper: Grover, Dhar, Ermon, '
    '<a href="{}">Flow-GAN</a>, AAAI 2018.'
  ).format(len(runs), 's' * (len(runs) > 1), PAPER)
  return Page(f'Flow-GAN on {listed(names)}', sections, about)


def _shown(runs: Sequence[Summary], unfit: list[str]) -> list[Section]:
  """Returns the sections of runs, without evaluations and logs that no program of ours writes.

  It adds a line about each file that it leaves out to `unfit`.
  """
  found: list[str] = []
  try:
    sections = _sections(runs, found)
  except _OF_FORM:
    found = []
    runs = [_without_unfit(run, found) for run in runs]
    sections = _sections(runs, found)  # If this fails, the mistake is ours.
  unfit += found
  return sections


def _without_unfit(run: Summary, unfit: list[str]) -> Summary:
  """Returns a run without an evaluation or a log that no page can show."""
  bare = dataclasses.replace(run, evaluation=(), metrics=(), studies={})
  kept = {}
  for name, file in (('evaluation', 'evaluation.json'), ('metrics', 'metrics.jsonl')):
    part = dataclasses.replace(bare, **{name: getattr(run, name)})
    try:
      _sections([part, part], [])  # Two, because runs are compared.
      kept[name] = getattr(run, name)
    except _OF_FORM as error:
      unfit.append(f'{run.path}/{file}: is not what our programs write ({type(error).__name__}); remove it')
      _LOG.warning(unfit[-1])
  return dataclasses.replace(bare, studies=run.studies, **kept)


def _sections(runs: Sequence[Summary], unfit: list[str]) -> list[Section]:
  unit = nll_unit(runs[0].dataset)
  shown = _shown_first(runs)
  rest = [run for run in runs if run not in shown]
  grids = sample_grids([run for run in rest if not run.condition])
  return [
    Section(_FINDINGS, _findings(runs, shown, unit)),
    Section('Likelihood and sample quality', _likelihood(runs)),
    Section('Samples of the other runs', [grids] if grids else []),
    Section('Conditional', _conditional(runs, rest)),
    Section('Runs', [runs_table(runs)]),
    Section('Training', [f for f in (learning_curves(runs, unit), score_curves(runs), *term_curves(runs)) if f]),
    *(_analysis_sections(runs, unfit) if runs[0].levels else []),  # The analyses need images.
  ]


def _shown_first(runs: Sequence[Summary]) -> list[Summary]:
  """The runs whose samples stand among the findings: with the smallest FIDs, or else the first, and the best NLL."""
  drawn = [run for run in runs if run.sample_grid]

  def number(run, name):
    value = (shown_record(run) or {}).get(name)
    return math.inf if value is None else value  # An infinite NLL is stored as null.

  likely = [run for run in drawn if not is_given(shown_record(run) or {})]
  best = [*sorted(drawn, key=lambda run: number(run, 'fid'))[:_GRIDS]]
  best += sorted(likely, key=lambda run: number(run, 'nll'))[:1]
  return [run for run in drawn if run in best]


def _findings(runs: Sequence[Summary], shown: Sequence[Summary], unit: str) -> list:
  """What was found, likelihood against quality, and samples beside real images."""
  said, plot = [*findings(runs, unit), *about_length(runs)], front(runs, unit)
  figures = [*([plot] if plot else []), *sample_grids(shown), *real_images(shown)]
  return [*([' '.join(said)] if said else []), *([figures] if figures else [])]


def _likelihood(runs: Sequence[Summary]) -> list:
  if not any(run.tested() for run in runs):
    return [_missing(runs, [])]
  items: list = [paper_table(runs), *checkpoint_tables(runs)]
  if variety := variety_table(runs):
    notes = variety_notes([record for run in runs for record in run.tested()])
    items += [variety, _as_sentences(notes)]
  networks = sorted({f'{r["scorer"]} {r["scorer_hash"]}' for run in runs for r in run.evaluation if 'scorer' in r})
  if networks:
    items.append(
      f'The scores come from {listed(networks)}. Compare them only with scores of the same network, number of samples '
      'and number of splits, which is 10 in tables and 1 in curves. The paper used other networks: only the order of '
      'its scores can be compared.'
    )
  if few := [r.label for r in runs if any(0 < t.get('score_samples', 0) < FEWEST_SAMPLES for t in r.tested())]:
    items.append(
      f'⚠ The scores of {listed(few)} come from fewer than {FEWEST_SAMPLES:,} samples. They vary a lot, and the FID is '
      'too high. bin/evaluate RUN --samples=5000 scores more.'
    )
  if conditional := [run.label for run in runs if any(map(is_given, run.tested()))]:
    items.append(f'The NLL of {listed(conditional)} is the mean of {GIVEN_NOTE}.')
  return items


def _as_sentences(notes: Sequence[str]) -> str:
  return ' '.join(f'{note[0].upper()}{note[1:]}.' for note in notes)


def _missing(runs: Sequence[Summary], what: Sequence[Analysis]) -> Missing:
  return Missing('\n'.join(commands.missing(runs, what)))


def _conditional(runs: Sequence[Summary], drawn: Sequence[Summary]) -> list:
  """Tables for labels and for other conditions apart, because they have few columns in common; samples of `drawn`."""
  items = []
  for what, group in (
    ('Labels', [run for run in runs if run.condition == 'label']),
    ('Images and vectors as conditions', [run for run in runs if not kind_of(run.condition).has_marginal]),
  ):
    if measured := [record for run in group for record in run.tested()]:
      notes = _as_sentences(conditional_notes(measured))
      items += [conditional_table(group, what), *filter(None, [classes_table(group)]), notes]
    elif group:
      items.append(_missing(group, []))
  conditional = [run for run in runs if run.condition]
  grids = sample_grids([run for run in conditional if run in drawn])
  return [*items, *([grids] if grids else []), *conditional_curves(conditional)]


def _analysis_sections(runs: Sequence[Summary], unfit: list[str]) -> Iterator[Section]:
  """Yields a section for each title of the analyses: tables, notes and figures, or the command that would fill it.

  It leaves out results that are not what their analysis writes, and adds a line about each to `unfit`.
  """
  analyses = analyses_of(runs)
  for title in dict.fromkeys(analysis.title for analysis in analyses):
    titled = [analysis for analysis in analyses if analysis.title == title]
    try:
      items = _items(titled, runs)
    except _OF_FORM:
      runs = [_fitting(run, titled, unfit) for run in runs]
      items = _items(titled, runs)  # If this fails, the mistake is ours.
    if items:
      yield Section(title, items)


def _fitting(run: Summary, analyses: Sequence[Analysis], unfit: list[str]) -> Summary:
  """Returns a run without the results of these analyses that are not what the analysis writes."""
  studies = dict(run.studies)
  for analysis in analyses:
    try:
      _items([analysis], [run, run])  # Two, because runs are ranked by their numbers.
    except _OF_FORM as error:
      del studies[analysis.name]
      said = f'is not what the analysis writes ({type(error).__name__}); measure it again, or remove it'
      unfit.append(f'{run.path}/analysis/{analysis.name}.json: {said}')
      _LOG.warning(unfit[-1])
  return dataclasses.replace(run, studies=studies)


def _items(analyses: Sequence[Analysis], runs: Sequence[Summary]) -> list:
  studied = {a: [run for run in runs if a.name in run.studies] for a in analyses}
  studied = {analysis: found for analysis, found in studied.items() if found}
  if not studied:
    missing = commands.missing(runs, analyses)
    return [Missing('\n'.join(missing))] if missing else []  # It may suit no run.
  rows = _rows(studied)
  columns = [column for analysis in studied for column in analysis.own_columns()]
  published = [column for column in columns if column.source == 'paper']
  details = [column for analysis in studied for column in analysis.own_columns()[len(analysis.columns) :]]
  found = [column for column in columns if column not in (*published, *details)]
  name = (RUN, Column('iteration', 'step', ',', source='run'))
  several = len(studied) > 1  # Side by side, the columns are wide enough without details.
  shown = (*name, *found, *published) if several else (*name, *found, *details, *published)
  first = next(iter(studied))
  caption = first.caption + (f' (the paper: {first.paper})' if any('paper' in row.records for row in rows) else '')
  tables = [Table(caption, shown, rows)]
  if several:
    tables.append(Table('Details of the estimates', (*name, *details), rows))
  notes = [*_orders(studied), *itertools.chain(*(a.notes(found) for a, found in studied.items()))]
  figures = [
    dataclasses.replace(figure, command=commands.analyze(group, analysis.name))
    for analysis, found in studied.items()
    for group in ([found] if analysis.draws_runs_together else [[run] for run in found])
    for figure in analysis.figures(group).values()
  ]
  return [tables[0], *notes, *tables[1:], *figures]


def _rows(studied: dict[Analysis, list[Summary]]) -> list[Row]:
  """Analyses of one run and step share a row."""
  rows: dict[tuple, tuple[dict, dict]] = {}
  for analysis, runs in studied.items():
    for run in runs:
      record = run.studies[analysis.name].record
      for name, numbers in analysis.rows(record).items():
        label = f'{run.label}, {name}' if name else run.label
        start = {'run': {'label': label, 'step': record['step']}}, {'run': commands.train(run.commands)}
        records, links = rows.get((run.path, name, record['step']), start)
        records = {**records, analysis.name: numbers}
        links = {**links, analysis.name: commands.analyze([run], analysis.name)}
        published = analysis.published.get(run.dataset, {})
        both = {o: {**records.get('paper', {}), **numbers} for o, numbers in published.items()}
        rows[run.path, name, record['step']] = paper_row(records, links, run, both)
  # The rows of a run that was analysed at several steps stay together.
  order = list(dict.fromkeys(path for path, *_ in rows))
  return [Row(*rows[key]) for key in sorted(rows, key=lambda key: (order.index(key[0]), key[2]))]


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
  # What is given changes what an estimate is of.
  records = [(run.studies[analysis.name].record, run.label) for run in runs if not run.condition]
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
