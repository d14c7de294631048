"""Networks over the patches of an image: an MLP-Mixer and a vision transformer."""

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from keras import ops

from flowgan_tf.errors import check, check_integer
from flowgan_tf.networks.fused import gelu
from flowgan_tf.networks.modulation import beside, is_image, split_inputs
from flowgan_tf.networks.normalization import LastAxisNormalization

_LEAST_PIXEL = 1e-4


class Block(keras.layers.Layer):
  """Base of the blocks: mixes the patches `[patches, batch, width]`, then the features of each by a perceptron."""

  def __init__(self, hidden_units: int, **kwargs):
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
    layer = keras.layers.Dense(units, activation, dtype=self.dtype_policy)
    layer.build((None, inputs))
    return layer

  def call(self, h, modulations=(None, None)):
    patches, _, width = h.shape
    first, second = self._norms
    features = ops.reshape(h, (-1, width))
    features = features + self._mix(first(features, modulations[0]), patches, width)
    features = features + self._narrow(self._wide(second(features, modulations[1])))
    return ops.reshape(features, (patches, -1, width))


class MixerBlock(Block):
  """A block that mixes the patches of each feature by a perceptron."""

  def __init__(self, patch_units: int, hidden_units: int, **kwargs):
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


class TransformerBlock(Block):
  """A block that mixes the patches by attention."""

  def __init__(self, heads: int, hidden_units: int, **kwargs):
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
    **kwargs,
  ):
    super().__init__(dtype=dtype, **kwargs)
    self.output_channels, self.patch_size, self.width, self.blocks = output_channels, patch_size, width, blocks
    self._embedding = keras.layers.Dense(width, dtype=dtype)
    self._blocks = [make_block() for _ in range(blocks)]
    self._norm = LastAxisNormalization(dtype=dtype)
    self._last = keras.layers.Dense(patch_size**2 * output_channels, kernel_initializer='zeros', dtype=dtype)

  def build(self, input_shape):
    input_shape, condition_shape = split_inputs(input_shape)
    _, height, width, channels = input_shape
    if is_image(condition_shape):
      channels += condition_shape[-1]
    elif condition_shape is not None:
      # A scale and a shift for each norm: two in each block, and the last one.
      units = 2 * (2 * self.blocks + 1) * self.width
      self._modulation = keras.layers.Dense(units, kernel_initializer='zeros', dtype=self.dtype_policy)
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
      modulations = tf.split(self._modulation(condition), len(modulations), axis=-1)
    h = self._embedding(to_patches(x, self.patch_size)) + self._positions
    for i, block in enumerate(self._blocks):
      h = block(h, modulations[2 * i : 2 * i + 2])
    y = self._last(self._norm(tf.reshape(h, (-1, self.width)), modulations[-1]))
    return from_patches(y, self.patch_size, (height, width, self.output_channels))

  def get_config(self):
    names = 'output_channels', 'patch_size', 'width', 'blocks'
    return super().get_config() | {name: getattr(self, name) for name in names}


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
    **kwargs,
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
    **kwargs,
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


@keras.saving.register_keras_serializable(package='flowgan_tf')
class RemainderConditioner(keras.layers.Layer):
  """Shows a network the pixel that would give each block of an image the mean that the condition asks for.

  The input `x` holds the alpha-logits of an image in which one pixel of each block of N x N is missing, and is 0. The
  condition `c` has the means of the blocks.

  ```none
  r = N^2 (alpha + (1 - 2 alpha) c) - sum of sigmoid(x) over the other pixels of the block
  y = network([x, (c, logit(r) / 4)])
  ```

  The network resizes both images of its condition to the size of `x`.
  """

  def __init__(self, network: keras.layers.Layer, size: int, alpha: float = 0.0, dtype: str = 'float32', **kwargs):
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
