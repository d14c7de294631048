"""An MLP-Mixer over the patches of an image."""

import functools
from typing import Any

import keras
from keras import ops

from flowgan_tf.networks.fused import gelu
from flowgan_tf.networks.patches import Block, PatchConditioner


class MixerBlock(Block):
  """A block that mixes the patches of each feature by a perceptron."""

  def __init__(self, patch_units: int, hidden_units: int, **kwargs: Any):
    super().__init__(hidden_units, **kwargs)
    self._patch_units = patch_units

  def _build_mixing(self, patches, width):
    weights = {'initializer': 'glorot_uniform'}
    self._up = self.add_weight(shape=(self._patch_units, patches), name='patch_kernel_1', **weights)
    self._up_bias = self.add_weight(shape=(self._patch_units, 1), initializer='zeros', name='patch_bias_1')
    self._down = self.add_weight(shape=(patches, self._patch_units), name='patch_kernel_2', **weights)
    self._down_bias = self.add_weight(shape=(patches, 1), initializer='zeros', name='patch_bias_2')

  def _mix(self, features, patches, width):
    y = ops.reshape(features, (patches, -1))
    y = gelu(ops.matmul(self._up, y) + self._up_bias)
    y = ops.matmul(self._down, y) + self._down_bias
    return ops.reshape(y, (-1, width))


@keras.saving.register_keras_serializable(package='flowgan_tf')
class MixerConditioner(PatchConditioner):
  """An MLP-Mixer over the patches of an image, whose output is zero until it is trained.

  ```none
  h = patches(x / 4) E + e;   `blocks` times:  h = h + V_p gelu(U_p norm(h)),   h = h + gelu(norm(h) U_f) V_f
  y = images(norm(h) F)
  ```

  `e` are learned positions of the patches, each product also adds a bias, norm is a `LastAxisNormalization`, and gelu
  is approximated by a tanh. The paper has no positions, and one output for the mean over the patches instead of one for
  each patch.

  Source: Ilya Tolstikhin et al. MLP-Mixer: An all-MLP Architecture for Vision. NeurIPS 2021.
  """

  def __init__(
    self,
    output_channels: int,
    patch_size: int = 4,
    width: int = 128,
    blocks: int = 1,
    patch_units: int = 128,
    hidden_units: int = 256,
    dtype: str = 'float32',
    **kwargs: Any,
  ):
    """Builds the network.

    Args:
      output_channels: Channels of the changed part for an additive coupling, twice as many for an affine one.
      patch_size: Height and width of a patch, a divisor of the image's height and width.
      width: Features of each patch.
      blocks: Number of blocks.
      patch_units: Size between `U_p` and `V_p`, which mix patches.
      hidden_units: Size between `U_f` and `V_f`, which mix features.
      dtype: Name of a Keras dtype policy.
      **kwargs: Further arguments of `keras.layers.Layer`.
    """
    block = functools.partial(MixerBlock, patch_units, hidden_units, dtype=dtype)
    super().__init__(block, output_channels, patch_size, width, blocks, dtype, **kwargs)
    self.patch_units, self.hidden_units = patch_units, hidden_units

  def get_config(self):
    return super().get_config() | {'patch_units': self.patch_units, 'hidden_units': self.hidden_units}
