import math

import numpy as np
import pytest
from scipy import stats

from flowgan_tf.metrics.standard_errors import standard_error

VALUES = np.random.default_rng(0).normal(-3.0, 2.0, (5, 4, 3))


def test_all_values_by_hand():
  """Mean 3; the squared deviations 4, 1, 9 sum to 14, over n - 1 = 2 and n = 3."""
  assert standard_error([1.0, 2.0, 6.0]) == pytest.approx(math.sqrt(14 / 2 / 3), rel=1e-15)
  assert type(standard_error([1, 2, 6])) is float


def test_all_values_are_scipys_sem_of_the_flat_array():
  assert standard_error(VALUES) == pytest.approx(stats.sem(VALUES, axis=None), rel=1e-14)


@pytest.mark.parametrize('axis', [0, 1, 2, -1, -3])
def test_one_axis_is_scipys_sem(axis):
  errors = standard_error(VALUES, axis=axis)
  assert errors.dtype == np.float64
  np.testing.assert_allclose(errors, stats.sem(VALUES, axis=axis), rtol=1e-14, strict=True)


@pytest.mark.parametrize('dtype', [np.float16, np.float32])
def test_narrow_types_are_summed_in_float64(dtype):
  """The sum of 10,000 numbers near 100 overflows float16, and their squares lose all digits of a spread of 1."""
  values = (100 + np.random.default_rng(1).normal(size=10_000)).astype(dtype)
  assert standard_error(values) == pytest.approx(stats.sem(values.astype(np.float64)), rel=1e-12)
  assert standard_error(values[:, np.newaxis], axis=0)[0] == standard_error(values)


def test_fewer_than_two_values_have_none():
  assert math.isnan(standard_error([2.5])) and math.isnan(standard_error([]))
  for shape, axis in (((1, 3), 0), ((2, 1, 4), -2), ((0, 3), 0)):
    errors = standard_error(np.ones(shape), axis=axis)
    np.testing.assert_array_equal(errors, np.full(np.delete(shape, axis), np.nan), strict=True)


def test_equal_values_have_an_error_of_zero():
  assert standard_error(np.full(7, 0.5)) == 0.0
