"""The distribution of the noise: one standard distribution, or a mixture of copies of it around trained means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import threadpoolctl
from sklearn.cluster import KMeans

from flowgan_tf.arguments import check, check_choice, check_integer, check_memory

if TYPE_CHECKING:
  from flowgan_tf.flows.flow import Flow

__all__ = ['PRIORS', 'MixturePrior', 'initialize_prior', 'make_prior', 'standard_prior', 'tempered']

PRIORS = {'logistic': tfp.distributions.Logistic, 'normal': tfp.distributions.Normal}

_MOST_COMPONENTS = 10_000
_IMAGES_PER_CALL = 500


def standard_prior(name: str, event_shape: Sequence[int], dtype: tf.DType) -> tfp.distributions.Distribution:
  """Returns independent standard noise of the given shape.

  Args:
    name: A key of `PRIORS`: 'logistic' or 'normal'.
    event_shape: Shape of the noise behind one image.
    dtype: Floating-point type of the noise.

  Returns:
    A distribution with that `event_shape` and no batch dimensions.

  Raises:
    ValueError: If `name` is not a key of `PRIORS`.
  """
  check_choice('prior', name, PRIORS)
  standard = PRIORS[name](tf.zeros((), dtype), tf.ones((), dtype))
  return tfp.distributions.Sample(standard, tuple(event_shape))


def make_prior(
  name: str, components: int, event_shape: Sequence[int], dtype: tf.DType
) -> tfp.distributions.Distribution:
  """Returns the standard prior or, for more than one component, a mixture whose means can be trained.

  Args:
    name: A key of `PRIORS`.
    components: Number of components.
    event_shape: Shape of the noise behind one image.
    dtype: Floating-point type of the noise.

  Raises:
    ValueError: If an argument is out of range.
  """
  check_integer('components', components, 1, _MOST_COMPONENTS)
  standard = standard_prior(name, event_shape, dtype)
  if components == 1:
    return standard
  check_memory('means of the prior', dtype.size * components * math.prod(event_shape))
  # Equal means would have equal gradients, and stay equal.
  return MixturePrior(tf.Variable(standard.sample(components), name='prior_means'), name)


class MixturePrior(tfp.distributions.Distribution):
  """A mixture, with equal weights, of copies of a standard prior around means.

  ```none
  z = m_k + s e,   k uniform on 1, ..., K,   e ~ standard
  log p(z) = log sum_k p_e((z - m_k) / s) - log K - d log s,   z in R^d
  ```

  A flow is continuous and invertible, so from noise in one piece it makes images in one piece: between two classes of
  images there are always some that belong to neither. A mixture gives each kind of image a place of its own. Samples
  are differentiable with respect to the means, so adversarial training moves them, too.

  The likelihood takes time and memory of `K` times that of the standard prior, which is a small part of a step as long
  as there are no more than dozens of components.

  #### References

  [1]: Pavel Izmailov, Polina Kirichenko, Marc Finzi, Andrew Gordon Wilson. Semi-Supervised Learning with Normalizing
       Flows. ICML 2020. It has one normal component for each class.
  [2]: Vincent Stimper, Bernhard Schölkopf, José Miguel Hernández-Lobato. Resampling Base Distributions of Normalizing
       Flows. AISTATS 2022.
  """

  def __init__(
    self,
    means: tf.Variable | tf.Tensor,
    standard: str = 'logistic',
    scale: float | tf.Tensor | None = None,
    name: str = 'mixture_prior',
  ):
    """Builds the mixture.

    Args:
      means: The means `m_k`, floats `[K, *event_shape]` with K > 0. A variable is trained with the flow.
      standard: Distribution of `e`, a key of `PRIORS`.
      scale: The positive scale `s`, which is not trained; 1 if it is None.
      name: Name of the distribution.

    Raises:
      ValueError: If the means have no static shape `[K, *event_shape]`, or `standard` is not a key of `PRIORS`.
    """
    parameters = dict(locals())
    if not isinstance(means, tf.Variable):
      means = tf.convert_to_tensor(means)
    static = means.shape.rank and means.shape.is_fully_defined() and 0 not in means.shape
    check('means', f'{means.dtype.name} {means.shape}', 'floats [K, *event_shape]', static and means.dtype.is_floating)
    self._means, self._standard = means, standard_prior(standard, means.shape[1:], means.dtype)
    self._scale = None if scale is None else tf.convert_to_tensor(scale, means.dtype)
    super().__init__(
      dtype=means.dtype,
      reparameterization_type=tfp.distributions.FULLY_REPARAMETERIZED,
      validate_args=False,
      allow_nan_stats=True,
      parameters=parameters,
      name=name,
    )

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    # Neither a standard prior nor its means have batch dimensions.
    return {}

  @property
  def means(self) -> tf.Variable | tf.Tensor:
    """The means `[K, *event_shape]`."""
    return self._means

  @property
  def components(self) -> int:
    """The number of components `K`."""
    return self._means.shape[0]

  def _batch_shape(self):
    return tf.TensorShape([])

  def _batch_shape_tensor(self):
    return tf.constant([], tf.int32)

  def _event_shape(self):
    return self._standard.event_shape

  def _event_shape_tensor(self):
    return self._standard.event_shape_tensor()

  def _default_event_space_bijector(self):
    return self._standard.experimental_default_event_space_bijector()

  def _sample_n(self, n, seed=None):
    noise_seed, component_seed = tfp.random.split_seed(seed, salt='mixture_prior')
    component = tf.random.stateless_uniform([n], component_seed, 0, self.components, tf.int32)
    noise = self._standard.sample(n, seed=noise_seed)
    return tf.gather(self._means, component) + (noise if self._scale is None else self._scale * noise)

  def _log_prob(self, noise):
    around = tf.expand_dims(noise, -1 - self.event_shape.rank) - self._means
    constant = math.log(self.components)
    if self._scale is not None:  # Another pass over memory.
      around /= self._scale
      constant += self.event_shape.num_elements() * tf.math.log(self._scale)
    return tf.reduce_logsumexp(self._standard.log_prob(around), axis=-1) - constant

  def _mean(self):
    return tf.reduce_mean(self._means, axis=0)

  def _variance(self):
    between = tf.math.reduce_variance(tf.convert_to_tensor(self._means), axis=0)
    within = self._standard.variance()
    return (within if self._scale is None else self._scale**2 * within) + between

  def _stddev(self):
    return tf.sqrt(self._variance())


def tempered(prior: tfp.distributions.Distribution, temperature: float | tf.Tensor) -> tfp.distributions.Distribution:
  """Returns the prior of the noise scaled by a temperature: `t z` or, of a mixture, `m_k + t e`.

  Args:
    prior: A prior.
    temperature: The positive number `t`.
  """
  if isinstance(prior, MixturePrior):
    return prior.copy(scale=temperature)
  return tfp.bijectors.Scale(tf.convert_to_tensor(temperature, prior.dtype))(prior)


def initialize_prior(flow: Flow, images: np.ndarray, seed: int = 0) -> None:
  """Places the means of a new flow's `MixturePrior` at the centres of clusters in the noise of images, by k-means.

  Before it is trained a flow of this package only takes the logit of each pixel, so that these are clusters of images.
  Training keeps them apart: with means that start at random, most images share one of them.

  ```python
  flow = fg.flows.nice((28, 28, 1), components=20)
  fg.flows.initialize_prior(flow, images[:10_000])
  fg.keras.FlowModel(flow).compile('adam')
  ```

  Args:
    flow: The flow.
    images: At least as many images as there are components, floats `[n, *event_shape]` in [0, 1].
    seed: Seed of the clusters' first centres.

  Raises:
    ValueError: If the prior of the flow is no mixture whose means are a variable, there are too few images, or their
      noise is not finite.
  """
  prior = flow.distribution
  expected = 'a flow with `components` of at least 2'
  check('flow', flow, expected, isinstance(prior, MixturePrior) and isinstance(prior.means, tf.Variable))
  count = prior.components
  check('images', len(images), f'at least {count} images, one for each component', len(images) >= count)
  parts = [flow.encode(images[i : i + _IMAGES_PER_CALL]).numpy() for i in range(0, len(images), _IMAGES_PER_CALL)]
  noise = np.concatenate(parts).reshape(len(images), -1)
  finite = bool(np.isfinite(noise).all())
  check('images', 'noise that is not finite', 'inside of the support of the flow', finite)
  with threadpoolctl.threadpool_limits(1, 'openmp'):  # Threads would add numbers up in another order each time.
    clusters = KMeans(count, n_init=1, random_state=seed).fit(noise)
  prior.means.assign(clusters.cluster_centers_.reshape(prior.means.shape))
