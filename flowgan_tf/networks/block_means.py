"""A network that is shown the pixels which are missing from the means of blocks."""

from typing import Any

import keras
from keras import ops

_LEAST_PIXEL = 1e-4


@keras.saving.register_keras_serializable(package='flowgan_tf')
class BlockMeanConditioner(keras.layers.Layer):
  """Shows a network the pixel that would give each block of an image the mean that the condition asks for.

  The input `x` holds the alpha-logits of an image in which one pixel of each block of N x N is missing, and is 0. The
  condition `c` has the means of the blocks.

  ```none
  r = N^2 (alpha + (1 - 2 alpha) c) - sum of sigmoid(x) over the other pixels of the block
  y = network([x, (c, logit(r) / 4)])
  ```

  The network resizes both images of its condition to the size of `x`.
  """

  def __init__(self, network: keras.layers.Layer, size: int, alpha: float = 0.0, dtype: str = 'float32', **kwargs: Any):
    """Takes the network, N and alpha; `dtype` should be the flow's: `r` is a small difference of large numbers."""
    super().__init__(dtype=dtype, **kwargs)
    self.network, self.size, self.alpha = network, size, alpha

  def build(self, input_shape):
    shape, (*front, channels) = input_shape
    if not self.network.built:  # A copy is.
      self.network.build([shape, (*front, 2 * channels)])

  def call(self, inputs):
    x, condition = inputs
    area = self.size**2
    others = area * ops.average_pool(ops.sigmoid(x), self.size, self.size, data_format='channels_last') - 0.5
    total = area * (self.alpha + (1 - 2 * self.alpha) * condition)
    missing = ops.clip(total - others, _LEAST_PIXEL, 1 - _LEAST_PIXEL)
    logit = ops.log(missing) - ops.log1p(-missing)
    return self.network([x, ops.concatenate([condition, 0.25 * logit], axis=-1)])

  def get_config(self):
    network = keras.saving.serialize_keras_object(self.network)
    return super().get_config() | {'network': network, 'size': self.size, 'alpha': self.alpha}

  @classmethod
  def from_config(cls, config):
    return cls(keras.saving.deserialize_keras_object(config.pop('network')), **config)
