import numpy as np
import pytest

from flowgan_tf.metrics.images import check_images


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_floats_of_the_shape_pass(dtype):
  """Without a copy, and also with values outside [0, 1]."""
  images = np.full((2, 4, 3, 1), 7, dtype)
  for shape in ((4, 3, 1), ('height', 'width', 1)):
    assert check_images(images, shape) is images
  np.testing.assert_array_equal(check_images(images.tolist(), (4, 3, 1)), images)


@pytest.mark.parametrize(
  ('images', 'shape', 'message'),
  [
    (np.zeros((2, 4, 3, 1), int), (4, 3, 1), r'^`images` must be floats in \[0, 1\]\. Got: int64\.$'),
    (np.zeros((2, 4, 3)), (4, 3, 1), r'^`images` must have shape \[n, 4, 3, 1\], not empty\. Got: \(2, 4, 3\)\.$'),
    (np.zeros((2, 4, 3, 2)), ('height', 'width', 1), r'shape \[n, height, width, 1\].* Got: \(2, 4, 3, 2\)\.$'),
    (np.zeros((2, 3, 4, 1)), (4, 3, 1), r'Got: \(2, 3, 4, 1\)\.$'),
    (np.zeros((0, 4, 3, 1)), (4, 3, 1), r'not empty\. Got: \(0, 4, 3, 1\)\.$'),
    (np.zeros((2, 4, 0, 1)), ('height', 'width', 'channels'), r'not empty\. Got: \(2, 4, 0, 1\)\.$'),
  ],
)
def test_what_is_refused(images, shape, message):
  with pytest.raises(ValueError, match=message):
    check_images(images, shape)


def test_images_that_are_not_finite_are_counted():
  images = np.zeros((3, 2, 2, 1))
  images[0, 0, 0], images[2, 1] = np.nan, -np.inf
  with pytest.raises(ValueError, match=r'^`images` must be finite\. Got: 2 of 3 images with NaN or infinity\.$'):
    check_images(images, (2, 2, 1))
