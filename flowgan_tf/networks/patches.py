"""Networks over the patches of an image, for couplings whose masks keep the image's shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from flowgan_tf.errors import check, check_integer
from flowgan_tf.networks.normalization import LastAxisNormalization

__all__ = ['PatchConditioner', 'check_patch_size', 'from_patches', 'to_patches']


class PatchConditioner(keras.layers.Layer):
  """Base of the networks that see an image as patches, and return zero until they are trained.

  ```none
  h = patches(x / 4) E + e;   repeated:  h = block(h);   y = images(norm(h) F)
  ```

  It maps images `[batch, height, width, channels]` to `[batch, height, width, output_channels]`, and `h` has shape
  `[patches, batch, width]`. All patches share the matrices `E` and `F`, and each product also adds a bias. Each patch
  has a learned position `e`. The logits of pixels lie within +-16. They are divided by 4, so that the first layer sees
  numbers of order 1. A subclass says what a block is.
  """

  def __init__(
    self,
    make_block: Callable[[], keras.Layer],
    output_channels: int,
    patch_size: int,
    width: int,
    blocks: int,
    dtype: str,
    **kwargs,
  ):
    """Builds the network.

    Args:
      make_block: Returns a new block, which maps `[patches, batch, width]` to the same shape.
      output_channels: Channels of the output. The subclasses describe this and the other arguments.

    """
    super().__init__(dtype=dtype, **kwargs)
    self.output_channels, self.patch_size, self.width, self.blocks = output_channels, patch_size, width, blocks
    self._embedding = keras.layers.Dense(width, dtype=dtype)
    self._blocks = [make_block() for _ in range(blocks)]
    self._norm = LastAxisNormalization(dtype=dtype)
    self._last = keras.layers.Dense(patch_size**2 * output_channels, kernel_initializer='zeros', dtype=dtype)

  def build(self, input_shape):
    _, height, width, channels = input_shape
    check_patch_size(self.patch_size, height, width)
    patches = height * width // self.patch_size**2
    # Keras restores weights only into sublayers that exist by then.
    self._embedding.build((None, self.patch_size**2 * channels))
    for block in self._blocks:
      block.build((patches, None, self.width))
    self._norm.build((None, self.width))
    self._last.build((None, self.width))
    initializer = keras.initializers.RandomNormal(stddev=0.02)
    self._positions = self.add_weight(shape=(patches, 1, self.width), initializer=initializer, name='positions')

  def call(self, x):
    _, height, width, _ = x.shape
    h = self._embedding(to_patches(x * 0.25, self.patch_size)) + self._positions
    for block in self._blocks:
      h = block(h)
    y = self._last(self._norm(tf.reshape(h, (-1, self.width))))
    return from_patches(y, self.patch_size, (height, width, self.output_channels))

  def get_config(self):
    return {
      **super().get_config(),
      'output_channels': self.output_channels,
      'patch_size': self.patch_size,
      'width': self.width,
      'blocks': self.blocks,
    }


def check_patch_size(patch_size: int, height: int, width: int) -> None:
  """Checks that square patches of this size cover the image exactly.

  Raises:
    UsageError: If `patch_size` is not a positive integer that divides height and width.
  """
  check_integer('patch_size', patch_size, 1)
  fits = height % patch_size == width % patch_size == 0
  check('patch_size', patch_size, f'a divisor of height and width, {height} and {width}', fits)


def to_patches(images: tf.Tensor, patch_size: int) -> tf.Tensor:
  """Divides images into square patches, row by row: `[b, h, w, c] -> [h/p w/p, b, p p c]`.

  The patches come first. Then mixing patches and mixing features are both products of two matrices, and no tensor as
  wide as the network has to be transposed.
  """
  _, height, width, channels = images.shape
  rows, columns = height // patch_size, width // patch_size
  x = tf.reshape(images, (-1, rows, patch_size, columns, patch_size, channels))
  return tf.reshape(tf.transpose(x, (1, 3, 0, 2, 4, 5)), (rows * columns, -1, patch_size**2 * channels))


def from_patches(patches: tf.Tensor, patch_size: int, image_shape: Sequence[int]) -> tf.Tensor:
  """Puts images of shape `(h, w, c)` together again: the inverse of `to_patches`.

  The first two axes of the patches may be one axis, as after a product with a matrix of features: `[h/p w/p b, p p c]`.
  """
  height, width, channels = image_shape
  rows, columns = height // patch_size, width // patch_size
  x = tf.reshape(patches, (rows, columns, -1, patch_size, patch_size, channels))
  return tf.reshape(tf.transpose(x, (2, 0, 3, 1, 4, 5)), (-1, height, width, channels))
