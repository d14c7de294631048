"""Checks, batches and standard errors."""

import hashlib
import math

import numpy as np
import pytest
from scipy import stats

from flowgan_tf.base.errors import UsageError
from flowgan_tf.metrics.arrays import check_images, map_batches, standard_error, weights_hash


def test_images_are_finite_floats_of_any_range():
  images = np.full((3, 2, 2, 1), 7, np.float16)
  assert check_images(images) is images
  bad = np.zeros((3, 2, 2, 1))
  bad[0, 0, 0], bad[2, 1] = np.nan, -np.inf
  for images, message in [
    (np.zeros((2, 4, 3, 1), int), r'floats \[n, height, width, channels\] in \[0, 1\]\. Got: int64 of shape \(2, 4'),
    (np.zeros((2, 4, 3)), r'Got: float64 of shape \(2, 4, 3\)\.$'),
    (bad, r'^`images` must be finite\. Got: 2 of 3 images with NaN or infinity\.$'),
  ]:
    with pytest.raises(UsageError, match=message) as caught:
      check_images(images)
    assert caught.value.argument == 'images'


@pytest.mark.parametrize('n', [1, 4, 9])
def test_batches_are_full_and_results_are_of_all_entries(n):
  sizes = []

  def function(batch):
    sizes.append(len(batch))
    return 2 * batch, batch.sum(axis=1)

  array = np.random.default_rng(n).normal(size=(n, 3))
  doubled, sums = map_batches(function, array, 4)
  np.testing.assert_array_equal(doubled, 2 * array)
  np.testing.assert_array_equal(sums, array.sum(axis=1))
  assert sizes == [4] * -(-n // 4)


@pytest.mark.filterwarnings('error')
def test_standard_errors():
  """Of 1, 2 and 6 the squared deviations from the mean 3 sum to 14, over n - 1 = 2 and n = 3."""
  assert standard_error([1, 2, 6]) == pytest.approx(math.sqrt(14 / 2 / 3), rel=1e-15)
  assert math.isnan(standard_error([2.5])) and math.isnan(standard_error([]))
  # The sum of these overflows float16, and their squares lose all digits of a spread of 1.
  values = (100 + np.random.default_rng(1).normal(size=(100, 100))).astype(np.float16)
  assert standard_error(values) == pytest.approx(stats.sem(values.astype(np.float64), axis=None), rel=1e-12)


def test_the_hash_is_of_all_weights():
  weights = [np.arange(4, dtype=np.float32), np.ones((2, 3))]
  expected = hashlib.sha256(weights[0].tobytes() + weights[1].tobytes()).hexdigest()
  assert weights_hash(weights) == expected[:16]
