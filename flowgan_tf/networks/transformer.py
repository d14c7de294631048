"""A vision transformer over the patches of an image."""

import functools
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from flowgan_tf.base.errors import check
from flowgan_tf.networks.patches import Block, PatchConditioner


class TransformerBlock(Block):
  """A block that mixes the patches by attention."""

  def __init__(self, heads: int, hidden_units: int, **kwargs: Any):
    super().__init__(hidden_units, **kwargs)
    self._heads = heads

  def _build_mixing(self, patches, width):
    self._query_key_value = self._dense(width, 3 * width)
    self._output = self._dense(width, width)

  def _mix(self, features, patches, width):
    size = width // self._heads
    projected = ops.reshape(self._query_key_value(features), (patches, -1, 3, self._heads, size))
    # Queries, keys and values as [batch, heads, patches, width / heads].
    query, key, value = ops.unstack(ops.transpose(projected, (2, 1, 3, 0, 4)), axis=0, num=3)
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * size**-0.5
    mixed = ops.matmul(tf.nn.softmax(scores), value)  # Keras' softmax warns of an image with a single patch.
    return self._output(ops.reshape(ops.transpose(mixed, (2, 0, 1, 3)), (-1, width)))


@keras.saving.register_keras_serializable(package='flowgan_tf')
class TransformerConditioner(PatchConditioner):
  """A vision transformer over the patches of an image, whose output is zero until it is trained.

  ```none
  h = patches(x / 4) E + e;   `blocks` times:  h = h + attention(norm(h)),   h = h + gelu(norm(h) U) V
  y = images(norm(h) F)
  attention(h) = [softmax(Q_i K_i^T / sqrt(width / heads)) V_i]_i O,   [Q_i, K_i, V_i]_i = h W,   i = 1, ..., heads
  ```

  The other letters are as for a `MixerConditioner`. There is no class token: each patch has an output, as in [2].

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
    **kwargs: Any,
  ):
    """Builds the network. The other arguments mean the same as for a `MixerConditioner`.

    Args:
      width: Features of each patch, a multiple of `heads`.
      heads: Attention heads of each block.
      hidden_units: Size between `U` and `V`.

    Raises:
      UsageError: If `width` is not a multiple of `heads`.
    """
    block = functools.partial(TransformerBlock, heads, hidden_units, dtype=dtype)
    super().__init__(block, output_channels, patch_size, width, blocks, dtype, **kwargs)
    check('width', width, f'a multiple of the number of heads, {heads}', width % heads == 0)
    self.heads, self.hidden_units = heads, hidden_units

  def get_config(self):
    return super().get_config() | {'heads': self.heads, 'hidden_units': self.hidden_units}
