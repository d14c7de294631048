"""The MLP-Mixer conditioner: products of matrices over the patches of an image."""

from __future__ import annotations

import functools

import keras
from keras import ops

from flowgan_tf.networks.fused import gelu
from flowgan_tf.networks.normalization import LastAxisNormalization
from flowgan_tf.networks.patches import PatchConditioner

__all__ = ['MixerBlock', 'MixerConditioner']


@keras.saving.register_keras_serializable(package='flowgan_tf')
class MixerBlock(keras.layers.Layer):
  """Mixes the patches of each feature, then the features of each patch, both by a multilayer perceptron.

  ```none
  h = h + V_p gelu(U_p norm(h)),   h = h + gelu(norm(h) U_f) V_f
  ```

  Input and output have shape `[patches, batch, width]`. `patch_units` is the size between `U_p` and `V_p`, and
  `hidden_units` the size between `U_f` and `V_f`. Each product also adds a bias, norm is a `LastAxisNormalization`, and
  gelu is approximated by a tanh.

  #### References

  [1]: Ilya Tolstikhin et al. MLP-Mixer: An all-MLP Architecture for Vision. NeurIPS 2021, section 2.
  """

  def __init__(self, patch_units: int, hidden_units: int, **kwargs):
    super().__init__(**kwargs)
    self.patch_units, self.hidden_units = patch_units, hidden_units

  def build(self, input_shape):
    patches, _, width = input_shape
    weights = {'initializer': 'glorot_uniform'}
    self._norms = [LastAxisNormalization(dtype=self.dtype_policy) for _ in range(2)]
    for norm in self._norms:
      norm.build((None, width))
    self._up = self.add_weight(shape=(self.patch_units, patches), name='patch_kernel_1', **weights)
    self._up_bias = self.add_weight(shape=(self.patch_units, 1), initializer='zeros', name='patch_bias_1')
    self._down = self.add_weight(shape=(patches, self.patch_units), name='patch_kernel_2', **weights)
    self._down_bias = self.add_weight(shape=(patches, 1), initializer='zeros', name='patch_bias_2')
    self._wide = keras.layers.Dense(self.hidden_units, activation=gelu, dtype=self.dtype_policy)
    self._wide.build((None, width))
    self._narrow = keras.layers.Dense(width, dtype=self.dtype_policy)
    self._narrow.build((None, self.hidden_units))

  def call(self, h):
    patches, _, width = h.shape
    first, second = self._norms
    features = ops.reshape(h, (-1, width))
    y = ops.reshape(first(features), (patches, -1))
    y = gelu(ops.matmul(self._up, y) + self._up_bias)
    y = ops.matmul(self._down, y) + self._down_bias
    features = features + ops.reshape(y, (-1, width))
    features = features + self._narrow(self._wide(second(features)))
    return ops.reshape(features, (patches, -1, width))

  def get_config(self):
    return {**super().get_config(), 'patch_units': self.patch_units, 'hidden_units': self.hidden_units}


@keras.saving.register_keras_serializable(package='flowgan_tf')
class MixerConditioner(PatchConditioner):
  """An MLP-Mixer over the patches of an image, whose output is zero until it is trained.

  ```none
  h = patches(x / 4) E + e;   repeated:  h = block(h);   y = images(norm(h) F)
  ```

  The blocks are `MixerBlock`s, `e` are learned positions of the patches, and each product also adds a bias. The paper
  has no positions, and one output for the mean over the patches instead of one for each patch.

  #### Examples

  ```python
  mask = fg.bijectors.masks.checkerboard((32, 32, 3), size=4)
  net = fg.networks.MixerConditioner(6, patch_size=4)
  coupling = fg.bijectors.AffineCoupling(net, mask)
  ```

  #### References

  [1]: Ilya Tolstikhin et al. MLP-Mixer: An all-MLP Architecture for Vision. NeurIPS 2021.
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
    **kwargs,
  ):
    """Builds the network.

    Args:
      output_channels: Channels of the output: those of the event for an additive coupling, twice that for an affine
        one.
      patch_size: Height and width of a patch, which must divide those of the image.
      width: Features of each patch.
      blocks: Number of blocks.
      patch_units: Hidden units of each block's perceptron that mixes patches.
      hidden_units: Hidden units of each block's perceptron that mixes features.
      dtype: Name of a Keras dtype policy: 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16'.
      **kwargs: Further arguments of `keras.layers.Layer`.
    """
    block = functools.partial(MixerBlock, patch_units, hidden_units, dtype=dtype)
    super().__init__(block, output_channels, patch_size, width, blocks, dtype, **kwargs)
    self.patch_units, self.hidden_units = patch_units, hidden_units

  def get_config(self):
    return {**super().get_config(), 'patch_units': self.patch_units, 'hidden_units': self.hidden_units}
