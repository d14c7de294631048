"""The analysis `gmm`: a mixture of Gaussians on the training images, the paper's baseline that only memorises."""

from collections.abc import Sequence

import numpy as np

from flowgan_tf import display, metrics
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.grids import image_grid
from flowgan_tf.display.tables import SCORE_NAMES, Column, listed
from flowgan_tf.study.analysis import Analysis, Subject, mean_nll, scored_alike
from flowgan_tf.study.kde import GaussianMixture, KdeSettings
from flowgan_tf.study.summary import Summary

_GRID_IMAGES = 64
_BANDWIDTHS = np.geomspace(0.01, 1, 17)


def winning_range(records: Sequence[dict], nll: float, score: float, score_name: str) -> tuple[float, float] | None:
  """Returns the bandwidths at which the mixture beats a model on both measures: the shaded region of Figures 3 and 6.

  Between the bandwidths of the records, NLL and score are linear in the logarithm of the bandwidth. A higher score is
  better. Of several ranges, it returns the one with the largest ratio of its ends; None without a range.
  """
  bandwidths, nlls, scores = np.transpose(sorted((r['bandwidth'], r['nll'], r[score_name]) for r in records))
  log_h = np.log(bandwidths)
  margins = nll - nlls, scores - score
  # No margin changes its sign between two neighbours among these points.
  points = np.unique(np.concatenate([log_h, *(_crossings(log_h, margin) for margin in margins)]))
  middles = (points[:-1] + points[1:]) / 2
  wins = np.all([np.interp(middles, log_h, margin) > 0 for margin in margins], axis=0)
  # The points where a run of winning intervals begins and where it ends.
  edges = points[np.flatnonzero(np.diff(wins, prepend=False, append=False))].reshape(-1, 2)
  if not len(edges):
    return None
  low, high = np.exp(edges[np.argmax(edges[:, 1] - edges[:, 0])])
  return float(low), float(high)


def _crossings(x, y):
  """Returns the zeros, inside the intervals, of the function that is linear between the points (x, y)."""
  i = np.flatnonzero(y[:-1] * y[1:] < 0)
  return x[i] - y[i] * (x[i + 1] - x[i]) / (y[i + 1] - y[i])


class Gmm(Analysis):
  """A Gaussian on each training image: NLL and score against the bandwidth (the paper's Figures 3, 6 and 7).

  Samples at different bandwidths have the same centres and the same noise, which is only scaled.
  """

  name = 'gmm'
  title = 'Mixture of Gaussians'
  description = (
    'a Gaussian on each training image: NLL and score against the bandwidth, and the bandwidths at which the mixture '
    'beats the run in both'
  )
  paper = 'Figures 3, 6, 7'
  caption = (
    'The mixture at the best bandwidth for validation images; at others it may beat the run on both NLL and score'
  )
  needs_marginal = 'the mixture is not given the conditions, so that the two cannot be compared'
  Settings = KdeSettings
  columns = (
    Column('best bandwidth', 'best_bandwidth', '.4f'),
    Column('validation NLL (nats)', 'best_nll', ',.2f', 'best_standard_error'),
    Column('test NLL (nats)', 'test_nll', ',.2f', 'test_standard_error'),
    Column('bandwidths better than the run', 'winning'),
  )
  details = (Column('Gaussians', 'centers', ','), Column('test images', 'test_n', ','))

  def measure(self, subject: Subject, settings: KdeSettings) -> tuple[dict, dict[str, np.ndarray]]:
    scorer, validation = subject.scorer, subject.images('validation')
    mixture = GaussianMixture(subject.images('train'))
    bandwidths = []
    for bandwidth, log_prob in zip(_BANDWIDTHS, mixture.log_prob(validation, _BANDWIDTHS), strict=True):
      record = {'bandwidth': bandwidth} | mean_nll(log_prob)
      if scorer:
        # The likelihood is the mixture's own, without clipping. Samples are clipped as if they were to be shown.
        record |= scorer(np.clip(mixture.sample(settings.samples, bandwidth, settings.seed), 0, 1))
      bandwidths.append(record)
    best = mixture.choose_bandwidth(validation)
    [at_best], [test] = (mixture.log_prob(images, [best]) for images in (validation, subject.images('test')))
    model = mean_nll(subject.log_prob(validation)) if subject.run.generator.has_density else {}
    samples = subject.samples(settings.samples, settings.seed)
    numbers = {
      'centers': len(mixture.centers),
      'selection': scorer and scorer.selection,
      'best_bandwidth': best,
      **mean_nll(at_best, 'best_'),
      **mean_nll(test, 'test_'),
      'model': {'nll': model.get('nll')} | metrics.score_samples(samples, scorer),
      'bandwidths': bandwidths,
    }
    grid = np.clip(mixture.sample(_GRID_IMAGES, best, settings.seed), 0, 1)
    return numbers, {'samples': grid}

  def records(self, record: dict) -> dict[str, dict]:
    model = _nll_and_score(record)
    if model is None:
      return {'': record}
    winning = winning_range(record['bandwidths'], *model, record['selection'])
    return {'': record | {'winning': '{:.2g} to {:.2g}'.format(*winning) if winning else 'none'}}

  def figures(self, runs: Sequence[Summary]) -> dict[str, Figure]:
    studies = {run.label: run.studies[self.name] for run in runs}
    first = next(iter(studies.values()))
    record, figures = first.record, {}
    if name := record['selection']:
      at = record['bandwidths'][0]
      # Draw only models that were measured with the same network and number of samples.
      lines = {
        label: model
        for label, study in studies.items()
        if study.record['selection'] == name and scored_alike(study.record['model'], at)
        if (model := _nll_and_score(study.record))
      }
      rival = next((label for label in lines if label.startswith('ADV')), next(iter(lines), None))
      winning = winning_range(record['bandwidths'], *lines[rival], name) if rival else None
      said = f' At no bandwidth does the mixture beat {rival} on both.' if rival else ''
      if winning:
        low, high = winning
        said = f' Shaded: bandwidths from {low:.2g} to {high:.2g}, at which the mixture beats {rival} on both.'
      bandwidths, nll, scores = ([b[key] for b in record['bandwidths']] for key in ('bandwidth', 'nll', name))
      score = SCORE_NAMES[name]
      figures[self.name] = Figure.of_plot(
        display.plots.bandwidth_study(bandwidths, nll, scores, score, lines, winning),
        f'NLL and {score} of a mixture of Gaussians against its bandwidth, with horizontal lines for {listed(lines)}.',
        f'Mixture of {record["centers"]:,} isotropic Gaussians, one on each training image: NLL of {at["n"]:,} '
        f'validation images and {score} of {at["score_samples"]:,} samples.{said}',
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
