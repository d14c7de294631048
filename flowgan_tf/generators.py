"""All generators by name, and the paper's DCGAN, which has no density.

The paper explains the likelihood of adversarial training by the singular values of the generator's Jacobian. To show
that the flow's architecture is not what makes them small, it trains a DCGAN whose noise has the dimension of the images
(k = d), under the Wasserstein distance and under the Jensen-Shannon divergence, and plots both beside the flows:
section 5.1 with Figure 4 (MNIST), appendix D with Figure 8 (CIFAR-10).

#### References

[1]: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in
     Generative Models. AAAI 2018. https://arxiv.org/abs/1705.08868
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NoReturn

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.bijectors.training import check_training
from flowgan_tf.builders import builder, rebuild
from flowgan_tf.flows import Flow, jet, nice, real_nvp
from flowgan_tf.flows.prior import standard_prior
from flowgan_tf.networks.adapter import HiddenFromKeras, KerasModule
from flowgan_tf.networks.dcgan import dcgan_generator

__all__ = ['GENERATORS', 'Generator', 'ImplicitGenerator', 'dcgan']


class ImplicitGenerator(HiddenFromKeras, tf.Module):
  """A generator that can only be sampled: `x = G(z)`, `z ~ prior`, where `G` has no inverse.

  It replaces a `Flow` wherever samples are enough, as in adversarial training. The density of an image would be an
  intractable integral over the noise, so `log_prob` and `encode` are not implemented.

  Attributes:
    distribution: Prior of the noise, as in a `Flow`.
    has_density: Always False.
  """

  has_density = False

  def __init__(self, distribution: tfp.distributions.Distribution, network: keras.Layer, name: str):
    """Builds the generator.

    Args:
      distribution: Prior of the noise `z`, with the `event_shape` of one image.
      network: `G`, a Keras layer that maps noise `[batch, *event_shape]` to images of the same shape.
      name: Name of the generator.

    Raises:
      ValueError: If the network has no trainable variables or changes the shape.
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
    """Shape of one image, which is that of its noise."""
    return self.distribution.event_shape

  @property
  def dtype(self) -> tf.DType:
    """Dtype of noise and images."""
    return self.distribution.dtype

  def decode(self, noise: tf.Tensor, *, training: bool = False) -> tf.Tensor:
    """Maps noise to images: `G(z)`, of shape `[..., *event_shape]` like the noise.

    Args:
      noise: Noise, of the generator's dtype.
      training: Whether batch norms use the statistics of this batch and update their running statistics.
    """
    check_training(training)
    return self._network(tf.convert_to_tensor(noise, self.dtype), training=training)

  def sample(
    self,
    sample_shape: int | Sequence[int] | tf.Tensor = (),
    seed: int | tf.Tensor | None = None,
    name: str = 'sample',
    *,
    training: bool = False,
  ) -> tf.Tensor:
    """Draws samples of shape `[*sample_shape, *event_shape]`.

    Args:
      sample_shape: Number of images, or several batch dimensions.
      seed: Int tensor of shape `[2]`, a stateless seed: the same seed gives the same images. An int is a stateful seed,
        as everywhere in TFP.
      name: Name of the operations in a graph.
      training: As in `decode`.
    """
    with tf.name_scope(name):
      return self.decode(self.distribution.sample(sample_shape, seed=seed), training=training)

  def log_prob(
    self, value: tf.Tensor, name: str = 'log_prob', *, training: bool = False, component: tf.Tensor | None = None
  ) -> NoReturn:
    """Raises `NotImplementedError`: there is no density to evaluate."""
    raise NotImplementedError(f'log_prob is not implemented: generator {self.name!r} has no inverse, hence no density.')

  def encode(self, images: tf.Tensor, *, training: bool = False) -> NoReturn:
    """Raises `NotImplementedError`: there is no inverse."""
    raise NotImplementedError(f'encode is not implemented: generator {self.name!r} has no inverse.')

  def with_dtype(self, dtype: str) -> ImplicitGenerator:
    """Copies the generator, with the same weights, in another dtype; see `Flow.with_dtype`."""
    return rebuild(self, dtype)

  def __deepcopy__(self, memo: dict) -> ImplicitGenerator:
    """Copies the generator, with variables of its own. The prior, which has none, is shared."""
    other = type(self).__new__(type(self))
    tf.Module.__init__(other, name=self.name)
    other.distribution = self.distribution
    other._network = copy.deepcopy(self._network, memo)
    if hasattr(self, '_build'):
      other._build = self._build
    memo[id(self)] = other
    return other


# What training, sampling and export accept, with or without a density.
Generator = Flow | ImplicitGenerator


@builder
def dcgan(
  image_shape: Sequence[int],
  *,
  channels: Sequence[int] = (256, 128, 64),
  prior: str = 'normal',
  dtype: str = 'float32',
  name: str = 'dcgan',
) -> ImplicitGenerator:
  """Builds the DCGAN generator over images in [0, 1], with noise of the same shape as the images.

  Args:
    image_shape: `(height, width, channels)`.
    channels: Channels of the feature maps, from the smallest map to the largest; each is upsampled by 2.
    prior: 'normal' or 'logistic'.
    dtype: Name of a Keras dtype policy. Noise and images are float64 for 'float64' and otherwise float32: mixed
      policies affect only the inside of the network.
    name: Name of the generator.

  Returns:
    A generator whose Jacobian is square, like a flow's, so that the two can be compared.

  Raises:
    ValueError: If an argument is out of range.

  #### Examples

  ```python
  generator = fg.generators.dcgan((28, 28, 1))
  images = generator.sample(16, seed=(0, 0))   # [16, 28, 28, 1]
  generator.log_prob(images)                   # NotImplementedError: no inverse
  ```

  #### References

  [1]: Alec Radford, Luke Metz, Soumith Chintala. Unsupervised Representation Learning with Deep Convolutional
       Generative Adversarial Networks. ICLR 2016.
  """
  noise_dtype = tf.float64 if dtype == 'float64' else tf.float32
  network = dcgan_generator(image_shape, channels, dtype)
  return ImplicitGenerator(standard_prior(prior, image_shape, noise_dtype), network, name)


# The choices of the setting `generator`. Each has a block of settings, named like the builder's arguments.
GENERATORS: dict[str, Callable[..., Generator]] = {'nice': nice, 'real_nvp': real_nvp, 'jet': jet, 'dcgan': dcgan}
