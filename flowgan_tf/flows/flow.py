"""The class of all flows: a prior, a bijector from noise to images, and the `training` argument."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NoReturn

import tensorflow as tf
import tensorflow_probability as tfp

# `tfd.TransformedDistribution(...)` itself returns this class for bijectors that own networks. The public class is a
# CompositeTensor, which tf.Module does not look into: a module that holds one would not list its variables.
from tensorflow_probability.python.distributions.transformed_distribution import _TransformedDistribution

from flowgan_tf.bijectors import training_kwargs
from flowgan_tf.errors import check
from flowgan_tf.flows.builder import Generator, check_events
from flowgan_tf.flows.prior import MixturePrior
from flowgan_tf.networks.adapter import refuse_to_pickle


class Flow(Generator, _TransformedDistribution):
  """A normalizing flow: `x = G(z)`, `z ~ prior`, with the exact density of `x`.

  ```none
  log p(x) = log p(z) + log|det dz/dx|,   z = G^-1(x)
  ```

  A `tfd.TransformedDistribution` whose methods take `training`: `log_prob(x, training=True)`,
  `sample(n, seed, training=True)`. With `training=True` batch norms use the statistics of the batch and update their
  running statistics. Otherwise they use the running statistics, so that no image depends on the others.

  In eager mode TFP caches results for as long as their tensors live: while `z = flow.encode(x)` is alive,
  `flow.log_prob(x)` of the same tensor `x` does not see a change of the weights. A `tf.function` keeps no such cache
  between calls.
  """

  has_density = True

  def __init__(
    self, distribution: tfp.distributions.Distribution, bijector: tfp.bijectors.Bijector, name: str = 'flow'
  ):
    """Builds the flow.

    Args:
      distribution: Prior of the noise `z`.
      bijector: `G`. Its forward direction maps noise to images. It may hold couplings and batch norms of
        `flowgan_tf.bijectors` at any depth; inside one `tfb.Chain` their names must differ.
      name: Name of the flow. The parts of a `tfd.JointDistribution` must have different names.

    Raises:
      ValueError: If `bijector` has no trainable variables.
    """
    parameters = dict(locals())
    if not bijector.trainable_variables:
      raise ValueError(f'`bijector` must be trainable, but has no trainable variables. Got: {bijector.name}.')

    def split_kwargs(kwargs):
      # TFP's own methods, such as `unnormalized_log_prob`, would ignore a misspelt `training`.
      if unknown := kwargs.keys() - {'training', 'component'}:
        raise TypeError(f'The keywords of a flow are `training` and `component`. Got: {", ".join(sorted(unknown))}.')
      of_prior = {}
      if (component := kwargs.get('component')) is not None:
        expected = 'None unless the prior of the flow is a mixture'
        check('component', component, expected, isinstance(distribution, MixturePrior))
        of_prior['component'] = component
      return of_prior, training_kwargs(bijector, kwargs.get('training', False))

    super().__init__(distribution, bijector, kwargs_split_fn=split_kwargs, name=name)
    self._parameters = parameters

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    # TFP warns about a class that has its own constructor but only inherits this method.
    return super()._parameter_properties(dtype, num_classes)

  # TFP's methods take any keyword and broadcast, cast or compute with whatever they get. The methods below name the
  # keywords of a flow in their signatures, and refuse images of another dtype or shape.

  def log_prob(
    self,
    value: tf.Tensor,
    name: str = 'log_prob',
    *,
    training: bool = False,
    component: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Log density of images, in nats with respect to the unit cube.

    Args:
      value: Images of shape `[..., *event_shape]`, with values in [0, 1].
      training: Whether batch norms use the statistics of this batch and update their running statistics.
      component: For a flow whose prior is a `MixturePrior`, ints of shape `[...]`, from 0 to K - 1. The result is then
        the density of an image together with the component, `log p(x, k)`, not `log p(x | k)`.

    Returns:
      Tensor of shape `[...]`. In the flows of this package it is -inf for an image with a value outside the support,
      which is [0, 1] or slightly more (see `fg.bijectors.AlphaLogit`).

    Raises:
      ValueError: If `value` or `component` has another shape or dtype, a component does not exist (a compiled function
        does not check that), or `component` is given and the prior is not a mixture. It converts lists and NumPy
        arrays.
    """
    value = self._as_events('value', value, self)
    return super().log_prob(value, name, training=training, component=component)

  def prob(
    self, value: tf.Tensor, name: str = 'prob', *, training: bool = False, component: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Density of images: the exponential of `log_prob`, with the same arguments and errors."""
    return tf.exp(self.log_prob(value, name, training=training, component=component))

  def unnormalized_log_prob(
    self, value: tf.Tensor, name: str = 'log_prob', *, training: bool = False, component: tf.Tensor | None = None
  ) -> tf.Tensor:
    """The same as `log_prob`: a flow is normalised."""
    return self.log_prob(value, name, training=training, component=component)

  def sample(
    self,
    sample_shape: int | Sequence[int] | tf.Tensor = (),
    seed: int | tf.Tensor | None = None,
    name: str = 'sample',
    *,
    training: bool = False,
  ) -> tf.Tensor:
    """Draws samples: images with values in [0, 1].

    Args:
      sample_shape: Number of images, or several batch dimensions.
      seed: Int tensor of shape `[2]`, a stateless seed: the same seed gives the same images. An int is a stateful seed,
        as everywhere in TFP.
      training: Whether the batch norms of couplings use the statistics of this batch and update their running ones.

    Returns:
      Images of shape `[*sample_shape, *event_shape]`.
    """
    return super().sample(sample_shape, seed, name, training=training)

  def encode(self, images: tf.Tensor, *, training: bool = False) -> tf.Tensor:
    """Maps images to noise: `z = G^-1(x)`.

    Args:
      images: Images of shape `[..., *event_shape]`, with values in [0, 1].
      training: As in `log_prob`.

    Returns:
      Noise of the prior's shape, which is `[..., *event_shape]` for the flows of this package. A value outside the
      support is encoded as the nearest value inside. It raises the same errors as `log_prob`.
    """
    images = self._as_events('images', images, self)
    return self.bijector.inverse(images, **training_kwargs(self.bijector, training))

  def decode(self, noise: tf.Tensor, *, training: bool = False) -> tf.Tensor:
    """Maps noise to images, `x = G(z)`: the inverse of `encode`, with `training` as in `sample`."""
    noise = self._as_events('noise', noise, self.distribution)
    return self.bijector.forward(noise, **training_kwargs(self.bijector, training))

  def _entropy(self, **kwargs):
    if kwargs.get('training', False):
      raise NotImplementedError('entropy needs training=False, because training=True needs a batch of data.')
    return super()._entropy(**kwargs)

  @staticmethod
  def _as_events(name, value, distribution):
    """Converts `value` as TFP does, and refuses anything but a batch of the distribution's events."""
    dtype = distribution.dtype
    if not isinstance(dtype, tf.DType):
      return value  # An event of several parts, as with a `tfb.JointMap`.
    # Without a dtype, integers in a list stay integers, so that they can be refused. Floats become float32.
    found = value if hasattr(value, 'dtype') else tf.convert_to_tensor(value, name=name)
    check_events(name, found, distribution.event_shape, dtype=dtype if tf.is_tensor(value) else None)
    return tf.convert_to_tensor(value, dtype, name=name)

  def copy(self, **override_parameters_kwargs) -> Flow:
    """Copies the flow, with other constructor arguments if they are given. The copy shares its variables.

    A copy with another `distribution` or `bijector` is not what the builder made, and has no `with_dtype`.
    """
    # TFP's method would keep the original inside the copy, and list its variables beside a new bijector's.
    other = type(self)(**{**self.parameters, **override_parameters_kwargs})
    if override_parameters_kwargs.keys() <= {'name'}:
      other._build = self._build
    return other

  def __deepcopy__(self, memo: dict) -> Flow:
    """Copies the flow, with variables of its own."""
    prior = self.distribution
    if prior.variables:  # TFP's `Sample` cannot be copied as a whole.
      prior = type(prior)(**copy.deepcopy(prior.parameters, memo))
    other = self.copy(distribution=prior, bijector=copy.deepcopy(self.bijector, memo))
    memo[id(self)], other._build = other, self._build
    return other

  def __reduce__(self) -> NoReturn:
    refuse_to_pickle(self)
