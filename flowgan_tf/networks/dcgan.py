"""The network of the DCGAN generator, which is not invertible."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import keras

from flowgan_tf.builders import MOST_UNITS, check_weights
from flowgan_tf.errors import check_integers
from flowgan_tf.networks.normalization import GuardedBatchNormalization

__all__ = ['dcgan_generator']


def dcgan_generator(
  image_shape: Sequence[int], channels: Sequence[int] = (256, 128, 64), dtype: str = 'float32'
) -> keras.Sequential:
  """The DCGAN generator with as many noise dimensions as pixels (k = d).

  A dense layer maps the noise to the smallest feature map. 5x5 transposed convolutions with stride 2 follow, with batch
  norm and ReLU before each of them and a sigmoid at the end. Weights start from N(0, 0.02^2), as in [1, section 4].
  There the output is a tanh; here it is a sigmoid, since images lie in [0, 1].

  With `training=True` the batch norms use the statistics of the batch and move the running ones towards them. Otherwise
  they use the running ones, so that an image depends on its own noise alone.

  Args:
    image_shape: `(height, width, channels)` of the images. The smallest map has `ceil(size / 2**len(channels))` rows
      and columns. Where the upsampled map is larger than the image, its borders are cut off.
    channels: Channels of the feature maps, the smallest map first. Each map is upsampled by 2.
    dtype: Name of a Keras dtype policy: 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16'.

  Returns:
    A built model that maps noise to images, both `[batch, height, width, channels]`. Images are float64 for 'float64'
    and float32 otherwise: bfloat16 has no numbers between 0.996 and 1 for bright pixels.

  Raises:
    ValueError: If `channels` is not one or more positive integers.

  #### References

  [1]: Alec Radford, Luke Metz, Soumith Chintala. Unsupervised Representation Learning with Deep Convolutional
       Generative Adversarial Networks. ICLR 2016.
  [2]: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN. AAAI 2018, section 5.1.
  """
  check_integers('channels', channels, MOST_UNITS)
  if len(channels) > 16:
    raise ValueError(f'`channels` must be at most 16 integers. Got: {len(channels)}.')
  factor = 2 ** len(channels)
  smallest = [-(-size // factor) for size in image_shape[:2]]
  convolutions = sum(25 * a * b for a, b in itertools.pairwise((*channels, image_shape[-1])))
  check_weights(convolutions + math.prod(image_shape) * math.prod(smallest) * channels[0])

  def initializer():
    # A new one for each layer: a Keras initializer gives the same numbers each time it is called.
    return keras.initializers.RandomNormal(stddev=0.02)

  def norm_and_relu():
    # Momentum and epsilon are those of the authors' code. With Keras' momentum of 0.99 the running statistics, and with
    # them every image in evaluation, would lag hundreds of steps behind the weights. With few noise dimensions or
    # channels, weights this small give variances close to Keras' epsilon of 1e-3.
    return [
      GuardedBatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype),
      keras.layers.ReLU(dtype=dtype),
    ]

  def upsampling(filters, use_bias):
    return keras.layers.Conv2DTranspose(
      filters, 5, 2, 'same', use_bias=use_bias, kernel_initializer=initializer(), dtype=dtype
    )

  excess = [factor * small - size for small, size in zip(smallest, image_shape[:2], strict=True)]
  # A bias before a batch norm has no effect: it is subtracted again with the mean.
  layers: list[keras.Layer] = [
    keras.layers.Flatten(dtype=dtype),
    keras.layers.Dense(
      math.prod(smallest) * channels[0], use_bias=False, kernel_initializer=initializer(), dtype=dtype
    ),
    keras.layers.Reshape((*smallest, channels[0]), dtype=dtype),
    *norm_and_relu(),
  ]
  for filters in channels[1:]:
    layers += [upsampling(filters, use_bias=False), *norm_and_relu()]
  layers += [
    upsampling(image_shape[-1], use_bias=True),
    keras.layers.Cropping2D([(e // 2, e - e // 2) for e in excess], dtype=dtype),
    keras.layers.Activation('sigmoid', dtype='float64' if dtype == 'float64' else 'float32'),
  ]
  model = keras.Sequential(layers)
  model.build((None, *image_shape))
  return model
