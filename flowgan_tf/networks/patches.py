"""Networks over the patches of an image, for couplings whose masks keep the image's shape."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from flowgan_tf.arguments import check_integer
from flowgan_tf.networks.normalization import LastAxisNormalization

__all__ = ['PatchConditioner', 'from_patches', 'to_patches']


class PatchConditioner(keras.layers.Layer):
  """Base of the networks that see an image as patches, and return zero until they are trained.

  ```none
  h = patches(x / 4) E + e;   h = block(h), repeated;   y = images(norm(h) F + f)
  ```

  The logits of pixels lie within +-16. The division brings them to the scale of the learned positions `e`. A subclass
  says what a block is.
  """

  def __init__(
    self,
    output_channels: int,
    patch_size: int,
    width: int,
    blocks: int,
    dtype: str,
    **kwargs,
  ):
    """Builds the network.

    Args:
      output_channels: Channels of the output.
      patch_size: Height and width of a patch, which must divide those of the image.
      width: Features of each patch.
      blocks: Number of blocks.
      dtype: Name of a Keras dtype policy: 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16'.
      **kwargs: Further arguments of `keras.layers.Layer`.

    Raises:
      ValueError: If an argument is out of range.
    """
    super().__init__(dtype=dtype, **kwargs)
    for name, value in {'patch_size': patch_size, 'width': width, 'blocks': blocks}.items():
      check_integer(name, value, 1)
    self.output_channels, self.patch_size, self.width, self.blocks = output_channels, patch_size, width, blocks
    self._embedding = keras.layers.Dense(width, dtype=dtype)
    self._blocks = [self._block(dtype) for _ in range(blocks)]
    self._norm = LastAxisNormalization(dtype=dtype)
    self._last = keras.layers.Dense(patch_size**2 * output_channels, kernel_initializer='zeros', dtype=dtype)

  def _block(self, dtype: str) -> keras.layers.Layer:
    """Returns a new block, which maps `[patches, batch, width]` to the same shape."""
    raise NotImplementedError

  def build(self, input_shape):
    _, height, width, channels = input_shape
    if height % self.patch_size or width % self.patch_size:
      raise ValueError(f'`patch_size` must divide height and width, {height} and {width}. Got: {self.patch_size}.')
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
    patches = to_patches(x * 0.25, self.patch_size)
    h = self._embedding(patches) + tf.convert_to_tensor(self._positions)
    for block in self._blocks:
      h = block(h)
    y = self._last(self._norm(tf.reshape(h, (-1, self.width))))
    return from_patches(y, self.patch_size, (height, width, self.output_channels))

  def get_config(self):
    names = ('output_channels', 'patch_size', 'width', 'blocks')
    return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def to_patches(images: tf.Tensor, patch_size: int) -> tf.Tensor:
  """Divides images into square patches: `[b, h, w, c] -> [h/p w/p, b, p p c]`.

  The patches come first, so that products that mix patches are products of two matrices, as those that mix features
  are. Tensors as wide as the network need not be transposed.
  """
  _, height, width, channels = images.shape
  rows, columns = height // patch_size, width // patch_size
  x = tf.reshape(images, (-1, rows, patch_size, columns, patch_size, channels))
  return tf.reshape(tf.transpose(x, (1, 3, 0, 2, 4, 5)), (rows * columns, -1, patch_size**2 * channels))


def from_patches(patches: tf.Tensor, patch_size: int, image_shape: Sequence[int]) -> tf.Tensor:
  """Puts images of `image_shape` together again: the inverse of `to_patches`."""
  height, width, channels = image_shape
  rows, columns = height // patch_size, width // patch_size
  x = tf.reshape(patches, (rows, columns, -1, patch_size, patch_size, channels))
  return tf.reshape(tf.transpose(x, (2, 0, 3, 1, 4, 5)), (-1, height, width, channels))
