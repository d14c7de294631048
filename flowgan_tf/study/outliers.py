"""The analysis `outliers`: likelihood of images from outside the training distribution."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import config_dict

from flowgan_tf import data, display, evaluation
from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.base.lazy import lazy_import
from flowgan_tf.data.dataset import bits_per_dim
from flowgan_tf.display.figure import Figure
from flowgan_tf.display.tables import Column, listed
from flowgan_tf.metrics import arrays
from flowgan_tf.study.analysis import Analysis, Settings, Subject, setting
from flowgan_tf.study.summary import Summary

if TYPE_CHECKING:
  from flowgan_tf import data, evaluation

sklearn_metrics, scipy_stats = lazy_import('sklearn.metrics'), lazy_import('scipy.stats')

# A set of images is not drawn if its median is further from training and test images than this many times their range.
_ROOM = 4
_NOISE = 'uniform noise'
_CHANGED = 1000  # test images that are changed into others


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutliersSettings(Settings):
  images: int = setting(5000, 'Images of each set.', minimum=2, maximum=10**6)
  other_dataset: str = setting('', 'Name or path of other images of the same shape.')
  false_alarms: float = setting(0.05, 'Share of test images that may be called outliers.', 0.001, 0.5)


class Outliers(Analysis):
  """Log-likelihood of training and test images, and which images are called outliers (Nalisnick et al. 2019).

  Other images are another data set, test images that are rotated, inverted or of one level, and uniform noise.

  A density may be high where there are no data. Flows trained on CIFAR-10 give images of SVHN a higher likelihood than
  they give their own test images. The AUROC is the probability that a test image has a higher log-density than an image
  of the other set, where a tie counts one half. It is below 0.5 if the other images tend to be more likely. The
  difference between training and test images shows how far the model overfits.

  Three tests call an image an outlier: its log p is low, its log p is high, or its noise `encode(x)` is large. Their
  thresholds come from half of the test images, and the other half measures how many false alarms they give; see
  `flowgan_tf.evaluation.judge_images`.

  #### References

  Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan. Do Deep Generative Models Know What They Don't Know? ICLR 2019.
  https://arxiv.org/abs/1810.09136
  """

  name = 'outliers'
  title = 'Outliers'
  description = (
    'likelihood of other images: log p of training and test images, of another data set, of changed images and of '
    'uniform noise, with the AUROC, and how many are called outliers'
  )
  caption = (
    'Log-likelihood of sets of images, with the share that is called outliers. A test image is more likely than an '
    'image of the set with the probability of the third column; 0.5 means that log p does not tell them apart'
  )
  needs_density = True
  draws_runs_together = False
  Settings = OutliersSettings
  columns = (
    Column('mean log p (nats)', 'mean_log_prob', ',.2f', 'standard_error'),
    Column('test more likely (AUROC)', 'auroc', '.3f'),
    Column('unlikely', 'unlikely', '.1%'),
    Column('too likely', 'too likely', '.1%'),
    Column('odd noise', 'odd noise', '.1%'),
    Column('outliers', 'outliers', '.1%'),
  )
  details = (Column('images', 'n', ','),)

  def measure(self, subject: Subject, settings: OutliersSettings) -> tuple[dict, dict[str, np.ndarray]]:
    sets = {name: subject.images(name, settings.images, settings.seed) for name in ('train', 'test')}
    if settings.other_dataset:
      other = _other(settings, subject.run.config, subject.dataset, subject.run.workdir)
      name = f'other {other.name}' if other.name in ('train', 'test', _NOISE) else other.name
      sets[name] = subject.images('test', settings.images, settings.seed, other)
    rng = np.random.default_rng(settings.seed)
    sets |= _changed(subject, settings, rng)
    sets[_NOISE] = rng.random((len(sets['test']), *subject.dataset.image_shape), np.float32)
    statistics = evaluation.Statistics(subject.run.generator)
    found = {name: statistics(images, subject.condition.of_images(images)) for name, images in sets.items()}
    for name, values in found.items():
      if bad := np.count_nonzero(~np.isfinite(values).all(axis=1)):
        raise ValueError(
          f'the log-densities must be finite. Got: NaN or infinity for {bad} of {len(values)} images of {name!r}.'
        )
    log_probs = {name: values[:, 0] for name, values in found.items()}
    test, numbers = log_probs['test'], {}
    for name, values in log_probs.items():
      is_test = np.repeat([True, False], [len(test), len(values)])
      numbers[name] = {
        'mean_log_prob': values.mean(),
        'standard_error': arrays.standard_error(values),
        'n': len(values),
        'auroc': None if name == 'test' else sklearn_metrics.roc_auc_score(is_test, np.concatenate([test, values])),
      }
    alarms = _alarms(found, settings.false_alarms, numbers)
    return {'levels': subject.dataset.levels, 'sets': numbers, 'alarms': alarms}, log_probs

  def rejects(self, condition: str) -> str:
    return 'images of other sets come without vectors' if condition == 'vector' else ''

  def check(self, settings: OutliersSettings, config: config_dict.ConfigDict, dataset: data.Dataset) -> None:
    if settings.other_dataset:
      _other(settings, config, dataset, dataset.name)

  def records(self, record: dict) -> dict[str, dict]:
    return record['sets']

  def lines(self, record: dict) -> list[str]:
    return [*super().lines(record), *_in_words(record)]

  def notes(self, runs: Sequence[Summary]) -> list[str]:
    return [f'{run.label}: {text}' for run in runs for text in _in_words(run.studies[self.name].record)]

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


def _changed(subject, settings, rng):
  """Returns test images that are rotated by a quarter turn, inverted, or replaced by one level each."""
  grey = subject.split('test', settings.images, settings.seed).images[1::2][:_CHANGED]
  levels = subject.dataset.levels
  changed = {
    'inverted': levels - 1 - grey,
    'one level': np.broadcast_to(rng.integers(levels, size=(len(grey), 1, 1, 1)), grey.shape),
  }
  if grey.shape[1] == grey.shape[2]:
    changed = {'rotated': np.rot90(grey, axes=(1, 2))} | changed
  return {name: data.dequantize(images, levels, rng) for name, images in changed.items()}


def _alarms(found, rate, numbers):
  """Adds to the numbers of each set which share is called outliers; returns what half of the test images shows."""
  calibration, tested = found['test'][::2], found['test'][1::2]
  for name, values in (found | {'test': tested}).items():
    p = evaluation.outliers.p_values_of_tests(values, calibration)
    p['outliers'] = evaluation.outliers.combined(p)
    numbers[name] |= {test: np.mean(of_test <= rate) for test, of_test in p.items()}
  false = round(numbers['test']['outliers'] * len(tested))
  interval = scipy_stats.binomtest(false, len(tested)).proportion_ci(0.95)
  last = math.floor(rate * (len(calibration) + 1) + 1e-9) - 1
  return {
    'threshold': np.sort(calibration[:, 0])[last] if last >= 0 else None,
    'calibrated_on': len(calibration),
    'tested_on': len(tested),
    'false': false,
    'low': interval.low,
    'high': interval.high,
  }


def _in_words(record):
  """Says which share of test images is called outliers; nothing for records of earlier versions."""
  if (alarms := record.get('alarms')) is None:
    return []
  rate, share = record['settings']['false_alarms'], record['sets']['test']['outliers']
  threshold = '' if alarms['threshold'] is None else f' Images are unlikely if log p < {alarms["threshold"]:,.1f} nats.'
  return [
    f'Thresholds for at most {rate:.1%} false alarms come from {alarms["calibrated_on"]:,} test images. Of '
    f'{alarms["tested_on"]:,} others, {share:.1%} are called outliers (95 % interval {alarms["low"]:.1%} to '
    f'{alarms["high"]:.1%}).{threshold}'
  ]


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
