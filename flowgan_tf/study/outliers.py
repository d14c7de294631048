"""The analysis `outliers`: likelihood of images from outside the training distribution."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from flowgan_tf import data
from flowgan_tf.display import plots
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column
from flowgan_tf.display.words import listed
from flowgan_tf.errors import UsageError
from flowgan_tf.estimators.log_probs import auroc, compare_log_probs
from flowgan_tf.metrics.likelihood import bits_per_dim
from flowgan_tf.study.analysis import Analysis, Settings, setting
from flowgan_tf.study.subject import Subject
from flowgan_tf.study.summary import Summary

__all__ = ['Outliers']

# A set of images is not drawn if its median is further from training and test images than this many times their range.
_ROOM = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutliersSettings(Settings):
  """Settings of `Outliers`."""

  images: int = setting(5000, 'Images of each set.', minimum=2)
  other_dataset: str = setting('', 'Name or path of other images of the same shape.')


class Outliers(Analysis):
  """Log-likelihood of training and test images, of another data set and of uniform noise (Nalisnick et al. 2019)."""

  name = 'outliers'
  title = 'Outliers'
  description = (
    'likelihood of other images: log p of training and test images, of another data set and of uniform noise, with '
    'the AUROC'
  )
  caption = 'Log-likelihood of sets of images; the AUROC is 0.5 where likelihood cannot tell them from test images'
  needs_density = True
  draws_runs_together = False
  Settings = OutliersSettings
  columns = (
    Column('mean log p (nats)', 'mean_log_prob', ',.2f', 'standard_error'),
    Column('AUROC of test against them', 'auroc', '.3f'),
  )
  details = (Column('images', 'n', ','),)

  def measure(self, subject: Subject, settings: OutliersSettings) -> tuple[dict, dict[str, np.ndarray]]:
    sets = {name: subject.images(name, settings.images, settings.seed) for name in ('train', 'test')}
    if settings.other_dataset:
      name, images = _other_images(subject, settings)
      sets[f'other {name}' if name in sets else name] = images
    rng = np.random.default_rng(settings.seed)
    sets['uniform noise'] = rng.random((len(sets['test']), *subject.dataset.image_shape), np.float32)
    try:
      found = compare_log_probs(subject.log_prob, sets)
    except ValueError as error:  # Densities that are not finite.
      raise UsageError(f'{subject.run.workdir}: {error}') from error
    numbers = {
      name: {
        'mean_log_prob': s.mean,
        'standard_error': s.standard_error,
        'n': s.n,
        'auroc': None if name == 'test' else auroc(found['test'].log_prob, s.log_prob),
      }
      for name, s in found.items()
    }
    return {'levels': subject.dataset.levels, 'sets': numbers}, {name: s.log_prob for name, s in found.items()}

  def records(self, record: dict) -> dict[str, dict]:
    return record['sets']

  def figures(self, runs: Sequence[Summary]) -> dict[str, Figure]:
    [run] = runs
    study, unit = run.studies[self.name], 'bits/dim'
    nll = {
      name: bits_per_dim(-values, run.image_shape, study.record['levels']) for name, values in study.arrays.items()
    }
    low, high = np.quantile(np.concatenate([nll['train'], nll['test']]), [0, 1])
    room = _ROOM * (high - low)
    near = {n: v for n, v in nll.items() if low - room < np.median(v) < high + room}
    far = [f'{n} has {v.mean():.2f} on average' for n, v in nll.items() if n not in near]
    edges = np.linspace(*np.quantile(np.concatenate(list(near.values())), [0.001, 0.999]), 61)
    counts = {name: np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] for name, v in near.items()}
    figure = Figure.of_plot(
      plots.likelihood_histograms(edges, counts, unit),
      f'Histograms of the NLL of single images under {run.label}: {listed(near)}.',
      f'{run.label}: NLL of single images, in {unit}; the end bins hold what lies beyond.'
      + (f' Not drawn: {"; ".join(far)}.' if far else ''),
    )
    return {self.name: figure}


def _other_images(subject: Subject, settings: OutliersSettings) -> tuple[str, np.ndarray]:
  other = data.load(settings.other_dataset, subject.run.config.data_dir or None)
  argument = f'`other_dataset` must be another data set than that of {subject.run.workdir}, with images of '
  argument += f'shape {subject.dataset.image_shape}. Got: {settings.other_dataset}'
  if other.fingerprint == subject.dataset.fingerprint:
    raise UsageError(f'{argument}, the same data.')
  if other.image_shape != subject.dataset.image_shape:
    raise UsageError(f'{argument}, of shape {other.image_shape}.')
  return other.name, subject.images('test', settings.images, settings.seed, other)
