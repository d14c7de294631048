"""The paper's DCGAN, a generator without a density.

The paper explains the likelihood of adversarial training by the singular values of the generator's Jacobian. To show
that the flow's architecture is not what makes them small, it trains a DCGAN whose noise has the dimension of the images
(k = d), under the Wasserstein distance and under the Jensen-Shannon divergence, and plots both beside the flows:
section 5.1 with Figure 4 (MNIST), appendix D with Figure 8 (CIFAR-10).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from flowgan_tf.base.errors import check_memory
from flowgan_tf.base.lazy import keras, lazy_import, tf
from flowgan_tf.base.settings import Setting, sizes
from flowgan_tf.flows import settings
from flowgan_tf.flows.builder import builder, network_condition, uniform_class_probs

if TYPE_CHECKING:
  from flowgan_tf.flows.implicit import ImplicitGenerator

implicit = lazy_import('flowgan_tf.flows.implicit')
networks = lazy_import('flowgan_tf.networks')
priors = lazy_import('flowgan_tf.flows.prior')


@builder(noise_like_images=False, computed_whole=True)
def dcgan(
  image_shape: Sequence[int],
  *,
  channels: Annotated[
    Sequence[int],
    Setting('Channels of the feature maps, the smallest map first. Each map is upsampled by 2.', must=sizes(16)),
  ] = (256, 128, 64),
  prior: settings.Prior = 'normal',
  classes: int | None = None,
  condition_shape: Sequence[int] | None = None,
  dtype: str = 'float32',
  name: str = 'dcgan',
) -> ImplicitGenerator:
  """Builds the DCGAN over images in [0, 1], with as many noise dimensions as pixels (k = d).

  A dense layer maps the noise to the smallest feature map. 5x5 transposed convolutions with stride 2 follow, with batch
  norm and ReLU before each of them and a sigmoid at the end. Weights start from N(0, 0.02^2), as in [1, section 4].
  There the output is a tanh; here it is a sigmoid, since images lie in [0, 1].

  With `training=True` the batch norms use the statistics of the batch and move the running ones towards them. Otherwise
  they use the running ones, so that an image depends on its own noise alone.

  Args:
    image_shape: `(height, width, channels)`. The smallest map has `ceil(size / 2**len(channels))` rows and columns.
      Where the upsampled map is larger than the image, its borders are cut off.
    classes: Number of classes, for a generator of images given labels.
    condition_shape: Shape of a condition, for a generator of images given vectors `(d,)` or images `(height, width,
      channels)`. Vectors, one-hot labels and all pixels of an image are appended to the noise, as in [3].
    dtype: Name of a Keras dtype policy. Noise and images are float64 for 'float64' and otherwise float32: bfloat16 has
      no numbers between 0.996 and 1 for bright pixels.

  Returns:
    A generator whose Jacobian is square, like a flow's, so that the two can be compared.

  Raises:
    ValueError: If an argument is out of range.

  #### References

  [1]: Alec Radford, Luke Metz, Soumith Chintala. Unsupervised Representation Learning with Deep Convolutional
       Generative Adversarial Networks. ICLR 2016.
  [2]: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN. AAAI 2018, section 5.1.
  [3]: Mehdi Mirza, Simon Osindero. Conditional Generative Adversarial Nets. 2014.
  """
  seen = network_condition(classes, condition_shape)
  inputs = math.prod(image_shape) + (math.prod(seen) if seen else 0)
  factor = 2 ** len(channels)
  smallest = [-(-size // factor) for size in image_shape[:2]]
  convolutions = sum(25 * a * b for a, b in itertools.pairwise((*channels, image_shape[-1])))
  check_memory('weights', 4 * (convolutions + inputs * math.prod(smallest) * channels[0]))

  def initializer():
    # A new one for each layer: a Keras initializer gives the same numbers each time it is called.
    return keras.initializers.RandomNormal(stddev=0.02)

  def norm_and_relu():
    # Momentum and epsilon of the authors' code. With Keras' momentum of 0.99 the running statistics, and with them
    # every image in evaluation, would lag hundreds of steps behind the weights. With few noise dimensions or channels,
    # weights this small give variances close to Keras' epsilon of 1e-3.
    return [networks.GuardedBatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype), keras.layers.ReLU(dtype=dtype)]

  def upsampling(filters, use_bias):
    return keras.layers.Conv2DTranspose(
      filters, 5, 2, 'same', use_bias=use_bias, kernel_initializer=initializer(), dtype=dtype
    )

  units = math.prod(smallest) * channels[0]
  excess = [factor * small - size for small, size in zip(smallest, image_shape[:2], strict=True)]
  wide = 'float64' if dtype == 'float64' else 'float32'
  # A bias before a batch norm has no effect: it is subtracted again with the mean.
  layers: list[keras.Layer] = [
    keras.layers.Dense(units, use_bias=False, kernel_initializer=initializer(), dtype=dtype),
    keras.layers.Reshape((*smallest, channels[0]), dtype=dtype),
    *norm_and_relu(),
  ]
  for filters in channels[1:]:
    layers += [upsampling(filters, use_bias=False), *norm_and_relu()]
  layers += [
    upsampling(image_shape[-1], use_bias=True),
    keras.layers.Cropping2D([(e // 2, e - e // 2) for e in excess], dtype=dtype),
    keras.layers.Activation('sigmoid', dtype=wide),
  ]
  flatten = keras.layers.Flatten(dtype=dtype)
  if seen is None:
    network = keras.Sequential([flatten, *layers])
    network.build((None, *image_shape))
  else:
    noise, condition = keras.Input(image_shape, dtype=wide), keras.Input(seen, dtype=wide)
    together = keras.layers.Concatenate(dtype=dtype)([flatten(noise), keras.layers.Flatten(dtype=dtype)(condition)])
    network = keras.Model([noise, condition], keras.Sequential(layers)(together))
  density_dtype = tf.as_dtype(wide)
  noise_prior = priors.standard_prior(prior, image_shape, density_dtype)
  probs = uniform_class_probs(classes, density_dtype)
  return implicit.ImplicitGenerator(noise_prior, network, name, class_probs=probs, condition_shape=condition_shape)
