import dataclasses

import numpy as np
import pytest
import scipy.stats

from flowgan_tf.errors import UsageError
from flowgan_tf.study.outliers import Outliers
from tests.summaries import outliers, summary
from tests.tiny import write_images


def test_log_densities_of_each_set(subject):
  numbers, arrays = Outliers().measure(subject, Outliers.Settings(images=15))
  assert set(arrays) == {'train', 'test', 'uniform noise'} == set(numbers['sets'])
  expected = subject.run.generator.log_prob(subject.images('test', 15)).numpy()
  np.testing.assert_allclose(arrays['test'], expected, rtol=1e-5, atol=1e-5)
  assert numbers['sets']['test']['auroc'] is None
  # The AUROC is the statistic of Mann and Whitney, over the number of pairs.
  u = scipy.stats.mannwhitneyu(arrays['test'], arrays['uniform noise']).statistic
  assert numbers['sets']['uniform noise']['auroc'] == pytest.approx(u / 15**2)


def test_another_data_set_is_compared(subject, tmp_path):
  other = write_images(tmp_path / 'other.npz', count=50)
  numbers, _ = Outliers().measure(subject, Outliers.Settings(images=10, other_dataset=other))
  assert len(numbers['sets']) == 4 and all(s['n'] <= 10 for s in numbers['sets'].values())


def test_data_that_do_not_fit_are_refused(subject, tmp_path):
  with pytest.raises(UsageError, match=r'`other_dataset` must be another data set .* the same data\.$'):
    Outliers().measure(subject, Outliers.Settings(other_dataset=subject.run.config.dataset))
  with pytest.raises(UsageError, match=r'`other_dataset` must .* of shape \(4, 4, 1\)\. Got: .*, of shape \(5, 4, 1\)'):
    Outliers().measure(subject, Outliers.Settings(other_dataset=write_images(tmp_path / 'o.npz', shape=(5, 4, 1))))


def test_log_densities_that_are_not_finite_name_the_run(subject):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(type(subject), 'log_prob', lambda _, images: np.full(len(images), np.nan))
    with pytest.raises(UsageError, match='run: `log_prob` must be finite'):
      Outliers().measure(subject, Outliers.Settings(images=5))


def test_a_figure_shows_one_run():
  figure = Outliers().figures([summary('mle', studies={'outliers': outliers()})])['outliers']
  assert 'under MLE: train and test.' in figure.alt and 'uniform noise has' in figure.caption
  near = outliers()
  near.arrays['uniform noise'] += 899.0
  drawn = Outliers().figures([dataclasses.replace(summary('mle'), studies={'outliers': near})])['outliers']
  assert 'uniform noise' in drawn.alt and 'Not drawn' not in drawn.caption
