"""The analysis `gmm`: a mixture of Gaussians on the training images."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowgan_tf.display import plots
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import SCORE_NAMES, Column, listed
from flowgan_tf.study.analysis import Analysis, Settings
from flowgan_tf.study.kde import KdeSettings

if TYPE_CHECKING:
  from flowgan_tf.study.subject import Subject
  from flowgan_tf.study.summary import Summary

__all__ = ['Gmm']

_GRID_IMAGES = 64
_BANDWIDTHS = np.geomspace(0.01, 1, 17)


class Gmm(Analysis):
  """A Gaussian on each training image: NLL and score against the bandwidth (the paper's Figures 3, 6 and 7)."""

  name = 'gmm'
  title = 'Mixture of Gaussians'
  description = (
    'a Gaussian on each training image: NLL and score against the bandwidth, and where this beats the run on both'
  )
  paper = 'Figures 3, 6, 7'
  caption = (
    'The mixture at the best bandwidth for validation images; at others it may beat the run on both NLL and score'
  )
  Settings = KdeSettings
  columns = (
    Column('best bandwidth', 'best_bandwidth', '.4f'),
    Column('validation NLL (nats)', 'best_nll', ',.2f', 'best_standard_error'),
    Column('test NLL (nats)', 'test_nll', ',.2f', 'test_standard_error'),
    Column('bandwidths better than the run', 'winning'),
  )
  details = (Column('Gaussians', 'centers', ','), Column('test images', 'test_n', ','))

  def measure(self, subject: Subject, settings: Settings) -> tuple[dict, dict[str, np.ndarray]]:
    from flowgan_tf.estimators.gaussian_mixture import GaussianMixture, bandwidth_study
    from flowgan_tf.estimators.parzen import choose_bandwidth
    from flowgan_tf.metrics.arrays import standard_error
    from flowgan_tf.metrics.scorer import score_samples

    scorer = subject.scorer
    mixture = GaussianMixture(subject.images('train'))
    validation = subject.images('validation')
    score = scorer and functools.partial(scorer, splits=1)
    records = bandwidth_study(mixture, validation, score, _BANDWIDTHS, settings.samples, settings.seed)
    best = choose_bandwidth(validation, mixture.centers)
    test = -mixture.log_prob(subject.images('test'), [best.bandwidth])[0]
    likelihood = subject.evaluator.likelihood('validation')
    samples = subject.samples(settings.samples, settings.seed)
    numbers = {
      'centers': len(mixture.centers),
      'selection': scorer and scorer.selection,
      'best_bandwidth': best.bandwidth,
      'best_nll': -best.mean_log_density,
      'best_standard_error': best.standard_error,
      'test_nll': test.mean(),
      'test_standard_error': standard_error(test),
      'test_n': len(test),
      'model': {'nll': likelihood.nll if likelihood else None} | score_samples(samples, scorer),
      'bandwidths': records,
    }
    grid = np.clip(mixture.sample(_GRID_IMAGES, best.bandwidth, settings.seed), 0, 1)
    return numbers, {'samples': grid}

  def records(self, record: dict) -> dict[str, dict]:
    from flowgan_tf.estimators.gaussian_mixture import winning_range

    model = _nll_and_score(record)
    if model is None:
      return {'': record}
    winning = winning_range(record['bandwidths'], *model, record['selection'])
    return {'': record | {'winning': '{:.2g} to {:.2g}'.format(*winning) if winning else 'none'}}

  def figures(self, runs: Sequence[Summary]) -> dict[str, Figure]:
    from flowgan_tf.estimators.gaussian_mixture import winning_range
    from flowgan_tf.evaluation.pictures import image_grid

    studies = {run.label: run.studies[self.name] for run in runs}
    first = next(iter(studies.values()))
    record = first.record
    figures = {}
    if name := record['selection']:
      # Only models that were measured with the same network and number of samples.
      models = {label: _nll_and_score(study.record) for label, study in studies.items() if _alike(study.record, record)}
      lines = {label: model for label, model in models.items() if model}
      rival = next((label for label in lines if label.startswith('ADV')), next(iter(lines), None))
      winning = winning_range(record['bandwidths'], *lines[rival], name) if rival else None
      columns = np.transpose([(b['bandwidth'], b['nll'], b[name]) for b in record['bandwidths']])
      said = f' At no bandwidth does the mixture beat {rival} on both.' if rival else ''
      if winning:
        low, high = winning
        said = f' Shaded: bandwidths from {low:.2g} to {high:.2g}, at which the mixture beats {rival} on both.'
      any_bandwidth = record['bandwidths'][0]
      figures[self.name] = Figure.of_plot(
        plots.bandwidth_study(*columns, SCORE_NAMES[name], lines, winning),
        f'NLL and {SCORE_NAMES[name]} of a mixture of Gaussians against its bandwidth, with horizontal lines for '
        f'{listed(lines)}.',
        f'Mixture of {record["centers"]:,} isotropic Gaussians, one on each training image: NLL of '
        f'{any_bandwidth["n"]:,} validation images and {SCORE_NAMES[name]} of {any_bandwidth["score_samples"]:,} '
        f'samples.{said}',
      )
    figures[f'{self.name}_samples'] = Figure.of_pixels(
      image_grid(first.arrays['samples']),
      'Samples of the mixture of Gaussians, in rows of 8.',
      f'Samples of the mixture at the bandwidth with the best validation NLL, {record["best_bandwidth"]:.3g}.',
    )
    return figures


def _nll_and_score(record: dict) -> tuple[float, float] | None:
  model, name = record['model'], record['selection']
  if name is None or model.get('nll') is None or model.get(name) is None:
    return None
  return model['nll'], model[name]


def _alike(record: dict, other: dict) -> bool:
  keys = ('scorer', 'scorer_hash', 'score_samples')
  return record['selection'] == other['selection'] and all(
    record['model'].get(key) == other['bandwidths'][0].get(key) for key in keys
  )
