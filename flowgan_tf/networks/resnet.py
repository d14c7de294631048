"""The residual convolutional conditioner, the network of Real-NVP."""

from __future__ import annotations

import keras
from keras import ops

from flowgan_tf.networks.normalization import normalization as make_normalization

__all__ = ['ResidualConditioner', 'WeightNormConv2D']


@keras.saving.register_keras_serializable(package='flowgan_tf')
class WeightNormConv2D(keras.layers.Layer):
  """Convolution whose kernel has a learned norm per output channel: `w = g v / |v|`.

  Stride 1, zero padding to the size of the input, and a bias.

  #### References

  [1]: Tim Salimans, Diederik P. Kingma. Weight Normalization. NeurIPS 2016.
  """

  def __init__(
    self, filters: int, kernel_size: int, gain_initializer: str | keras.initializers.Initializer = 'ones', **kwargs
  ):
    """Builds the layer.

    Args:
      filters: Number of output channels.
      kernel_size: Height and width of the kernel.
      gain_initializer: Initializer of `g`. With 'zeros' the layer returns zero until it is trained.
      **kwargs: Arguments of `keras.layers.Layer`, such as `dtype`.
    """
    super().__init__(**kwargs)
    self.filters, self.kernel_size = filters, kernel_size
    self.gain_initializer = keras.initializers.get(gain_initializer)

  def build(self, input_shape):
    shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
    # Never autocast: in float16 the squares of a short direction vanish, and those of a long one overflow.
    self.direction = self.add_weight(shape=shape, initializer='he_normal', name='direction', autocast=False)
    self.gain = self.add_weight(shape=(self.filters,), initializer=self.gain_initializer, name='gain', autocast=False)
    self.bias = self.add_weight(shape=(self.filters,), initializer='zeros', name='bias')

  def call(self, x):
    norm = ops.sqrt(ops.sum(ops.square(self.direction), axis=(0, 1, 2)) + 1e-12)
    kernel = self.direction * (self.gain / norm)
    return ops.conv(x, ops.cast(kernel, self.compute_dtype), padding='same') + self.bias

  def get_config(self):
    return {
      **super().get_config(),
      'filters': self.filters,
      'kernel_size': self.kernel_size,
      'gain_initializer': keras.initializers.serialize(self.gain_initializer),
    }


@keras.saving.register_keras_serializable(package='flowgan_tf')
class ResidualConditioner(keras.layers.Layer):
  """Residual network of 3x3 convolutions whose output is zero until it is trained.

  ```none
  h = conv(x);   repeated:  h = h + conv(relu(norm(conv(relu(norm(h))))));   y = conv1x1(relu(norm(h)))
  ```

  All convolutions are weight-normalised.

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017, section 3.7.
  """

  def __init__(
    self,
    output_channels: int,
    channels: int = 64,
    blocks: int = 8,
    normalization: str = 'layer',
    dtype: str = 'float32',
    **kwargs,
  ):
    """Builds the network.

    Args:
      output_channels: Channels of the output: those of the changed part of an additive coupling, twice that of an
        affine one.
      channels: Channels of every hidden layer.
      blocks: Number of residual blocks of two convolutions.
      normalization: A key of `NORMALIZATIONS`.
      dtype: Name of a Keras dtype policy: 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16'.
      **kwargs: Further arguments of `keras.layers.Layer`.

    Raises:
      ValueError: If `normalization` is not a key of `NORMALIZATIONS`.
    """
    super().__init__(dtype=dtype, **kwargs)
    self.output_channels, self.channels, self.blocks = output_channels, channels, blocks
    self.normalization = normalization
    self._first = WeightNormConv2D(channels, 3, dtype=dtype)
    self._blocks = [
      keras.Sequential(
        [
          make_normalization(normalization, dtype),
          keras.layers.ReLU(dtype=dtype),
          WeightNormConv2D(channels, 3, dtype=dtype),
          make_normalization(normalization, dtype),
          keras.layers.ReLU(dtype=dtype),
          WeightNormConv2D(channels, 3, dtype=dtype),
        ]
      )
      for _ in range(blocks)
    ]
    self._last = keras.Sequential(
      [
        make_normalization(normalization, dtype),
        keras.layers.ReLU(dtype=dtype),
        WeightNormConv2D(output_channels, 1, gain_initializer='zeros', dtype=dtype),
      ]
    )

  def build(self, input_shape):
    # Keras restores weights only into sublayers that exist by then.
    self._first.build(input_shape)
    hidden_shape = (*input_shape[:-1], self.channels)
    for part in (*self._blocks, self._last):
      part.build(hidden_shape)

  def call(self, x, training=False):
    h = self._first(x)
    for block in self._blocks:
      h = h + block(h, training=training)
    return self._last(h, training=training)

  def get_config(self):
    return {
      **super().get_config(),
      'output_channels': self.output_channels,
      'channels': self.channels,
      'blocks': self.blocks,
      'normalization': self.normalization,
    }
