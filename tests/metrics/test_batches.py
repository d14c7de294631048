import numpy as np
import pytest

from flowgan_tf.metrics.batches import map_batches


@pytest.mark.parametrize('n', [1, 3, 4, 5, 9])
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
