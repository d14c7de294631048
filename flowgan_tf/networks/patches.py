"""What all networks over the patches of an image have in common."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from flowgan_tf.base.errors import check
from flowgan_tf.networks.fused import gelu
from flowgan_tf.networks.layers import Dense
from flowgan_tf.networks.modulation import beside, is_image, joined_shapes, split_inputs
from flowgan_tf.networks.normalization import LastAxisNormalization
from flowgan_tf.networks.pixels import check_patch_size, from_patches, to_patches


class Block(keras.layers.Layer):
  """Base of the blocks: mixes the patches `[patches, batch, width]`, then the features of each by a perceptron."""

  def __init__(self, hidden_units: int, **kwargs: Any):
    super().__init__(**kwargs)
    self._hidden_units = hidden_units

  def build(self, input_shape):
    patches, _, width = input_shape
    self._norms = [LastAxisNormalization(dtype=self.dtype_policy) for _ in range(2)]
    for norm in self._norms:
      norm.build((None, width))
    self._build_mixing(patches, width)
    self._wide = self._dense(width, self._hidden_units, gelu)
    self._narrow = self._dense(self._hidden_units, width)

  def _dense(self, inputs, units, activation=None):
    layer = Dense(units, activation, dtype=self.dtype_policy)
    layer.build((None, inputs))
    return layer

  def call(self, h, modulations=(None, None)):
    patches, _, width = h.shape
    first, second = self._norms
    features = ops.reshape(h, (-1, width))
    features = features + self._mix(first(features, modulations[0]), patches, width)
    features = features + self._narrow(self._wide(second(features, modulations[1])))
    return ops.reshape(features, (patches, -1, width))


class PatchConditioner(keras.layers.Layer):
  """Base of both networks, which map images `[batch, height, width, channels]` to `[..., output_channels]`.

  They also map a list of images and conditions. A vector `[batch, d]` scales and shifts the output of each norm, as
  in a `Modulation`. Images are resized and become further channels of the input.

  The logits of pixels lie within +-16. They are divided by 4, so that the first layer sees numbers of order 1.
  """

  def __init__(
    self,
    make_block: Callable[[], keras.layers.Layer],
    output_channels: int,
    patch_size: int,
    width: int,
    blocks: int,
    dtype: str,
    **kwargs: Any,
  ):
    super().__init__(dtype=dtype, **kwargs)
    self.output_channels, self.patch_size, self.width, self.blocks = output_channels, patch_size, width, blocks
    self._embedding = Dense(width, dtype=dtype)
    self._blocks = [make_block() for _ in range(blocks)]
    self._norm = LastAxisNormalization(dtype=dtype)
    self._last = Dense(patch_size**2 * output_channels, kernel_initializer='zeros', dtype=dtype)

  def build(self, input_shape):
    (_, height, width, channels), condition_shape = joined_shapes(input_shape)
    if condition_shape is not None:
      # A scale and a shift for each norm: two in each block, and the last one.
      units = 2 * (2 * self.blocks + 1) * self.width
      self._modulation = Dense(units, kernel_initializer='zeros', dtype=self.dtype_policy)
      self._modulation.build(condition_shape)
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

  def call(self, inputs):
    x, condition = split_inputs(inputs)
    _, height, width, _ = x.shape
    x, modulations = x * 0.25, [None] * (2 * self.blocks + 1)
    if condition is not None and is_image(condition.shape):
      x = beside(x, condition)
    elif condition is not None:
      check('condition', 'one', 'None, as in the first call of the network', hasattr(self, '_modulation'))
      modulations = tf.split(self._modulation(condition), len(modulations), axis=-1)
    h = self._embedding(to_patches(x, self.patch_size)) + self._positions
    for i, block in enumerate(self._blocks):
      h = block(h, modulations[2 * i : 2 * i + 2])
    y = self._last(self._norm(tf.reshape(h, (-1, self.width)), modulations[-1]))
    return from_patches(y, self.patch_size, (height, width, self.output_channels))

  def get_config(self):
    names = 'output_channels', 'patch_size', 'width', 'blocks'
    return super().get_config() | {name: getattr(self, name) for name in names}
