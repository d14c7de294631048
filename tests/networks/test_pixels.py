"""Images divided into squares of pixels."""

import numpy as np
import tensorflow as tf

from flowgan_tf.networks.pixels import from_patches, to_patches


def test_patches_come_row_by_row_and_fit_together_again():
  images = tf.reshape(tf.range(2 * 4 * 6 * 3), (2, 4, 6, 3))
  patches = to_patches(images, 2)
  assert patches.shape == (6, 2, 12)
  for n, row, column in np.ndindex(2, 2, 3):
    block = images[n, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
    np.testing.assert_array_equal(patches[3 * row + column, n], np.ravel(block))
  np.testing.assert_array_equal(from_patches(patches, 2, (4, 6, 3)), images)
