import numpy as np
import pytest

from flowgan_tf.metrics.samples import sample_health


def test_by_hand():
  """Three samples of 2 x 1 pixels."""
  images = np.array([[0.0, 0.2], [0.5, 0.5], [1.0, 0.8]]).reshape(3, 2, 1, 1)
  health = sample_health(images)
  assert health['saturated'] == pytest.approx(2 / 6)
  assert health['non_finite'] == 0.0
  # Population standard deviations of the two pixels: sqrt(1/6) and sqrt(0.06).
  assert health['sample_std'] == pytest.approx((np.sqrt(1 / 6) + np.sqrt(0.06)) / 2)


@pytest.mark.parametrize(
  ('value', 'saturated'), [(-3.0, 1), (0.0, 1), (5e-7, 1), (2e-6, 0), (1 - 2e-6, 0), (1 - 5e-7, 1), (7.0, 1)]
)
def test_saturation_is_at_and_beyond_the_borders(value, saturated):
  assert sample_health(np.full((2, 2, 2, 1), value))['saturated'] == saturated


def test_samples_that_are_all_alike_have_no_spread():
  images = np.repeat(np.random.default_rng(0).random((1, 4, 4, 3)), 10, axis=0)
  assert sample_health(images)['sample_std'] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_non_finite_pixels_are_counted_and_do_not_spread(bad):
  images = np.full((4, 2, 2, 1), 0.5)
  images[0, 0, 0, 0] = images[2, 1, 1, 0] = bad
  assert sample_health(images) == {'saturated': 0.0, 'non_finite': 2 / 16, 'sample_std': 0.0}


def test_all_non_finite():
  assert sample_health(np.full((4, 2, 2, 1), np.nan)) == {'saturated': 0.0, 'non_finite': 1.0, 'sample_std': 0.0}
