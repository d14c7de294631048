"""The paper's DCGAN, a generator without a density.

The paper explains the likelihood of adversarial training by the singular values of the generator's Jacobian. To show
that the flow's architecture is not what makes them small, it trains a DCGAN whose noise has the dimension of the images
(k = d), under the Wasserstein distance and under the Jensen-Shannon divergence, and plots both beside the flows:
section 5.1 with Figure 4 (MNIST), appendix D with Figure 8 (CIFAR-10).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.errors import check, check_bool, check_integers, check_memory
from flowgan_tf.flows.builder import MOST_UNITS, Generator, builder, check_events
from flowgan_tf.flows.prior import standard_prior
from flowgan_tf.networks.adapter import KerasModule
from flowgan_tf.networks.normalization import GuardedBatchNormalization


class ImplicitGenerator(Generator, tf.Module):
  """A generator that can only be sampled: `x = G(z)`, `z ~ prior`, where `G` has no inverse.

  It replaces a `Flow` wherever samples are enough, as in adversarial training. The density of an image would be an
  intractable integral over the noise, so there is neither `log_prob` nor `encode`.
  """

  has_density = False
  classes = condition_shape = None

  def __init__(self, distribution: tfp.distributions.Distribution, network: keras.Layer, name: str):
    """Builds the generator.

    Args:
      distribution: Prior of the noise `z`, with the `event_shape` of one image.
      network: `G`, a Keras layer that maps noise `[batch, *event_shape]` to images of the same shape.

    Raises:
      ValueError: If the network changes the shape.
    """
    super().__init__(name=name)
    self.distribution = distribution
    self._network = KerasModule(network, distribution.event_shape)
    if self._network.output_event_shape != tuple(distribution.event_shape):
      raise ValueError(
        f'`network` must return the shape of its noise, {tuple(distribution.event_shape)}. '
        f'Got: {self._network.output_event_shape}.'
      )

  @property
  def event_shape(self) -> tf.TensorShape:
    """Shape of one image, and of its noise."""
    return self.distribution.event_shape

  @property
  def dtype(self) -> tf.DType:
    """Dtype of noise and images."""
    return self.distribution.dtype

  def decode(self, noise: tf.Tensor, *, training: bool = False) -> tf.Tensor:
    """Maps noise to images: `G(z)`, of shape `[..., *event_shape]` like the noise; `training` as in `Flow.sample`."""
    check_bool('training', training)
    noise = tf.convert_to_tensor(noise, self.dtype)
    check_events('noise', noise, self.event_shape)  # The network would reshape any noise.
    return self._network(noise, training=training)

  def sample(
    self,
    sample_shape: int | Sequence[int] | tf.Tensor = (),
    seed: int | tf.Tensor | None = None,
    name: str = 'sample',
    *,
    training: bool = False,
  ) -> tf.Tensor:
    """Draws samples of shape `[*sample_shape, *event_shape]`, as `Flow.sample` does."""
    with tf.name_scope(name):
      return self.decode(self.distribution.sample(sample_shape, seed=seed), training=training)

  def __deepcopy__(self, memo: dict) -> ImplicitGenerator:
    """Copies the generator, with variables of its own. Both share the prior, which has none."""
    other = type(self)(self.distribution, copy.deepcopy(self._network, memo).layer, self.name)
    memo[id(self)], other._build = other, self._build
    return other


@builder
def dcgan(
  image_shape: Sequence[int],
  *,
  channels: Sequence[int] = (256, 128, 64),
  prior: str = 'normal',
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
    channels: Channels of the feature maps, the smallest map first. Each map is upsampled by 2.
    prior: 'normal' or 'logistic'.
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
  """
  check_integers('channels', channels, MOST_UNITS)
  check('channels', len(channels), 'at most 16 integers', len(channels) <= 16)
  factor = 2 ** len(channels)
  smallest = [-(-size // factor) for size in image_shape[:2]]
  convolutions = sum(25 * a * b for a, b in itertools.pairwise((*channels, image_shape[-1])))
  check_memory('weights', 4 * (convolutions + math.prod(image_shape) * math.prod(smallest) * channels[0]))

  def initializer():
    # A new one for each layer: a Keras initializer gives the same numbers each time it is called.
    return keras.initializers.RandomNormal(stddev=0.02)

  def norm_and_relu():
    # Momentum and epsilon of the authors' code. With Keras' momentum of 0.99 the running statistics, and with them
    # every image in evaluation, would lag hundreds of steps behind the weights. With few noise dimensions or channels,
    # weights this small give variances close to Keras' epsilon of 1e-3.
    return [GuardedBatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype), keras.layers.ReLU(dtype=dtype)]

  def upsampling(filters, use_bias):
    return keras.layers.Conv2DTranspose(
      filters, 5, 2, 'same', use_bias=use_bias, kernel_initializer=initializer(), dtype=dtype
    )

  units = math.prod(smallest) * channels[0]
  excess = [factor * small - size for small, size in zip(smallest, image_shape[:2], strict=True)]
  wide = 'float64' if dtype == 'float64' else 'float32'
  # A bias before a batch norm has no effect: it is subtracted again with the mean.
  layers: list[keras.Layer] = [
    keras.layers.Flatten(dtype=dtype),
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
  network = keras.Sequential(layers)
  network.build((None, *image_shape))
  return ImplicitGenerator(standard_prior(prior, image_shape, tf.as_dtype(wide)), network, name)
