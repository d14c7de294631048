import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from flowgan_tf.estimators.log_probs import auroc, compare_log_probs

SHAPE = (2, 2, 1)


def log_prob(images):
  """A standard normal at every pixel."""
  return -tf.reduce_sum(tf.square(images), axis=(1, 2, 3)) / 2 - 2 * np.log(2 * np.pi)


def sets(n=600):
  rng = np.random.default_rng(0)
  return {
    'train': rng.normal(size=(n, *SHAPE)).astype(np.float32),
    'other': rng.normal(0, 0.3, size=(n // 2, *SHAPE)).astype(np.float32),
    'noise': rng.normal(0, 200, size=(n // 3, *SHAPE)).astype(np.float32),
  }


def test_numbers_of_each_set():
  images = sets()
  measured = compare_log_probs(log_prob, images)
  assert list(measured) == ['train', 'other', 'noise']
  for name, result in measured.items():
    expected = scipy.stats.norm.logpdf(images[name].astype(float)).sum(axis=(1, 2, 3))
    assert result.log_prob.dtype == np.float64 and result.n == len(images[name])
    np.testing.assert_allclose(result.log_prob, expected, rtol=1e-5)
    assert result.mean == pytest.approx(expected.mean(), rel=1e-5)
    assert result.standard_error == pytest.approx(scipy.stats.sem(expected), rel=1e-4)
  assert np.isnan(compare_log_probs(log_prob, {'one': np.zeros((1, *SHAPE))})['one'].standard_error)


def test_a_density_may_be_higher_elsewhere():
  """Images near the mode are more likely than the model's own, as SVHN is for models of CIFAR-10."""
  measured = compare_log_probs(log_prob, sets())
  assert auroc(measured['train'].log_prob, measured['other'].log_prob) < 0.1
  assert auroc(measured['train'].log_prob, measured['noise'].log_prob) == 1


def test_auroc_is_the_probability_of_the_right_order():
  a, b = [3.0, 1.0, 2.0, 5.0], [2.0, 0.0, 4.0]
  wins = sum((x > y) + 0.5 * (x == y) for x in a for y in b) / 12
  assert auroc(np.array(a), np.array(b)) == pytest.approx(wins)
  rng = np.random.default_rng(0)
  x, y = rng.normal(1, 1, 20_000), rng.normal(0, 1, 20_000)
  assert auroc(x, y) == pytest.approx(scipy.stats.norm.cdf(1 / np.sqrt(2)), abs=0.01)
  assert auroc(y, x) == pytest.approx(1 - auroc(x, y))


def test_what_cannot_be_measured_is_refused():
  with pytest.raises(ValueError, match=r'`images` must hold'):
    compare_log_probs(log_prob, {})
  with pytest.raises(ValueError, match=r"`images` must hold .*'test': 0"):
    compare_log_probs(log_prob, {'test': np.zeros((0, *SHAPE))})
  images = np.zeros((4, *SHAPE))
  images[1] = np.nan
  with pytest.raises(ValueError, match=r"`log_prob` must be finite.* 1 of 4 images of 'noise'"):
    compare_log_probs(log_prob, {'noise': images})
  with pytest.raises(ValueError, match=r'`in_distribution` and `other` must not be empty. Got: 3 and 0'):
    auroc(np.zeros(3), np.zeros(0))
