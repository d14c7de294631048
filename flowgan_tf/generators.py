"""All generators by name, and those without a density: the paper's DCGAN beside its flows.

The paper explains the likelihood of adversarial training by the singular values of the generator's Jacobian. To show
that it is not the flow's architecture that makes them small, it trains a DCGAN with as many noise dimensions as pixels
(k = d) under the Wasserstein distance and under the Jensen-Shannon divergence, and draws both beside the flows: section
5.1 with Figure 4 (MNIST), appendix D with Figure 8 (CIFAR-10).

#### References

[1]: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in
     Generative Models. AAAI 2018. https://arxiv.org/abs/1705.08868
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.arguments import check_choice, check_integers
from flowgan_tf.builders import builder, rebuild
from flowgan_tf.errors import UsageError
from flowgan_tf.flows import PRIORS, Flow, nice, real_nvp
from flowgan_tf.flows.flow import standard_prior
from flowgan_tf.networks.adapter import KerasModule
from flowgan_tf.networks.dcgan import dcgan_generator

__all__ = ['GENERATORS', 'Generator', 'ImplicitGenerator', 'dcgan']


class ImplicitGenerator(tf.Module):
  """A generator that can be sampled only: `x = G(z)`, `z ~ prior`, where `G` has no inverse.

  Takes the place of a `Flow` wherever samples are enough, such as adversarial training. The density of an image would
  be an integral over all noise that leads to it, which nobody can compute: `log_prob` and `encode` say so.

  Attributes:
    distribution: Prior of the noise, as a `Flow` names it.
    has_density: False.
  """

  has_density = False

  def __init__(self, network: keras.Layer, prior: tfp.distributions.Distribution, name: str):
    """Builds the generator.

    Args:
      network: `G`, a Keras layer that maps noise `[batch, *event_shape]` to images of the same shape.
      prior: Distribution of the noise, with the `event_shape` of one image.
      name: Name of the generator.

    Raises:
      ValueError: If the network has no trainable variables or changes the shape.
    """
    super().__init__(name=name)
    self.distribution = prior
    self._network = KerasModule(network, prior.event_shape)
    if self._network.output_event_shape != tuple(prior.event_shape):
      raise ValueError(
        f'`network` must return the shape of its noise, {tuple(prior.event_shape)}. '
        f'Got: {self._network.output_event_shape}.'
      )

  @property
  def event_shape(self) -> tf.TensorShape:
    """Shape of one image, which is that of its noise."""
    return self.distribution.event_shape

  @property
  def dtype(self) -> tf.DType:
    """Type of noise and images."""
    return self.distribution.dtype

  def decode(self, noise: tf.Tensor, training: bool = False) -> tf.Tensor:
    """The images of noise: `G(z)`, of shape `[..., *event_shape]` like the noise.

    Args:
      noise: Noise, of the generator's dtype.
      training: Whether batch norms use the statistics of this batch, and update the running ones.
    """
    return self._network(tf.convert_to_tensor(noise, self.dtype), training=training)

  def sample(
    self, sample_shape: int | Sequence[int] = (), seed: int | tf.Tensor | None = None, training: bool = False
  ) -> tf.Tensor:
    """Samples of the model, of shape `[*sample_shape, *event_shape]`.

    Args:
      sample_shape: Number of images, or several batch dimensions.
      seed: Stateless seed, int tensor of shape `[2]`, which gives the same samples at every call; an int is a stateful
        seed, as everywhere in TFP.
      training: As in `decode`.
    """
    return self.decode(self.distribution.sample(sample_shape, seed=seed), training=training)

  def log_prob(self, images: tf.Tensor, training: bool = False) -> NoReturn:
    """Raises `UsageError`: there is no density to evaluate."""
    self._refuse('log_prob')

  def encode(self, images: tf.Tensor, training: bool = False) -> NoReturn:
    """Raises `UsageError`: there is no inverse."""
    self._refuse('encode')

  def with_dtype(self, dtype: str) -> ImplicitGenerator:
    """As that of a `Flow`."""
    return rebuild(self, dtype)

  def _refuse(self, method: str) -> NoReturn:
    raise UsageError(
      f'{method}: the generator {self.name!r} is not invertible: its network maps noise to images without an inverse, '
      "so p(x) would need an integral over all z; for a likelihood expected a flow, 'nice' or 'real_nvp'"
    )


# What training, sampling and export take: with a density or without.
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
  """The DCGAN generator with as many noise dimensions as pixels, over images in [0, 1].

  Args:
    image_shape: `(height, width, channels)`.
    channels: Channels of the feature maps, the smallest map first; each is upsampled by 2.
    prior: 'normal' or 'logistic'.
    dtype: Name of a Keras dtype policy. Noise and images are float64 for 'float64', float32 otherwise: mixed policies
      concern the inside of the network alone.
    name: Name of the generator.

  Returns:
    A generator whose noise has the shape of the images, as a flow's has, so that Jacobians can be compared.

  Raises:
    ValueError: If an argument is out of range.

  #### Examples

  ```python
  generator = fg.generators.dcgan((28, 28, 1))
  images = generator.sample(16, seed=(0, 0))   # [16, 28, 28, 1]
  generator.log_prob(images)                   # UsageError: not invertible
  ```

  #### References

  [1]: Alec Radford, Luke Metz, Soumith Chintala. Unsupervised Representation Learning with Deep Convolutional
       Generative Adversarial Networks. ICLR 2016.
  """
  check_integers('channels', channels)
  check_choice('prior', prior, PRIORS)
  noise_dtype = tf.float64 if dtype == 'float64' else tf.float32
  network = dcgan_generator(image_shape, channels, dtype)
  return ImplicitGenerator(network, standard_prior(prior, image_shape, noise_dtype), name)


# A setting of a training has each of these names, and a block of settings that are the builder's arguments.
GENERATORS: dict[str, Callable[..., Generator]] = {'nice': nice, 'real_nvp': real_nvp, 'dcgan': dcgan}
