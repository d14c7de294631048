"""Images divided into squares of pixels, and put together again."""

from collections.abc import Sequence

import tensorflow as tf

from flowgan_tf.base.errors import check, check_integer

__all__ = ['check_patch_size', 'depth_to_space', 'from_patches', 'space_to_depth', 'to_patches']


def check_patch_size(patch_size: int, height: int, width: int) -> None:
  """Checks that square patches of this size cover the image exactly."""
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


def space_to_depth(x: tf.Tensor, size: int) -> tf.Tensor:
  """Turns each square block of pixels into the channels of one: `[..., h, w, c] -> [..., h/s, w/s, s s c]`.

  TensorFlow's own operation, and its inverse, lack some dtypes on a GPU.
  """
  if size == 1:
    return x
  height, width, channels = _image_shape(x)
  blocks = tf.reshape(x, (-1, height // size, size, width // size, size, channels))
  shape = height // size, width // size, size**2 * channels
  return tf.reshape(tf.transpose(blocks, (0, 1, 3, 2, 4, 5)), tf.concat([tf.shape(x)[:-3], shape], axis=0))


def depth_to_space(x: tf.Tensor, size: int) -> tf.Tensor:
  """The inverse of `space_to_depth`: `[..., h, w, s s c] -> [..., s h, s w, c]`."""
  if size == 1:
    return x
  height, width, channels = _image_shape(x)
  blocks = tf.reshape(x, (-1, height, width, size, size, channels // size**2))
  shape = height * size, width * size, channels // size**2
  return tf.reshape(tf.transpose(blocks, (0, 1, 3, 2, 4, 5)), tf.concat([tf.shape(x)[:-3], shape], axis=0))


def _image_shape(x):
  """The last three dimensions: numbers, or scalar tensors where they are unknown."""
  static = [None] * 3 if x.shape.rank is None else x.shape[-3:]
  return [tf.shape(x)[i - 3] if size is None else size for i, size in enumerate(static)]
