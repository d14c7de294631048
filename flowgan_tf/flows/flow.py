"""The class of all flows: a prior, a bijector from noise to images, and the arguments `training` and `condition`."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import tensorflow as tf
import tensorflow_probability as tfp

# `tfd.TransformedDistribution(...)` itself returns this class for bijectors that own networks. We tried its public
# subclass. That is a CompositeTensor, which tf.Module does not look into: a module that holds a flow lists none of its
# variables then.
from tensorflow_probability.python.distributions.transformed_distribution import _TransformedDistribution

from flowgan_tf.base.errors import check
from flowgan_tf.base.lazy import lazy_import
from flowgan_tf.base.progress import Task
from flowgan_tf.bijectors import bijector_kwargs
from flowgan_tf.bijectors.base import takes_condition
from flowgan_tf.flows.checks import check_events
from flowgan_tf.flows.generator import Generator
from flowgan_tf.flows.given import Given
from flowgan_tf.flows.initialization import InitialData, initialize_bijectors
from flowgan_tf.flows.prior import MixturePrior
from flowgan_tf.flows.tfp_workarounds import check_copyable, check_trainable, copy_bijector, copy_prior, fix_shapes
from flowgan_tf.networks.adapter import reject_pickling

clusters = lazy_import('flowgan_tf.flows.clusters')  # scikit-learn takes long to load.

_LOG = logging.getLogger(__name__)

_CLUSTERED = 10_000  # images, or all if there are fewer


class Flow(Generator, _TransformedDistribution):
  """A normalizing flow: `x = G(z)`, `z ~ prior`, with the exact density of `x`.

  ```none
  log p(x) = log p(z) + log|det dz/dx|,   z = G^-1(x)
  ```

  A `tfd.TransformedDistribution` whose methods take `training`: `log_prob(x, training=True)`,
  `sample(n, seed, training=True)`. With `training=True` batch norms use the statistics of the batch and update their
  running statistics. Otherwise they use the running statistics, so that no image depends on the others.

  A conditional flow is the density of images given a condition `c`:

  ```none
  log p(x | c) = log p(z | c) + log|det dz/dx|,   z = G^-1(x; c)
  ```

  Its methods take the keyword `condition`: class labels, ints `[...]`, if the flow has `classes`, or floats `[...,
  *condition_shape]`. Conditions and images are broadcast to one batch shape. A flow with classes without a condition is
  the mixture of its classes, with the weights `class_probs`:

  ```none
  log p(x) = log sum_y p(y) p(x | y)
  ```

  In eager mode each call computes everything anew, with the weights as they are. Within one `tf.function`, TFP caches
  results for as long as their tensors live: `flow.encode(x)` and `flow.log_prob(x)` of the same tensor take one pass of
  the networks, so the second call does not see an assignment of weights between the two.
  """

  has_density = True

  def __init__(
    self,
    distribution: tfp.distributions.Distribution,
    bijector: tfp.bijectors.Bijector,
    name: str = 'flow',
    *,
    class_probs: tf.Variable | tf.Tensor | None = None,
    condition_shape: Sequence[int] | None = None,
    initialize: Callable[[Flow, InitialData], None] | None = None,
  ):
    """Builds the flow.

    Args:
      distribution: Prior of the noise `z`.
      bijector: `G`. Its forward direction maps noise to images. It may hold couplings and batch norms of
        `flowgan_tf.bijectors` at any depth; inside one `tfb.Chain` their names must differ.
      name: Name of the flow. The parts of a `tfd.JointDistribution` must have different names.
      class_probs: For a flow with classes, their probabilities `p(y)`, floats `[classes]`. The bijector, if it takes a
        condition, gets labels as one-hot vectors, and a `MixturePrior` with classes gets them as they are.
      condition_shape: For a flow with other conditions, the shape of one of them.
      initialize: What the method `initialize` calls with a new flow and its training data, before bijectors and prior.

    Raises:
      ValueError: If `bijector` has no trainable variables, or holds a network that has not made its variables, or whose
        variables TFP does not see; if both `class_probs` and `condition_shape` are given; if one of them is given, and
        neither bijector nor prior takes a condition; if none is given, and the bijector takes a condition; if the prior
        has another number of classes, or a batch shape although the flow is conditional; or as in
        `flowgan_tf.bijectors.bijector_kwargs`.
    """
    parameters = dict(locals())
    self._set_condition(class_probs, condition_shape)
    self._initialize = initialize
    is_mixture = isinstance(distribution, MixturePrior)
    prior_takes_label = is_mixture and distribution.classes is not None and self.classes is not None
    if prior_takes_label:
      expected = f'{distribution.classes} numbers, one for each class of the prior'
      check('class_probs', class_probs, expected, self.classes == distribution.classes)
    self._networks_take_condition = takes_condition(bijector)
    taken = self._networks_take_condition or prior_takes_label
    expected = 'a bijector that takes a `condition` if and only if the flow is conditional'
    check('bijector', bijector.name, expected, taken == self._is_conditional)
    batch = getattr(distribution, 'batch_shape', None)
    expected = 'a prior with the batch shape [] for a conditional flow, whose conditions have the batch shape'
    holds = not self._is_conditional or not isinstance(batch, tf.TensorShape) or batch.rank in (0, None)
    check('distribution', f'batch shape {batch}', expected, holds)
    check_trainable(bijector)
    fix_shapes(bijector)
    # Each call would find parts of one name, or parts that no keyword reaches, and would not know who made them.
    bijector_kwargs(bijector, condition=self._networks_take_condition or None)

    def split_kwargs(kwargs):
      # TFP's own methods, such as `unnormalized_log_prob`, would ignore a misspelt `training`.
      if unknown := kwargs.keys() - {'training', 'component', 'condition'}:
        names = '`training`, `component` and `condition`'
        raise TypeError(f'The keywords of a flow are {names}. Got: {", ".join(sorted(unknown))}.')
      of_prior = {}
      if (component := kwargs.get('component')) is not None:
        check('component', component, 'None unless the prior of the flow is a mixture', is_mixture)
        of_prior['component'] = component
      condition = self._as_condition(kwargs.get('condition'))
      if prior_takes_label:
        of_prior['label'] = condition
      return of_prior, self._bijector_kwargs(kwargs.get('training', False), condition)

    super().__init__(distribution, bijector, kwargs_split_fn=split_kwargs, name=name)
    self._parameters = parameters

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    # TFP warns about a class that has its own constructor but only inherits this method.
    return super()._parameter_properties(dtype, num_classes)

  def given(self, condition: tf.Tensor | str | None = None, name: str | None = None) -> Flow | Given:
    """Returns p(x | c) as a distribution of images, whose methods take no condition.

    Args:
      condition: As in `log_prob`. None returns the flow itself.
      name: Name of the distribution, by default the name of the flow with `_given` behind it.

    Returns:
      A distribution with batch shape `[...]`.

    Raises:
      ValueError: If the flow is not conditional, the condition has another shape or dtype, or a class does not exist.
    """
    return self if condition is None else Given(self, condition, name or f'{self.name}_given')

  @property
  def density_passes(self) -> int:
    """How often the networks run for p(x) of an image: once, or once for each class if they see the label."""
    return self.classes if self.classes and self._networks_take_condition else 1

  def nearest_component(self, images: tf.Tensor, *, condition: tf.Tensor | str | None = None) -> tf.Tensor:
    """Returns the pseudo-label of each image, ints `[...]`; see `MixturePrior.nearest_prototype`."""
    prior = self.distribution
    check('distribution', prior.name, 'a `MixturePrior`', isinstance(prior, MixturePrior))
    label = None if prior.classes is None or condition is None else self._as_condition(condition)
    return prior.nearest_prototype(images, label)

  def class_log_probs(self, value: tf.Tensor, *, training: bool = False) -> tf.Tensor:
    """Log density of images together with each class: `log p(x, y)` in nats, `[..., classes]`.

    A softmax over the last axis is p(y | x). If the couplings see the condition, this takes as long and as much memory
    as the density of `classes` times as many images.

    Args:
      value: Images of shape `[..., *event_shape]`, with values in [0, 1].
      training: As in `log_prob`.

    Raises:
      ValueError: If the flow has no classes, or in the cases of `log_prob`.
    """
    check('flow', self.name, 'a flow with classes', self.classes is not None)
    return self._joint_log_probs(self._as_events('value', value, self), training)

  def _joint_log_probs(self, value, training):
    if self._networks_take_condition:
      value = tf.expand_dims(value, -1 - self.event_shape.rank)
      conditional = self._checked_log_prob(value, training=training, condition=tf.range(self.classes))
    else:
      keywords = self._bijector_kwargs(training, None)
      noise = self.bijector.inverse(value, **keywords)
      log_det = self.bijector.inverse_log_det_jacobian(value, event_ndims=self.event_shape.rank, **keywords)
      conditional = self.distribution.class_conditional_log_probs(noise) + log_det[..., tf.newaxis]
    probs = tf.cast(self._class_probs, conditional.dtype)
    return conditional + tf.math.log(probs / tf.reduce_sum(probs))  # A loss of log p(x) would change their sum.

  @staticmethod
  def _log_prob_of_mixture(joint):
    """Returns log p(x) from log p(x, y) of all classes."""
    # The gradient of a sum of -inf, as outside of the support, would be NaN.
    outside, finite = tf.reduce_all(joint == -math.inf, axis=-1), tf.maximum(joint, joint.dtype.min)
    return tf.where(outside, tf.constant(-math.inf, joint.dtype), tf.reduce_logsumexp(finite, axis=-1))

  def _initialize_parts(self, data):
    if self._initialize is not None:
      self._initialize(self, data)
    initialize_bijectors(self, data)
    prior = self.distribution
    if isinstance(prior, MixturePrior) and isinstance(prior.means, tf.Variable):
      images, labels = data.sample(max(prior.num_components, _CLUSTERED), prior.components_per_class)
      _LOG.info('The means of the prior start in %d clusters of %s images.', prior.num_components, f'{len(images):,}')
      with Task(f'finding {prior.num_components} clusters'):
        clusters.initialize_prior(self, images, data.seed, labels if prior.classes else None)

  def train_on_samples(self, value: bool) -> None:
    """Tells the bijectors whether samples are trained, so that they may take other gradients; see `HistogramLogit`."""
    for part in self.submodules:
      if hasattr(part, 'surrogate_gradients'):
        part.surrogate_gradients = value

  def _bijector_kwargs(self, training, condition):
    seen = self.seen_by_networks(condition) if self._networks_take_condition else None
    return bijector_kwargs(self.bijector, training=training, condition=seen)

  # TFP's methods take any keyword and broadcast, cast or compute with whatever they get. The methods below name the
  # keywords of a flow in their signatures, and reject images of another dtype or shape.

  def log_prob(
    self,
    value: tf.Tensor,
    name: str = 'log_prob',
    *,
    training: bool = False,
    component: tf.Tensor | None = None,
    condition: tf.Tensor | str | None = None,
  ) -> tf.Tensor:
    """Log density of images, in nats with respect to the unit cube.

    Args:
      value: Images of shape `[..., *event_shape]`, with values in [0, 1].
      training: Whether batch norms use the statistics of this batch and update their running statistics.
      component: For a flow whose prior is a `MixturePrior`, ints of shape `[...]`, from 0 to K - 1. The result is then
        the density of an image together with the component, `log p(x, k)`, not `log p(x | k)`. A flow with classes
        then needs the condition, and the result is `log p(x, k | y)`.
      condition: For a conditional flow, class labels, ints `[...]`; a name of `class_names`, or a list of them; or
        other conditions, floats `[..., *condition_shape]`. The result is then `log p(x | c)`. Without a condition, a
        flow with classes returns the density of the mixture of its classes.

    Returns:
      Tensor of shape `[...]`. In the flows of this package it is -inf for an image with a value outside the support,
      which is [0, 1] or slightly more (see `fg.bijectors.AlphaLogit`).

    Raises:
      ValueError: If `value`, `component` or `condition` has another shape or dtype; if a component or a class does not
        exist (a compiled function does not check that); if `component` is given and the prior is not a mixture; or if a
        conditional flow gets no condition, or another flow gets one. Lists and NumPy arrays are converted.
    """
    value = self._as_events('value', value, self)
    if condition is None and component is None and self.classes is not None:
      return self._log_prob_of_mixture(self._joint_log_probs(value, training))
    return self._checked_log_prob(value, name, training=training, component=component, condition=condition)

  def _checked_log_prob(self, value, name='log_prob', *, condition, **kwargs):
    """The log density of images that are checked, with a condition that is not."""
    value, condition = self._broadcast(value, self.event_shape, condition)
    return super().log_prob(value, name, condition=condition, **kwargs)

  def experimental_local_measure(
    self, y: tf.Tensor, backward_compat: bool = False, **kwargs: Any
  ) -> tuple[tf.Tensor, Any]:
    """Log density and tangent space. TFP calls this, also where the flow is the base of another distribution."""
    if self.classes is not None and kwargs.get('condition') is None and kwargs.get('component') is None:
      return self.log_prob(y, **kwargs), tfp.experimental.tangent_spaces.FullSpace()
    log_prob, space = super().experimental_local_measure(_uncached(y), backward_compat, **kwargs)
    if isinstance(self.dtype, tf.DType) and self.event_shape.rank == 1:
      # So large that a network makes infinities of it, and NaN of their differences.
      overflows = tf.math.is_nan(log_prob) & (tf.reduce_sum(tf.abs(y), axis=-1) > math.sqrt(log_prob.dtype.max))
      log_prob = tf.where(overflows, tf.constant(-math.inf, log_prob.dtype), log_prob)
    return log_prob, space

  def prob(self, value: tf.Tensor, name: str = 'prob', **kwargs: Any) -> tf.Tensor:
    """Density of images: the exponential of `log_prob`, with the same arguments and errors."""
    return tf.exp(self.log_prob(value, name, **kwargs))

  def unnormalized_log_prob(self, value: tf.Tensor, name: str = 'log_prob', **kwargs: Any) -> tf.Tensor:
    """The same as `log_prob`: a flow is normalised."""
    return self.log_prob(value, name, **kwargs)

  def sample(
    self,
    sample_shape: int | Sequence[int] | tf.Tensor = (),
    seed: int | tf.Tensor | None = None,
    name: str = 'sample',
    *,
    training: bool = False,
    condition: tf.Tensor | str | None = None,
  ) -> tf.Tensor:
    """Draws samples: images with values in [0, 1].

    Args:
      sample_shape: Number of images, or several batch dimensions.
      seed: Int tensor of shape `[2]`, a stateless seed: the same seed gives the same images. An int is a stateful seed,
        as everywhere in TFP.
      training: Whether the batch norms of couplings use the statistics of this batch and update their running ones.
      condition: For a conditional flow, a condition for each sample, or some that can be broadcast with `sample_shape`:
        `sample(16, condition=3)` draws 16 threes, and `sample([5, 10], condition=tf.range(10))` 5 rows of each digit
        in turn. Names of classes may stand for labels, as in `log_prob`. A flow with classes needs no condition; it
        then draws a class for each sample, with the weights `class_probs`.

    Returns:
      Images of shape `[*sample_shape, *event_shape]`, after `sample_shape` was broadcast with the batch shape of the
      condition.

    Raises:
      ValueError: If `condition` has another shape or dtype, or a batch shape that does not suit `sample_shape`; if a
        class does not exist; or if a flow with a `condition_shape` gets no condition, or a flow without conditions gets
        one.
    """
    shape, condition, seed = self._condition_of_samples(sample_shape, condition, seed)
    return super().sample(shape, seed, name, training=training, condition=condition)

  def encode(self, images: tf.Tensor, *, training: bool = False, condition: tf.Tensor | str | None = None) -> tf.Tensor:
    """Maps images to noise: `z = G^-1(x)`.

    Args:
      images: Images of shape `[..., *event_shape]`, with values in [0, 1].
      training: As in `log_prob`.
      condition: As in `log_prob`, but a flow with classes needs it if its networks see the label.

    Returns:
      Noise of the prior's shape, which is `[..., *event_shape]` for the flows of this package. A value outside the
      support is encoded as the nearest value inside.

    Raises:
      ValueError: If `images` or `condition` has another shape or dtype, or a class does not exist; or if networks that
        see a condition get none, or a flow that is not conditional gets one.
    """
    images = self._as_events('images', images, self)
    if self._networks_take_condition or condition is not None:
      images, condition = self._broadcast(images, self.event_shape, condition)
    return self.bijector.inverse(images, **self._bijector_kwargs(training, condition))

  def decode(self, noise: tf.Tensor, *, training: bool = False, condition: tf.Tensor | str | None = None) -> tf.Tensor:
    """Maps noise to images, `x = G(z)`: the inverse of `encode`.

    Args:
      noise: Noise of the prior's shape, `[..., *distribution.event_shape]`.
      training: As in `sample`.
      condition: As in `encode`.

    Returns:
      Images of shape `[..., *event_shape]`.

    Raises:
      ValueError: As in `encode`, with `noise` in place of `images`.
    """
    noise = self._as_events('noise', noise, self.distribution)
    if self._networks_take_condition or condition is not None:
      noise, condition = self._broadcast(noise, self.distribution.event_shape, condition)
    return self.bijector.forward(noise, **self._bijector_kwargs(training, condition))

  def _sample_and_log_prob(self, sample_shape, seed, **kwargs):
    condition = kwargs.pop('condition', None)
    if condition is None and self.classes is not None:
      value = self.sample(sample_shape, seed, **kwargs)
      return value, self.log_prob(value, **kwargs)
    sample_shape, kwargs['condition'], seed = self._condition_of_samples(sample_shape, condition, seed)
    return super()._sample_and_log_prob(sample_shape, seed, **kwargs)

  # Flows of numbers, whose event shape is [], have these.

  def _cdf(self, y, **kwargs):
    return super()._cdf(_uncached(y), **kwargs)

  def _log_cdf(self, y, **kwargs):
    return super()._log_cdf(_uncached(y), **kwargs)

  def _survival_function(self, y, **kwargs):
    return super()._survival_function(_uncached(y), **kwargs)

  def _log_survival_function(self, y, **kwargs):
    return super()._log_survival_function(_uncached(y), **kwargs)

  def _entropy(self, **kwargs):
    if kwargs.get('training', False):
      raise NotImplementedError('entropy needs training=False, because training=True needs a batch of data.')
    return super()._entropy(**kwargs)

  @staticmethod
  def _as_events(name, value, distribution):
    """Converts `value` as TFP does, and rejects anything but a batch of the distribution's events."""
    dtype = distribution.dtype
    if not isinstance(dtype, tf.DType):
      return _uncached(value)  # An event of several parts, as with a `tfb.JointMap`.
    # Without a dtype, integers in a list stay integers, so that they can be rejected. Floats become float32.
    found = value if hasattr(value, 'dtype') else tf.convert_to_tensor(value, name=name)
    event_shape = distribution.event_shape
    check_events(name, found, event_shape, dtype=dtype if tf.is_tensor(value) else None)
    events = _uncached(tf.convert_to_tensor(value, dtype, name=name))
    if events.shape.rank is not None:
      of_batch = events.shape.rank - event_shape.rank
      if not events.shape[of_batch:].is_fully_defined():
        events = tf.ensure_shape(events, events.shape[:of_batch].concatenate(event_shape))
    return events

  def copy(self, **override_parameters_kwargs: Any) -> Flow:
    """Copies the flow, with other constructor arguments if they are given. The copy shares its variables.

    A copy with another `distribution` or `bijector` is not what the builder made, and has no `with_dtype`.
    """
    # TFP's method would keep the original inside the copy, and list its variables beside a new bijector's.
    other = type(self)(**{**self.parameters, **override_parameters_kwargs})
    if override_parameters_kwargs.keys() <= {'name'}:
      other._build, other.traits = self._build, self.traits
    if other.condition_shape == self.condition_shape:
      other.condition_check = self.condition_check
    if other.classes == self.classes:
      other.class_names = self.class_names
    return other

  def __deepcopy__(self, memo: dict) -> Flow:
    """Copies the flow, with variables of its own. Raises a TypeError if the bijector cannot be copied."""
    check_copyable(self.bijector, self.name)
    other = self.copy(
      distribution=copy_prior(self.distribution, memo),
      bijector=copy_bijector(self.bijector, memo, self.name),
      class_probs=copy.deepcopy(self._class_probs, memo),
    )
    memo[id(self)], other._build, other.traits = other, self._build, self.traits
    return other

  def __reduce__(self) -> NoReturn:
    reject_pickling(self)


def _uncached(value):
  """In eager mode, returns copies of tensors, for which TFP's cache holds no results of earlier weights or tapes."""
  if not tf.executing_eagerly():
    return value
  return tf.nest.map_structure(lambda part: tf.identity(part) if tf.is_tensor(part) else part, value)


@tfp.distributions.RegisterKL(Flow, Flow)
def _kl_divergence(p: Flow, q: Flow, name: str | None = None) -> tf.Tensor:
  """KL(p || q) in nats, the divergence of the priors, if both have one bijector and no classes.

  TFP has the same rule for all transformed distributions, but a flow with classes is a mixture of them.
  """
  if p.classes is not None or q.classes is not None or p.bijector != q.bijector:
    raise NotImplementedError(
      'The KL divergence of flows has a closed form if they have no classes and the same bijector. Otherwise estimate '
      'it: `x = p.sample(n); tf.reduce_mean(p.log_prob(x) - q.log_prob(x))`.'
    )
  with tf.name_scope(name or 'kl_divergence'):
    return tfp.distributions.kl_divergence(p.distribution, q.distribution)
