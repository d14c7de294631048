"""The vision-transformer conditioner: attention between the patches of an image."""

from __future__ import annotations

import keras
from keras import ops

from flowgan_tf.arguments import check_integer
from flowgan_tf.networks.normalization import LastAxisNormalization
from flowgan_tf.networks.patches import PatchConditioner

__all__ = ['TransformerBlock', 'TransformerConditioner']


@keras.saving.register_keras_serializable(package='flowgan_tf')
class TransformerBlock(keras.layers.Layer):
  """Attention between patches, then a multilayer perceptron on each patch.

  ```none
  h = h + attention(norm(h)),   h = h + gelu(norm(h) U) V
  ```

  Input and output have shape `[patches, batch, width]`.

  #### References

  [1]: Alexey Dosovitskiy et al. An Image is Worth 16x16 Words. ICLR 2021.
  """

  def __init__(self, heads: int, hidden_units: int, **kwargs):
    """Builds the block.

    Args:
      heads: Number of attention heads, which must divide the width.
      hidden_units: Hidden units of the perceptron.
      **kwargs: Arguments of `keras.layers.Layer`, such as `dtype`.
    """
    super().__init__(**kwargs)
    self.heads, self.hidden_units = heads, hidden_units

  def build(self, input_shape):
    *_, width = input_shape
    dtype = self.dtype_policy
    self._norms = [LastAxisNormalization(dtype=dtype) for _ in range(2)]
    self._query_key_value = keras.layers.Dense(3 * width, dtype=dtype)
    self._output = keras.layers.Dense(width, dtype=dtype)
    self._wide = keras.layers.Dense(self.hidden_units, activation=ops.gelu, dtype=dtype)
    self._narrow = keras.layers.Dense(width, dtype=dtype)
    for layer in (*self._norms, self._query_key_value, self._output, self._wide):
      layer.build((None, width))
    self._narrow.build((None, self.hidden_units))

  def call(self, h):
    patches, _, width = h.shape
    first, second = self._norms
    features = ops.reshape(h, (-1, width))
    projected = ops.reshape(self._query_key_value(first(features)), (patches, -1, 3, self.heads, width // self.heads))
    # Queries, keys and values as [batch, heads, patches, width / heads].
    query, key, value = ops.unstack(ops.transpose(projected, (2, 1, 3, 0, 4)), axis=0, num=3)
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * (width // self.heads) ** -0.5
    mixed = ops.matmul(ops.softmax(scores), value)
    features = features + self._output(ops.reshape(ops.transpose(mixed, (2, 0, 1, 3)), (-1, width)))
    features = features + self._narrow(self._wide(second(features)))
    return ops.reshape(features, (patches, -1, width))

  def get_config(self):
    return {**super().get_config(), 'heads': self.heads, 'hidden_units': self.hidden_units}


@keras.saving.register_keras_serializable(package='flowgan_tf')
class TransformerConditioner(PatchConditioner):
  """A vision transformer over the patches of an image, whose output is zero until it is trained.

  The blocks of `PatchConditioner` are `TransformerBlock`s.

  #### References

  [1]: Alexey Dosovitskiy et al. An Image is Worth 16x16 Words. ICLR 2021.
  [2]: Alexander Kolesnikov, André Susano Pinto, Michael Tschannen. Jet: A Modern Transformer-Based Normalizing Flow.
       2024.
  """

  def __init__(
    self,
    output_channels: int,
    patch_size: int = 4,
    width: int = 128,
    blocks: int = 1,
    heads: int = 4,
    hidden_units: int = 256,
    dtype: str = 'float32',
    **kwargs,
  ):
    """Builds the network.

    Args:
      output_channels: Channels of the output: those of the event for an additive coupling, twice that for an affine
        one.
      patch_size: Height and width of a patch, which must divide those of the image.
      width: Features of each patch.
      blocks: Number of blocks.
      heads: Attention heads of each block, which must divide `width`.
      hidden_units: Hidden units of each block's perceptron.
      dtype: Name of a Keras dtype policy: 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16'.
      **kwargs: Further arguments of `keras.layers.Layer`.

    Raises:
      ValueError: If an argument is out of range.
    """
    check_integer('heads', heads, 1)
    check_integer('hidden_units', hidden_units, 1)
    if width % heads:
      raise ValueError(f'`width` must be a multiple of the number of heads, {heads}. Got: {width}.')
    self.heads, self.hidden_units = heads, hidden_units
    super().__init__(output_channels, patch_size, width, blocks, dtype, **kwargs)

  def _block(self, dtype):
    return TransformerBlock(self.heads, self.hidden_units, dtype=dtype)

  def get_config(self):
    return {**super().get_config(), 'heads': self.heads, 'hidden_units': self.hidden_units}
