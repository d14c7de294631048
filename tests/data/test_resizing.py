import numpy as np
import pytest

from flowgan_tf.data.resizing import crop_and_resize, log_resizing


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(('height', 'width', 'top', 'left'), [(6, 6, 0, 0), (6, 9, 0, 1), (11, 6, 2, 0)])
def test_of_an_image_of_that_height_or_width_the_middle_is_left(channels, height, width, top, left):
  pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
  found = crop_and_resize(pixels, 6)
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found, pixels[top : top + 6, left : left + 6])


def test_a_ramp_stays_a_ramp_of_the_means():
  """A symmetric filter gives the middle of four pixels of a straight line, apart from its ends."""
  ramp = np.broadcast_to(np.arange(64, dtype=np.uint8) * 3, (64, 64))[..., np.newaxis]
  found = crop_and_resize(ramp, 16)[:, 3:-3, 0].astype(float)
  np.testing.assert_allclose(found, ramp[::4, :, 0].reshape(16, 16, 4).mean(axis=-1)[:, 3:-3], atol=0.51)


def test_fine_stripes_become_grey():
  """Without a filter as wide as the scale, every fourth column would be black, or every one."""
  stripes = np.zeros((64, 64, 3), np.uint8)
  stripes[:, ::2] = 200
  np.testing.assert_allclose(crop_and_resize(stripes, 16)[:, 3:-3], 100, atol=4)


def test_what_lies_beyond_the_square_does_not_count():
  pixels = np.full((8, 16, 1), 255, np.uint8)
  pixels[:, 4:12] = 50
  np.testing.assert_array_equal(crop_and_resize(pixels, 4), np.full((4, 4, 1), 50))


def test_smaller_images_are_enlarged():
  np.testing.assert_array_equal(crop_and_resize(np.full((2, 3, 3), 9, np.uint8), 5), np.full((5, 5, 3), 9))


def test_the_log_names_the_source_and_the_size(caplog):
  with caplog.at_level('INFO', logger='flowgan_tf'):
    log_resizing('photos', 64)
  assert caplog.messages == ['photos: images are cropped to their central square and resized to 64 x 64 (Lanczos).']
