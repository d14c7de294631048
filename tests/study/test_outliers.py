from unittest import mock

import numpy as np
import pytest
import scipy.stats

from flowgan_tf import data
from flowgan_tf.base.errors import UsageError
from flowgan_tf.display import plots
from flowgan_tf.study.outliers import Outliers
from tests.summaries import outliers, summary
from tests.tiny import write_images

STATISTICS = 'flowgan_tf.evaluation.outliers.Statistics.__call__'


def measure(subject, **settings):
  return Outliers().measure(subject, Outliers.Settings(**settings))


@pytest.mark.parametrize(('name', 'shown'), [('other', 'other'), ('train', 'other train')])
def test_another_data_set_is_compared(subject, tmp_path, name, shown):
  """It does not take the place of a set of the same name."""
  other = write_images(tmp_path / f'{name}.npz', count=50)
  _, alone = measure(subject, images=10)
  numbers, arrays = measure(subject, images=10, other_dataset=other)
  changed = ['rotated', 'inverted', 'one level']
  assert list(arrays) == list(numbers['sets']) == ['train', 'test', shown, *changed, 'uniform noise']
  assert [s['n'] for s in numbers['sets'].values()] == [10, 10, len(arrays[shown]), 5, 5, 5, 10]
  for kept in alone:
    np.testing.assert_array_equal(arrays[kept], alone[kept])
  expected = subject.run.generator.log_prob(subject.images('test', 10)).numpy()
  np.testing.assert_allclose(arrays['test'], expected, rtol=1e-5, atol=1e-5)
  assert numbers['sets']['test']['auroc'] is None


def test_the_size_of_the_runs_images_is_for_data_that_take_it(subject, tmp_path, monkeypatch):
  (tmp_path / 'arrays').mkdir()
  for split in ('train', 'validation', 'test'):
    np.save(tmp_path / 'arrays' / f'{split}.npy', np.zeros((20, 4, 4, 1), np.uint8))
  monkeypatch.setitem(subject.run.config, 'image_size', 4)
  numbers, _ = measure(subject, images=5, other_dataset=str(tmp_path / 'arrays'))
  assert numbers['sets']['arrays']['n'] == 5


def test_the_auroc_is_the_probability_of_the_right_order(subject, monkeypatch):
  """Images near the mode are more likely than the model's own, as SVHN is for models of CIFAR-10."""
  rng = np.random.default_rng(0)
  means = {'train': 0, 'test': 1, 'rotated': 9, 'inverted': 9, 'one level': 9, 'uniform noise': 3}
  drawn = iter(rng.normal([mean, 0], 1, (200, 2)) for mean in means.values())
  monkeypatch.setattr(STATISTICS, lambda *_: next(drawn))
  numbers, arrays = measure(subject, images=5)
  for name in ('train', 'uniform noise'):
    wins = arrays['test'][:, np.newaxis] > arrays[name]
    assert numbers['sets'][name]['auroc'] == pytest.approx(wins.mean())
    assert numbers['sets'][name]['standard_error'] == pytest.approx(scipy.stats.sem(arrays[name]))
  assert numbers['sets']['uniform noise']['auroc'] < 0.1


@pytest.mark.parametrize('rate', [0.05, 0.3])
def test_thresholds_come_from_one_half_of_the_test_images_and_false_alarms_from_the_other(subject, monkeypatch, rate):
  """The shares are counted with quantiles. Of each set, some images are caught by one test alone."""
  rng = np.random.default_rng(0)
  found = {name: rng.normal(0, 1, (400, 2)) for name in ('train', 'test', 'rotated', 'inverted', 'one level', 'noise')}
  found['rotated'][:, 1] += 9
  found['inverted'][:, 0] -= 9
  found['one level'][:, 0] += 9
  drawn = iter(found.values())
  monkeypatch.setattr(STATISTICS, lambda *_: next(drawn))
  numbers, _ = measure(subject, images=5, false_alarms=rate)
  calibration, tested = found['test'][::2], found['test'][1::2]

  def called(values, rate):
    low, high = (np.quantile(calibration[:, 0], q, method='weibull') for q in (rate, 1 - rate))
    large = np.quantile(calibration[:, 1], 1 - rate, method='weibull')
    return values[:, 0] < low, values[:, 0] > high, values[:, 1] > large

  for (name, shares), values in zip(numbers['sets'].items(), found.values(), strict=True):
    values = tested if name == 'test' else values
    alone = [np.mean(outliers) for outliers in called(values, rate)]
    assert [shares[test] for test in ('unlikely', 'too likely', 'odd noise')] == pytest.approx(alone, abs=0.006)
    assert shares['outliers'] == pytest.approx(np.mean(np.any(called(values, rate / 3), axis=0)), abs=0.011)
    assert (shares['outliers'] > 0.99) == (name in ('rotated', 'inverted', 'one level'))
  alarms = numbers['alarms']
  false = round(200 * numbers['sets']['test']['outliers'])
  # Clopper and Pearson's interval has the tails 2.5 %.
  assert scipy.stats.binom.sf(false - 1, 200, alarms['low']) == pytest.approx(0.025)
  assert scipy.stats.binom.cdf(false, 200, alarms['high']) == pytest.approx(0.025)
  assert alarms['threshold'] == pytest.approx(np.quantile(calibration[:, 0], rate, method='weibull'), abs=0.05)
  [*_, said] = Outliers().lines({**numbers, 'settings': {'false_alarms': rate}})
  share = f'{false / 200:.1%}'
  assert f'at most {rate:.1%} false alarms come from 200 test images. Of 200 others, {share} are called' in said


