"""The vision-transformer conditioner: attention between the patches of an image."""

from __future__ import annotations

import functools

import keras
import tensorflow as tf
from keras import ops

from flowgan_tf.errors import check
from flowgan_tf.networks.fused import gelu
from flowgan_tf.networks.normalization import LastAxisNormalization
from flowgan_tf.networks.patches import PatchConditioner

__all__ = ['TransformerBlock', 'TransformerConditioner']


@keras.saving.register_keras_serializable(package='flowgan_tf')
class TransformerBlock(keras.layers.Layer):
  """Attention between patches, then a multilayer perceptron on each patch.

  ```none
  h = h + attention(norm(h)),   h = h + gelu(norm(h) U) V
  attention(h) = [softmax(Q_i K_i^T / sqrt(width / heads)) V_i]_i O,   [Q_i, K_i, V_i]_i = h W,   i = 1, ..., heads
  ```

  Input and output have shape `[patches, batch, width]`. `heads` must divide the width, and `hidden_units` is the size
  between `U` and `V`. Each product with `U`, `V`, `O` or `W` also adds a bias, norm is a `LastAxisNormalization`, and
  gelu is approximated by a tanh.

  #### References

  [1]: Alexey Dosovitskiy et al. An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale. ICLR 2021,
       section 3.1 and appendix A.
  """

  def __init__(self, heads: int, hidden_units: int, **kwargs):
    super().__init__(**kwargs)
    self.heads, self.hidden_units = heads, hidden_units

  def build(self, input_shape):
    *_, width = input_shape
    dtype = self.dtype_policy
    self._norms = [LastAxisNormalization(dtype=dtype) for _ in range(2)]
    self._query_key_value = keras.layers.Dense(3 * width, dtype=dtype)
    self._output = keras.layers.Dense(width, dtype=dtype)
    self._wide = keras.layers.Dense(self.hidden_units, activation=gelu, dtype=dtype)
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
    mixed = ops.matmul(tf.nn.softmax(scores), value)  # Keras' softmax warns of an image with a single patch.
    features = features + self._output(ops.reshape(ops.transpose(mixed, (2, 0, 1, 3)), (-1, width)))
    features = features + self._narrow(self._wide(second(features)))
    return ops.reshape(features, (patches, -1, width))

  def get_config(self):
    return {**super().get_config(), 'heads': self.heads, 'hidden_units': self.hidden_units}


@keras.saving.register_keras_serializable(package='flowgan_tf')
class TransformerConditioner(PatchConditioner):
  """A vision transformer over the patches of an image, whose output is zero until it is trained.

  ```none
  h = patches(x / 4) E + e;   repeated:  h = block(h);   y = images(norm(h) F)
  ```

  The blocks are `TransformerBlock`s, `e` are learned positions of the patches, and each product also adds a bias. There
  is no class token: each patch has an output, as in [2].

  #### Examples

  ```python
  mask = fg.bijectors.masks.rows((32, 32, 3))
  net = fg.networks.TransformerConditioner(3, patch_size=4)
  coupling = fg.bijectors.AdditiveCoupling(net, mask)
  ```

  #### References

  [1]: Alexey Dosovitskiy et al. An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale. ICLR 2021.
  [2]: Alexander Kolesnikov, André Susano Pinto, Michael Tschannen. Jet: A Modern Transformer-Based Normalizing Flow.
       2024. https://arxiv.org/abs/2412.15129
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
      width: Features of each patch, a multiple of `heads`.
      blocks: Number of blocks.
      heads: Attention heads of each block.
      hidden_units: Hidden units of each block's perceptron.
      dtype: Name of a Keras dtype policy: 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16'.
      **kwargs: Further arguments of `keras.layers.Layer`.

    Raises:
      UsageError: If `width` is not a multiple of `heads`.
    """
    block = functools.partial(TransformerBlock, heads, hidden_units, dtype=dtype)
    super().__init__(block, output_channels, patch_size, width, blocks, dtype, **kwargs)
    check('width', width, f'a multiple of the number of heads, {heads}', width % heads == 0)
    self.heads, self.hidden_units = heads, hidden_units

  def get_config(self):
    return {**super().get_config(), 'heads': self.heads, 'hidden_units': self.hidden_units}
