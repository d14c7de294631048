"""The analysis `outliers`: likelihood of images from outside the training distribution."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import config_dict

from flowgan_tf import data, display, metrics
from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.base.lazy import lazy_import
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, listed
from flowgan_tf.metrics import arrays
from flowgan_tf.study.analysis import Analysis, Settings, Subject, setting
from flowgan_tf.study.summary import Summary

if TYPE_CHECKING:
  from flowgan_tf import data

sklearn_metrics = lazy_import('sklearn.metrics')

# A set of images is not drawn if its median is further from training and test images than this many times their range.
_ROOM = 4
_NOISE = 'uniform noise'


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutliersSettings(Settings):
  images: int = setting(5000, 'Images of each set.', minimum=2, maximum=10**6)
  other_dataset: str = setting('', 'Name or path of other images of the same shape.')


class Outliers(Analysis):
  """Log-likelihood of training and test images, of another data set and of uniform noise (Nalisnick et al. 2019).

  A density may be high where there are no data. Flows trained on CIFAR-10 give images of SVHN a higher likelihood than
  they give their own test images. The AUROC is the probability that a test image has a higher log-density than an image
  of the other set, where a tie counts one half. It is below 0.5 if the other images tend to be more likely. The
  difference between training and test images shows how far the model overfits.

  #### References

  Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan. Do Deep Generative Models Know What They Don't Know? ICLR 2019.
  https://arxiv.org/abs/1810.09136
  """

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
      other = _other(settings, subject.run.config, subject.dataset, subject.run.workdir)
      name = f'other {other.name}' if other.name in ('train', 'test', _NOISE) else other.name
      sets[name] = subject.images('test', settings.images, settings.seed, other)
    rng = np.random.default_rng(settings.seed)
    sets[_NOISE] = rng.random((len(sets['test']), *subject.dataset.image_shape), np.float32)
    log_probs = {name: subject.log_prob(images) for name, images in sets.items()}
    for name, values in log_probs.items():
      if bad := np.count_nonzero(~np.isfinite(values)):
        raise ValueError(
          f'the log-densities must be finite. Got: NaN or infinity for {bad} of {len(values)} images of {name!r}.'
        )
    test, numbers = log_probs['test'], {}
    for name, values in log_probs.items():
      is_test = np.repeat([True, False], [len(test), len(values)])
      numbers[name] = {
        'mean_log_prob': values.mean(),
        'standard_error': arrays.standard_error(values),
        'n': len(values),
        'auroc': None if name == 'test' else sklearn_metrics.roc_auc_score(is_test, np.concatenate([test, values])),
      }
    return {'levels': subject.dataset.levels, 'sets': numbers}, log_probs

  def refuses(self, given: str) -> str:
    return 'images of other sets come without vectors' if given == 'vector' else ''

  def check(self, settings: OutliersSettings, config: config_dict.ConfigDict, dataset: data.Dataset) -> None:
    if settings.other_dataset:
      _other(settings, config, dataset, dataset.name)

  def records(self, record: dict) -> dict[str, dict]:
    return record['sets']

  def figures(self, runs: Sequence[Summary]) -> dict[str, Figure]:
    [run] = runs
    study, unit = run.studies[self.name], 'bits/dim'
    nll = {
      name: metrics.bits_per_dim(-values, run.image_shape, study.record['levels'])
      for name, values in study.arrays.items()
    }
    low, high = np.quantile(np.concatenate([nll['train'], nll['test']]), [0, 1])
    room = _ROOM * (high - low)
    near = {n: v for n, v in nll.items() if low - room < np.median(v) < high + room}
    far = [f'{n} has {v.mean():.2f} on average' for n, v in nll.items() if n not in near]
    low, high = np.quantile(np.concatenate(list(near.values())), [0.001, 0.999])
    edges = np.linspace(low, high, 61)
    counts = {name: np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] for name, v in near.items()}
    figure = Figure.of_plot(
      display.plots.likelihood_histograms(edges, counts, unit),
      f'Histograms of the NLL of single images under {run.label}: {listed(near)}.',
      f'{run.label}: NLL of single images, in {unit}; the end bins hold what lies beyond.'
      + (f' Not drawn: {"; ".join(far)}.' if far else ''),
    )
    return {self.name: figure}


def _other(settings, config, dataset, whose):
  name = settings.other_dataset
  for size in (config.image_size, 0):  # Some data take no size.
    try:
      other = data.load(name, config.data_dir, size)
      break
    except UsageError as error:
      if not size or error.argument != 'image_size':
        raise UsageError(str(error).replace('`dataset`', '`other_dataset`'), 'other_dataset') from error
  expected = f'a data set that {whose} does not use, with images of shape {dataset.image_shape}'
  differs = other.fingerprint != dataset.fingerprint
  check('other_dataset', name, expected, differs and other.image_shape == dataset.image_shape)
  return other