def test_what_cannot_be_compared_is_rejected(subject, tmp_path, monkeypatch):
  for other in (subject.run.config.dataset, write_images(tmp_path / 'o.npz', shape=(5, 4, 1))):
    with pytest.raises(UsageError, match=r'`other_dataset` must be a data set .* of shape \(4, 4, 1\)\. Got: '):
      measure(subject, other_dataset=other)
  with monkeypatch.context() as patch, pytest.raises(UsageError, match='`other_dataset` must be known'):
    patch.setattr('flowgan_tf.data.load', mock.Mock(side_effect=UsageError('`dataset` must be known', 'dataset')))
    measure(subject, other_dataset='unknown')
  monkeypatch.setattr(STATISTICS, lambda _, images, __: np.full((len(images), 2), np.nan))
  with pytest.raises(ValueError, match=r"log-densities must be finite.* for 5 of 5 images of 'train'\.$"):
    measure(subject, images=5)


@pytest.mark.parametrize(
  ('shift', 'alt', 'left_out'),
  [(0, 'train and test.', True), (899, 'uniform noise', False), (1800, 'train and test.', True)],
)
def test_a_figure_shows_one_run_without_far_images(shift, alt, left_out):
  study = outliers()
  study.arrays['uniform noise'] += shift
  figure = Outliers().figures([summary('mle', studies={'outliers': study})])['outliers']
  assert alt in figure.alt and ('Not drawn: uniform noise' in figure.caption) == left_out


def test_the_histograms_are_of_the_nll_in_bits_per_dim(monkeypatch):
  """A log-density of 0 over 784 pixels of 256 levels is 8 bits/dim."""
  drawn, draw = [], plots.likelihood_histograms
  monkeypatch.setattr(plots, 'likelihood_histograms', lambda *arguments: drawn.append(arguments) or draw(*arguments))
  study = outliers()
  Outliers().figures([summary('mle', studies={'outliers': study})])
  [(edges, counts, unit)] = drawn
  assert unit == 'bits/dim' and list(counts) == ['train', 'test']
  for name, found in counts.items():
    middle = np.average((edges[:-1] + edges[1:]) / 2, weights=found)
    assert middle == pytest.approx(8 - study.arrays[name].mean() / (784 * np.log(2)), abs=1e-4)


def test_the_sets_hold_the_images_that_their_names_say(subject, tmp_path, monkeypatch):
  path, seen = write_images(tmp_path / 'other.npz', count=50), []

  def measured(_, images, __):
    seen.append(images)
    return np.column_stack([np.arange(len(images), dtype=float)] * 2)

  monkeypatch.setattr(STATISTICS, measured)
  measure(subject, images=10, seed=7, other_dataset=path)
  *sets, rotated, inverted, constant, noise = seen
  for images, part in zip(sets, (subject.dataset.train, subject.dataset.test, data.load(path).test), strict=True):
    same = (np.floor(256 * images)[:, np.newaxis] == part.images).all(axis=(2, 3, 4))
    assert same.any(axis=1).all()
  np.testing.assert_array_equal(sets[1], subject.images('test', 10, 7))
  assert scipy.stats.kstest(noise.ravel(), 'uniform').pvalue > 1e-3
  tested = np.floor(256 * sets[1][1::2])
  np.testing.assert_array_equal(np.floor(256 * rotated)[:, 0, 0], tested[:, 0, -1])
  np.testing.assert_array_equal(np.floor(256 * inverted), 255 - tested)
  assert len(np.unique(np.floor(256 * constant[0]))) == 1 and len(np.unique(np.floor(256 * constant))) > 1
