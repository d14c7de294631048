import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks import MixerConditioner
from flowgan_tf.networks.patches import from_patches, to_patches


def test_patches_come_row_by_row_and_fit_together_again():
  images = tf.reshape(tf.range(2 * 4 * 6 * 3), (2, 4, 6, 3))
  patches = to_patches(images, 2)
  assert patches.shape == (6, 2, 12)
  for n in range(2):
    for row in range(2):
      for column in range(3):
        block = images[n, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(patches[3 * row + column, n], np.ravel(block))
  np.testing.assert_array_equal(from_patches(patches, 2, (4, 6, 3)), images)


@pytest.mark.parametrize('name, value', [('patch_size', 0), ('width', 2.5), ('blocks', 0), ('patch_size', True)])
def test_arguments_are_checked(name, value):
  with pytest.raises(ValueError, match=f'`{name}` must be an integer of at least 1'):
    MixerConditioner(1, **{name: value})


def test_a_patch_must_divide_the_image():
  with pytest.raises(ValueError, match=r'`patch_size` must divide height and width, 4 and 6. Got: 4.'):
    MixerConditioner(1, patch_size=4).build((None, 4, 6, 1))
