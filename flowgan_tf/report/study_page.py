"""One page of any set of runs, as in the paper's study: tables beside the paper's numbers, figures, commands."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import pathlib
from collections.abc import Sequence

from markupsafe import Markup

from flowgan_tf.display.words import listed, printable
from flowgan_tf.report.commands import Commands
from flowgan_tf.report.evaluations import checkpoints_table, paper_table
from flowgan_tf.report.page import Code, Page, Section
from flowgan_tf.report.paper import ADDRESS, nll_unit
from flowgan_tf.report.sections import analysis_sections
from flowgan_tf.report.sweeps import condition_numbers, front
from flowgan_tf.report.trainings import learning_curves, runs_table, sample_grids, score_curves
from flowgan_tf.study.summary import Summary

__all__ = ['make_report']

_LOG = logging.getLogger(__name__)

_TITLES = {
  'mnist': 'MNIST',
  'fashion_mnist': 'Fashion-MNIST',
  'cifar10': 'CIFAR-10',
  'svhn_cropped': 'SVHN',
  'digits': 'Digits',
}


def make_report(runs: Sequence[Summary], commands: Commands, damage: Sequence[str] = ()) -> Page:
  """Builds the page.

  A cell is empty if the run has no such number. If no run has been measured, a section shows the command that does so.
  An analysis whose numbers cannot be shown, perhaps because another version made them, is left out with a warning.

  Args:
    runs: What `summarize` returned. Runs on the same data are compared with each other.
    commands: Makes the commands behind the numbers.
    damage: Lines about files that are damaged and left out, as `summarize` finds them.
  """
  try:
    return _page(runs, commands, damage)
  except Exception:  # A record of another version may lack anything.
    sound, odd = _without_odd_studies(runs, commands)
    if not odd:
      raise
    return _page(sound, commands, [*damage, *odd])


def _page(runs: Sequence[Summary], commands: Commands, damage: Sequence[str]) -> Page:
  groups = [list(group) for _, group in itertools.groupby(runs, key=lambda run: (run.dataset, run.fingerprint))]
  names = [_TITLES.get(group[0].dataset, printable(group[0].dataset)) for group in groups]
  # Files of one name may hold different data.
  hashes = [f'{name} {group[0].fingerprint[:8]}' for name, group in zip(names, groups, strict=True)]
  names = [full if names.count(name) > 1 else name for name, full in zip(names, hashes, strict=True)]
  sections = []
  if damage:
    said = 'Some files could not be read. The page does without them:'
    sections.append(Section('Damaged files', [said, Code('\n'.join(map(printable, damage)))]))
  for name, group in zip(names, groups, strict=True):
    prefix = f'{name}: ' if len(groups) > 1 else ''
    sections += [Section(prefix + s.title, s.items) for s in _sections(group, commands) if s.items]
  lead = Markup(
    '{} run{}. Likelihoods are of dequantised images, over the unit cube. Every number links to the command that made '
    'it; click a column to sort its table. The paper: Grover, Dhar, Ermon, <a href="{}">Flow-GAN</a>, AAAI 2018.'
  ).format(len(runs), 's' * (len(runs) > 1), ADDRESS)
  return Page(f'Flow-GAN on {listed(names)}', sections, lead)


def _without_odd_studies(runs: Sequence[Summary], commands: Commands) -> tuple[list[Summary], list[str]]:
  """Leaves out the analyses whose records cannot be shown, and says in a line what is wrong with each."""
  sound, lines = [], []
  for run in runs:
    kept = dict(run.studies)
    for name, study in run.studies.items():
      try:
        list(analysis_sections([dataclasses.replace(run, studies={name: study})], commands))
      except Exception as error:
        del kept[name]
        path = pathlib.Path(run.path, 'analysis', f'{name}.json')
        lines.append(f'{path}: cannot be shown ({type(error).__name__}: {error}); measure it again')
        _LOG.warning('%s', lines[-1])
    sound.append(dataclasses.replace(run, studies=kept))
  return sound, lines


def _sections(runs: Sequence[Summary], commands: Commands) -> list[Section]:
  unit = nll_unit(runs[0].dataset)
  grids = sample_grids(runs, commands)
  return [
    Section('Runs', [runs_table(runs, commands)]),
    Section('Likelihood and sample quality', _likelihood(runs, unit, commands)),
    Section('Samples', [grids] if grids else []),
    Section('Training', [f for f in (learning_curves(runs, unit), score_curves(runs)) if f]),
    *analysis_sections(runs, commands),
    Section('Likelihood against quality', [f for f in (front(runs, unit), condition_numbers(runs)) if f]),
  ]


def _likelihood(runs: Sequence[Summary], unit: str, commands: Commands) -> list:
  if not any(run.tested() for run in runs):
    return [Code('\n'.join(['# Nothing has been measured yet. This fills the section:', *commands.missing(runs, [])]))]
  items = [paper_table(runs, unit, commands), checkpoints_table(runs, commands)]
  networks = sorted({f'{r["scorer"]} {r["scorer_hash"]}' for run in runs for r in run.evaluation if 'scorer' in r})
  if networks:
    items.append(
      f'The scores come from {listed(networks)}. Compare them only with scores of the same network, number of samples '
      'and number of splits, which is 10 here and 1 in the curves and figures below. The paper used other networks: '
      'only the order of its scores can be compared.'
    )
  return items
