"""What all flows share: a prior, a bijector from noise to images, and the training argument."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

# What `tfd.TransformedDistribution(...)` itself returns for bijectors that own networks. The public class is a
# CompositeTensor, which tf.Module does not look into: as an attribute of a module it would show no variables.
from tensorflow_probability.python.distributions.transformed_distribution import _TransformedDistribution

from flowgan_tf.bijectors import training_kwargs

__all__ = ['PRIORS', 'Flow', 'prior']

PRIORS = {'logistic': tfp.distributions.Logistic, 'normal': tfp.distributions.Normal}


def prior(name: str, event_shape: Sequence[int], dtype: tf.DType) -> tfp.distributions.Distribution:
  """Independent standard noise of the given shape.

  Args:
    name: 'logistic' or 'normal'.
    event_shape: Shape of one noise vector.
    dtype: Floating-point type.

  Raises:
    ValueError: If the name is not one of these.
  """
  if name not in PRIORS:
    raise ValueError(f'`prior` must be one of {sorted(PRIORS)}. Got: {name!r}.')
  standard = PRIORS[name](tf.zeros((), dtype), tf.ones((), dtype))
  return tfp.distributions.Sample(standard, tuple(event_shape))


class Flow(_TransformedDistribution):
  """A normalizing flow: `x = G(z)`, `z ~ prior`, with the exact density of `x`.

  ```none
  log p(x) = log p(z) + log|det dz/dx|,   z = G^-1(x)
  ```

  The distribution that `tfd.TransformedDistribution(prior, bijector)` makes of a bijector that owns networks, whose
  methods take `training` directly: `log_prob(x, training=True)`, `sample(n, seed, training=True)`. The bijector's
  forward direction is noise to image.

  In eager mode TFP remembers results for as long as they are referenced: while `z = flow.encode(x)` is held, a change
  of the weights is not seen by `flow.log_prob(x)` of the same tensor. Inside a `tf.function` there is no such memory
  between calls.
  """

  def __init__(self, distribution: tfp.distributions.Distribution, bijector: tfp.bijectors.Bijector, name: str):
    """Builds the flow.

    Args:
      distribution: Prior of the noise.
      bijector: `G`.
      name: Name of the distribution.

    Raises:
      ValueError: If the bijector has no trainable variables.
    """
    parameters = dict(locals())
    if not bijector.trainable_variables:
      raise ValueError(f'`bijector` has no trainable variables: nothing could be learned. Got: {bijector.name}.')

    def split_kwargs(kwargs):
      # TFP would ignore a keyword that nobody takes, and with it a misspelt `training`.
      if unknown := kwargs.keys() - {'training'}:
        raise TypeError(f'unexpected keyword: {", ".join(sorted(unknown))}. A flow takes `training`.')
      return {}, training_kwargs(bijector, kwargs.get('training', False))

    super().__init__(distribution, bijector, kwargs_split_fn=split_kwargs, name=name)
    self._parameters = parameters

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return super()._parameter_properties(dtype, num_classes)

  def encode(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    """The noise behind images: `G^-1(x)`, of shape `[..., *event_shape]` like the images."""
    return self.bijector.inverse(images, **training_kwargs(self.bijector, training))

  def decode(self, noise: tf.Tensor, training: bool = False) -> tf.Tensor:
    """The images of noise: `G(z)`, of shape `[..., *event_shape]` like the noise."""
    return self.bijector.forward(noise, **training_kwargs(self.bijector, training))
