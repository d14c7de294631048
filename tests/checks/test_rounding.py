"""What rounding explains."""

import numpy as np
import pytest

from flowgan_tf.checks.rounding import log_prob_with_allowed


@pytest.mark.parametrize('size', [1, 1000])
@pytest.mark.parametrize('log_prob', [0.0, -1e5])
def test_at_least_the_distance_of_neighbouring_floats_is_allowed(size, log_prob):
  """Also where no rounding of the values moves the log-density, which is a sum over all dimensions."""
  values = np.ones((3, size), np.float32)
  found, allowed = log_prob_with_allowed(lambda x: np.full(len(x), log_prob, np.float32), values)
  np.testing.assert_array_equal(found, [log_prob] * 3)
  least = np.spacing(np.float32(max(size, -log_prob)))
  assert allowed.shape == (3,) and np.all(allowed >= least) and np.all(allowed < 1e-3 * (size - log_prob))
