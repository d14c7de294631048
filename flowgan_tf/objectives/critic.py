"""Critics: networks that tell real images from samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Annotated

from flowgan_tf.base.errors import check, check_memory
from flowgan_tf.base.lazy import keras, lazy_import, tf
from flowgan_tf.base.plugins import Registry
from flowgan_tf.base.settings import MOST_LAYERS, MOST_UNITS, Setting, sizes, with_settings

networks = lazy_import('flowgan_tf.networks')


@with_settings
def dcgan_critic(
  image_shape: Sequence[int],
  *,
  channels: Annotated[Sequence[int], Setting('Output channels of the convolutions.', must=sizes(16))] = (1, 64),
  dense_units: Annotated[
    int, Setting('Units of a hidden dense layer before the output. 0 leaves this layer out.', 0, MOST_UNITS)
  ] = 1024,
  layer_norm: Annotated[
    bool, Setting('Whether an `ImageNormalization` follows each convolution but the first.')
  ] = False,
  condition_shape: Sequence[int] | None = None,
  dtype: str = 'float32',
  name: str = 'dcgan_critic',
) -> keras.Model:
  """A critic of 5x5 convolutions with stride 2 and leaky ReLU (slope 0.2).

  The defaults are the paper's MNIST critic. Its CIFAR-10 critic has `channels=(64, 128, 256, 512)`, `dense_units=0` and
  `layer_norm=True`. It has no batch norm, because a gradient penalty needs a critic whose output for one image does not
  depend on the other images of the batch [2, section 4].

  Args:
    image_shape: `(height, width, channels)` of the images.
    condition_shape: Shape of a condition `c`: `(d,)` for vectors, such as one-hot labels, or `(h, w, c)` for images.
      With features `f(x)` before the output, the critic of a vector is a projection, `D(x, c) = w f(x) + b + f(x) V c`
      [3]. An image is resized and becomes further channels of the input.
    dtype: Name of a Keras dtype policy.
    name: Name of the model.

  Returns:
    A built model that maps images `[batch, height, width, channels]`, or a list of images and conditions, to numbers
    `[batch, 1]`.

  Raises:
    UsageError: If an argument is out of range.

  #### References

  [1]: Alec Radford, Luke Metz, Soumith Chintala. Unsupervised Representation Learning with Deep Convolutional
       Generative Adversarial Networks. ICLR 2016.
  [2]: Ishaan Gulrajani, Faruk Ahmed, Martin Arjovsky, Vincent Dumoulin, Aaron Courville. Improved Training of
       Wasserstein GANs. NeurIPS 2017.
  [3]: Takeru Miyato, Masanori Koyama. cGANs with Projection Discriminator. ICLR 2018.
  """
  flat = channels[-1] * math.prod(-(-size // 2 ** len(channels)) for size in image_shape[:2])
  convolutions = sum(25 * a * b for a, b in itertools.pairwise((image_shape[-1], *channels)))
  check_memory('weights', 4 * (convolutions + flat * dense_units))
  layers: list[keras.Layer] = []
  for i, filters in enumerate(channels):
    layers.append(networks.layers.Conv2D(filters, 5, strides=2, padding='same', dtype=dtype))
    if layer_norm and i > 0:
      layers.append(networks.ImageNormalization(dtype=dtype))
    layers.append(keras.layers.LeakyReLU(0.2, dtype=dtype))
  layers.append(keras.layers.Flatten(dtype=dtype))
  if dense_units:
    layers.append(networks.layers.Dense(dense_units, dtype=dtype))
    layers.append(keras.layers.LeakyReLU(0.2, dtype=dtype))
  return _finish(layers, image_shape, condition_shape, dtype, name)


@with_settings
def dense_critic(
  image_shape: Sequence[int],
  *,
  hidden_units: Annotated[Sequence[int], Setting('Units of each hidden layer.', must=sizes(MOST_LAYERS))] = (512, 512),
  condition_shape: Sequence[int] | None = None,
  dtype: str = 'float32',
  name: str = 'dense_critic',
) -> keras.Model:
  """A critic of dense layers with ReLU, which compares all pixels with each other.

  Args:
    image_shape: `(height, width, channels)` of the images, or `(d,)` for rows of a table.
    condition_shape, dtype, name: As for `dcgan_critic`, which returns the same kind of model.

  Raises:
    UsageError: If an argument is out of range.
  """
  check_memory('weights', 4 * sum(a * b for a, b in itertools.pairwise((math.prod(image_shape), *hidden_units))))
  layers = [keras.layers.Flatten(dtype=dtype), *(networks.layers.Dense(n, 'relu', dtype=dtype) for n in hidden_units)]
  return _finish(layers, image_shape, condition_shape, dtype, name)


def _finish(layers, image_shape, condition_shape, dtype, name):
  """Returns the model of layers, of a dense layer with one unit behind them, and of a condition."""
  last = networks.layers.Dense(1, dtype=dtype)
  if condition_shape is None:
    model = keras.Sequential([*layers, last], name=name)
    model.build((None, *image_shape))
    return model
  check('condition_shape', condition_shape, 'the shape of a vector or an image', len(condition_shape) in (1, 3))
  wide = 'float64' if dtype == 'float64' else 'float32'
  images, condition = keras.Input(image_shape, dtype=wide), keras.Input(condition_shape, dtype=wide)
  if len(condition_shape) == 3:
    features = networks.modulation.ConditionalSequential(layers, dtype=dtype)([images, condition])
    return keras.Model([images, condition], last(features), name=name)
  features = keras.Sequential(layers)(images)
  projected = keras.layers.Dense(features.shape[-1], use_bias=False, dtype=dtype)(condition)
  outputs = keras.layers.Add(dtype=dtype)(
    [last(features), keras.layers.Dot(axes=-1, dtype=dtype)([features, projected])]
  )
  return keras.Model([images, condition], outputs, name=name)


def mean_output(outputs: tf.Tensor) -> tf.Tensor:
  """Maps outputs `[n, ...]` of a critic to the mean output for each image, `[n]`."""
  return tf.reduce_mean(outputs, axis=tf.range(1, tf.rank(outputs)))


# Like `flows.GENERATORS`.
CRITICS: Registry[Callable] = Registry(
  'critic',
  'a function that builds a critic',
  callable,
  {'dcgan_critic': dcgan_critic, 'dense_critic': dense_critic},
)
