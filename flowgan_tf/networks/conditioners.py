"""The dense conditioner of NICE, and the residual convolutional conditioners of Real-NVP and of histograms."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from flowgan_tf.base.errors import check_choice, check_integer
from flowgan_tf.networks.layers import add_bias
from flowgan_tf.networks.modulation import ConditionalSequential, Modulation, joined, joined_shapes
from flowgan_tf.networks.normalization import GuardedBatchNormalization, make_normalization
from flowgan_tf.networks.pixels import check_patch_size, depth_to_space, space_to_depth


@keras.saving.register_keras_serializable(package='flowgan_tf')
class Dense(keras.layers.Dense):
  """Keras' dense layer with a bias, which casts its kernel when its input is there. It has no LoRA and no quantization.

  Under a mixed policy, each pass casts the weights of all layers. In a graph, TensorFlow would start with all casts, as
  they depend on no input. A kernel would then have left the processor's cache when its product comes. Small
  kernels, such as Jet's, stay in the cache, and a cast that waits makes Jet slower; so `layers.Dense` does not.
  """

  def add_weight(self, *args, **kwargs):
    return super().add_weight(*args, autocast=False, **kwargs)

  def call(self, inputs, training=None):
    kernel = tf.convert_to_tensor(self.kernel)  # `tf.vectorized_map` fails at some reads that wait.
    with tf.control_dependencies([inputs]):
      kernel = tf.cast(kernel, inputs.dtype)
    return self.activation(add_bias(inputs @ kernel, self.bias))


def dense_conditioner(
  output_units: int,
  hidden_units: int = 1000,
  hidden_layers: int = 6,
  normalization: str = 'layer',
  dtype: str = 'float32',
  initial_weights: str = 'zero_output',
  conditional: bool = False,
  bias_range: float = 0.0,
) -> keras.Sequential | ConditionalSequential:
  """Builds a multilayer perceptron, with a norm before each dense layer and a ReLU after each hidden one.

  The paper's NICE has six hidden layers of 1000 units, `normalization='scalar_batch'` and `initial_weights='paper'`.

  Args:
    output_units: Size of the output vector: the changed part's for an additive coupling, twice that for an affine one.
    hidden_units: Units of each hidden layer.
    hidden_layers: Number of hidden layers.
    normalization: A key of `NORMALIZATIONS`: 'batch' (one mean and variance per feature), 'scalar_batch' (one for all
      features), 'layer' (over the last axis, the same in training and evaluation) or 'none'.
    dtype: Name of a Keras dtype policy.
    initial_weights: 'zero_output' draws the kernels from Glorot's uniform distribution, but starts the last one at
      zero, so that the output is zero until it is trained. 'paper' draws all kernels from a normal distribution with a
      standard deviation of 0.02, truncated at two standard deviations, as the paper's code does.
    conditional: Whether the network also takes a condition. If the condition is a vector, a `Modulation` follows each
      norm. If it is an image, its pixels are appended to the input.
    bias_range: Biases of hidden layers start uniform between minus and plus this. If they are 0, every ReLU of a new
      network bends at the origin, which hinders networks of few inputs. If they are not, 'zero_output' draws
      hidden kernels from LeCun's uniform distribution instead of Glorot's, whose slopes are small in a layer with few
      inputs and many outputs: its ReLUs would bend far outside of the data.

  Returns:
    A model that maps `[batch, units]` to `[batch, output_units]`. A conditional one also takes a list of `[batch,
    units]` and the conditions. It is built when it is first called.

  Raises:
    UsageError: If `normalization` or `initial_weights` is unknown.
  """
  check_choice('initial_weights', initial_weights, ('zero_output', 'paper'))

  def dense(units, usual, activation=None, bias='zeros'):
    # A new initializer for each layer: a Keras initializer gives the same numbers every time.
    initializer = usual if initial_weights == 'zero_output' else keras.initializers.TruncatedNormal(stddev=0.02)
    return Dense(units, activation, kernel_initializer=initializer, bias_initializer=bias, dtype=dtype)

  def norm():
    return [make_normalization(normalization, dtype), *([Modulation(dtype=dtype)] if conditional else [])]

  layers: list[keras.Layer] = []
  kernel = 'lecun_uniform' if bias_range else 'glorot_uniform'
  for _ in range(hidden_layers):
    bias = keras.initializers.RandomUniform(-bias_range, bias_range) if bias_range else 'zeros'
    layers += [*norm(), dense(hidden_units, kernel, 'relu', bias)]
  layers += [*norm(), dense(output_units, 'zeros')]
  return ConditionalSequential(layers, dtype=dtype) if conditional else keras.Sequential(layers)


@keras.saving.register_keras_serializable(package='flowgan_tf')
class WeightNormConv2D(keras.layers.Layer):
  """Convolution with stride 1, padding and a bias, whose kernel has a learned norm per output channel: `w = g v / |v|`.

  Source: Tim Salimans, Diederik P. Kingma. Weight Normalization. NeurIPS 2016.
  """

  def __init__(
    self,
    filters: int,
    kernel_size: int,
    gain_initializer: str | keras.initializers.Initializer = 'ones',
    direction_initializer: str | keras.initializers.Initializer = 'he_normal',
    **kwargs: Any,
  ):
    """Builds the layer.

    Args:
      filters: Number of output channels.
      kernel_size: Height and width of the kernel.
      gain_initializer: Initializer of `g`. With 'zeros' the layer returns zero until it is trained.
      direction_initializer: Initializer of `v`.
      **kwargs: Arguments of `keras.layers.Layer`, such as `dtype`.
    """
    super().__init__(**kwargs)
    self.filters, self.kernel_size = filters, kernel_size
    self.gain_initializer = keras.initializers.get(gain_initializer)
    self.direction_initializer = keras.initializers.get(direction_initializer)

  def build(self, input_shape):
    shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
    # Never autocast: in float16 the squares of a short direction vanish, and the squares of a long one overflow.
    self.direction = self.add_weight(
      shape=shape, initializer=self.direction_initializer, name='direction', autocast=False
    )
    self.gain = self.add_weight(shape=(self.filters,), initializer=self.gain_initializer, name='gain', autocast=False)
    self.bias = self.add_weight(shape=(self.filters,), initializer='zeros', name='bias')

  def call(self, x):
    norm = ops.sqrt(ops.sum(ops.square(self.direction), axis=(0, 1, 2)) + 1e-12)
    kernel = self.direction * (self.gain / norm)
    if x.shape[0] == 0:  # TensorFlow's convolution on a CPU returns an empty batch with the channels of its input.
      return ops.zeros(self.compute_output_shape(x.shape), self.compute_dtype) + self.bias
    y = ops.conv(x, ops.cast(kernel, self.compute_dtype), padding='same', data_format='channels_last')
    return y + self.bias

  def compute_output_shape(self, input_shape):
    return (*input_shape[:-1], self.filters)

  def get_config(self):
    return {
      **super().get_config(),
      'filters': self.filters,
      'kernel_size': self.kernel_size,
      'gain_initializer': keras.initializers.serialize(self.gain_initializer),
      'direction_initializer': keras.initializers.serialize(self.direction_initializer),
    }


@keras.saving.register_keras_serializable(package='flowgan_tf')
class ResidualConditioner(keras.layers.Layer):
  """Residual network of weight-normalised 3x3 convolutions whose output is zero until it is trained.

  ```none
  h = conv(x);   repeated:  h = h + conv(relu(norm(conv(relu(norm(h))))));   y = conv1x1(relu(norm(h)))
  ```

  It maps images, or a list of images and conditions. A vector as condition is the input of a `Modulation` after each
  norm. An image is resized and becomes further channels of `x`. With a `patch_size` above 1, the pixels of a patch of
  `x` become the channels of one position of `h`, and the last layer returns the pixels of that patch.

  Source: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017, section 3.7.
  """

  def __init__(
    self,
    output_channels: int,
    channels: int = 64,
    blocks: int = 8,
    normalization: str = 'layer',
    dtype: str = 'float32',
    *,
    patch_size: int = 1,
    **kwargs: Any,
  ):
    """Builds the network.

    Args:
      output_channels: Channels of the changed part for an additive coupling, twice as many for an affine one; for a
        `HistogramLogit`, its groups times the channels of the event.
      channels: Channels of every hidden layer.
      blocks: Number of residual blocks of two convolutions.
      normalization: A key of `NORMALIZATIONS`, as for `dense_conditioner`.
      patch_size: Height and width of a patch, a divisor of the image's height and width.
      dtype: Name of a Keras dtype policy.
      **kwargs: Further arguments of `keras.layers.Layer`.

    Raises:
      UsageError: If `normalization` is not a key of `NORMALIZATIONS`, or `patch_size` is no positive integer or, when
        the network is built, does not divide the image.
    """
    super().__init__(dtype=dtype, **kwargs)
    check_integer('patch_size', patch_size, 1)
    self.output_channels, self.channels, self.blocks = output_channels, channels, blocks
    self.normalization, self.patch_size = normalization, patch_size

    def convolution(filters, kernel_size, **initializer):
      norm, relu = make_normalization(normalization, dtype), keras.layers.ReLU(dtype=dtype)
      return norm, Modulation(dtype=dtype), relu, WeightNormConv2D(filters, kernel_size, dtype=dtype, **initializer)

    def sequence(*layers):
      return ConditionalSequential(layers, dtype=dtype)

    self._first = WeightNormConv2D(channels, 3, dtype=dtype)
    self._blocks = [sequence(*convolution(channels, 3), *convolution(channels, 3)) for _ in range(blocks)]
    self._last = sequence(*convolution(output_channels * patch_size**2, 1, gain_initializer='zeros'))

  def build(self, input_shape):
    # Keras restores weights only into sublayers that exist by then.
    (batch, height, width, channels), condition_shape = joined_shapes(input_shape)
    size = self.patch_size
    if size > 1:
      check_patch_size(size, height, width)
      height, width = height // size, width // size
    self._first.build((batch, height, width, channels * size**2))
    hidden_shape = batch, height, width, self.channels
    for part in (*self._blocks, self._last):
      part.build(hidden_shape if condition_shape is None else [hidden_shape, condition_shape])

  def call(self, inputs, training=False):
    x, condition = joined(inputs)
    h = self._first(space_to_depth(x, self.patch_size))
    for block in self._blocks:
      h = h + block(h if condition is None else [h, condition], training=training)
    y = self._last(h if condition is None else [h, condition], training=training)
    return depth_to_space(y, self.patch_size)

  def get_config(self):
    names = 'output_channels', 'channels', 'blocks', 'normalization', 'patch_size'
    return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package='flowgan_tf')
class PaperConditioner(keras.layers.Layer):
  """The residual network of the paper's Real-NVP, as its code builds it.

  ```none
  h = norm(relu(conv1x1(norm(x))));   repeated:  h = norm(relu(h + conv(norm(relu(conv(h))))))
  t, s = split(conv1x1(h));   y = [tanh(t), s]
  ```

  `t` is the shift and `s` the log-scale of an `AffineCoupling`, which itself applies a tanh to `s`. The norms are batch
  norms with running statistics, epsilon 1e-4 and momentum 0.9. The first norm and the norms inside blocks have no gain
  and bias. All convolutions are weight-normalised, with random gains. So its output before training is not zero, unlike
  the output of a `ResidualConditioner`.

  Source: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN. AAAI 2018.
  """

  def __init__(self, output_channels: int, channels: int = 64, blocks: int = 8, dtype: str = 'float32', **kwargs: Any):
    """Builds the network. It takes the arguments of a `ResidualConditioner` but `normalization` and `patch_size`."""
    super().__init__(dtype=dtype, **kwargs)
    self.output_channels, self.channels, self.blocks = output_channels, channels, blocks

    def conv(filters, kernel_size):
      return WeightNormConv2D(filters, kernel_size, 'glorot_uniform', 'glorot_uniform', dtype=dtype)

    def norm(affine):
      return GuardedBatchNormalization(momentum=0.9, epsilon=1e-4, center=affine, scale=affine, dtype=dtype)

    # The layers are in the order in which they are applied.
    hidden = [conv(channels, 3) for _ in range(2 * blocks)]
    self._convolutions = [conv(channels, 1), *hidden, conv(output_channels, 1)]
    self._norms = [norm(affine) for _ in range(blocks + 1) for affine in (False, True)]

  def build(self, input_shape):
    # Keras restores weights only into sublayers that exist by then.
    hidden_shape = (*input_shape[:-1], self.channels)
    for layers in (self._convolutions, self._norms):
      for i, layer in enumerate(layers):
        layer.build(input_shape if i == 0 else hidden_shape)

  def call(self, x, training=False):
    first, *hidden, last = self._convolutions
    h = self._norms[0](x, training=training)
    h = self._norms[1](ops.relu(first(h)), training=training)
    for i in range(0, len(hidden), 2):
      inner = self._norms[i + 2](ops.relu(hidden[i](h)), training=training)
      h = self._norms[i + 3](ops.relu(h + hidden[i + 1](inner)), training=training)
    shift, log_scale = ops.split(last(h), 2, axis=-1)
    return ops.concatenate([ops.tanh(shift), log_scale], axis=-1)

  def get_config(self):
    return super().get_config() | {name: getattr(self, name) for name in ('output_channels', 'channels', 'blocks')}
