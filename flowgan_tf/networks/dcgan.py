"""DCGAN critics."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from flowgan_tf.networks.normalization import ImageNormalization

__all__ = ['dcgan_critic']


def dcgan_critic(
  image_shape: Sequence[int],
  channels: Sequence[int] = (64, 128, 256, 512),
  dense_units: int = 0,
  layer_norm: bool = False,
  dtype: str = 'float32',
) -> keras.Sequential:
  """A critic of 5x5 convolutions with stride 2 and leaky ReLU (slope 0.2).

  The paper's MNIST critic has `channels=(1, 64), dense_units=1024`; its CIFAR-10 critic has the default channels and
  `layer_norm=True`. There is no batch norm: under a gradient penalty the critic's output for one image must not depend
  on the other images of the batch (Gulrajani et al. 2017, section 4).

  Args:
    image_shape: `(height, width, channels)` of the images.
    channels: Output channels of the convolutions.
    dense_units: Units of a hidden dense layer before the output; none if 0.
    layer_norm: Whether each convolution but the first is followed by a norm over all entries of one image, with a gain
      and bias per channel.
    dtype: Name of a Keras dtype policy: 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16'.

  Returns:
    A built model that maps images `[batch, height, width, channels]` to numbers `[batch, 1]`.

  #### References

  [1]: Alec Radford, Luke Metz, Soumith Chintala. Unsupervised Representation Learning with Deep Convolutional
       Generative Adversarial Networks. ICLR 2016.
  """
  layers: list[keras.Layer] = []
  for i, filters in enumerate(channels):
    layers.append(keras.layers.Conv2D(filters, 5, strides=2, padding='same', dtype=dtype))
    if layer_norm and i > 0:
      layers.append(ImageNormalization(dtype=dtype))
    layers.append(keras.layers.LeakyReLU(0.2, dtype=dtype))
  layers.append(keras.layers.Flatten(dtype=dtype))
  if dense_units:
    layers.append(keras.layers.Dense(dense_units, dtype=dtype))
    layers.append(keras.layers.LeakyReLU(0.2, dtype=dtype))
  layers.append(keras.layers.Dense(1, dtype=dtype))
  model = keras.Sequential(layers)
  model.build((None, *image_shape))
  return model
