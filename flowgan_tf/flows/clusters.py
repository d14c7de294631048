"""Where the components of a mixture prior start: in clusters of training images."""

import contextlib
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import threadpoolctl
from sklearn.cluster import KMeans

from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.bijectors import BatchNormalization
from flowgan_tf.flows.checks import as_indices, check_events, check_values
from flowgan_tf.flows.prior import IMAGES_PER_CALL, MixturePrior
from flowgan_tf.networks.adapter import KerasModule


def initialize_prior(
  flow: tfp.distributions.TransformedDistribution,
  images: np.ndarray,
  seed: int = 0,
  labels: np.ndarray | None = None,
) -> None:
  """Places the means of a new flow's `MixturePrior` at the centres of clusters in the noise of images, by k-means.

  A new flow of the default architectures only takes the logit of each pixel, so these are clusters of images. Training
  keeps them apart. With means that start at random, all images come to share one of them. If the prototypes of the
  prior are a variable, as in flows of this package, they become the images that the flow makes from the means.

  ```python
  flow = fg.flows.nice((28, 28, 1), components=20)
  fg.flows.initialize_prior(flow, images)
  fg.keras.FlowModel(flow).compile('adam')
  ```

  Args:
    flow: A new flow, without batch norms between its couplings: with them, the noise differs in training.
    images: A random sample of the training images, floats `[n, *event_shape]` in [0, 1]; ten thousand are enough.
    seed: Seed of the clusters' first centres, not negative.
    labels: Classes of the images, ints `[n]`, if the components are divided among classes. The clusters are then found
      within each class.

  Raises:
    ValueError: If the prior of the flow is not a mixture whose means are a variable, or the flow has such batch norms;
      if the images have another shape or dtype, values outside [0, 1] or noise that is not finite; if there are fewer
      different images than components; or if a prior with classes gets no labels, another prior gets labels, or a label
      is not one of the classes.
  """
  prior: Any = getattr(flow, 'distribution', None)
  expected = 'a flow with `components` of at least 2'
  check('flow', flow, expected, isinstance(prior, MixturePrior) and isinstance(prior.means, tf.Variable))
  normed = any(isinstance(part, BatchNormalization) for part in flow.submodules)
  check('flow', flow, 'without batch norms between its couplings', not normed)
  images = np.asarray(images)
  check_events('images', images, flow.event_shape, 'n')
  check_values(images)
  images = images.astype(prior.dtype.as_numpy_dtype)
  found, expected = 'nothing' if labels is None else 'labels', 'given if and only if the prior is divided among classes'
  check('labels', found, expected, (labels is None) == (prior.classes is None))
  groups = np.zeros(len(images), int) if labels is None else as_indices('labels', labels, prior.classes).numpy()
  check('labels', groups.shape, f'ints of shape {(len(images),)}', groups.shape == (len(images),))
  for group in range(prior.classes or 1):
    distinct, needed = len({image.tobytes() for image in images[groups == group]}), prior.components_per_class
    of_class = '' if labels is None else f' of class {group}'
    check(
      'images', distinct, f'at least {needed} different images{of_class}, one for each component', distinct >= needed
    )

  def in_parts(method, rows, groups):
    # The networks of a new flow return zero, whatever the condition is.
    conditions = groups.astype('int32') if flow.classes else None
    if flow.condition_shape is not None:
      conditions = np.zeros((len(rows), *flow.condition_shape), 'float32')
    function, parts = tf.function(flow.on_batches(method), autograph=False), []
    with contextlib.ExitStack() as skipped:
      for network in (part for part in flow.submodules if isinstance(part, KerasModule)):
        skipped.enter_context(network.skipped_if_zero())
      for i in range(0, len(rows), IMAGES_PER_CALL):
        part = (None if array is None else tf.constant(array[i : i + IMAGES_PER_CALL]) for array in (rows, conditions))
        parts.append(function(*part).numpy())
    return np.concatenate(parts)

  noise = in_parts(lambda given, images: given.encode(images), images, groups).reshape(len(images), -1)
  if not np.isfinite(noise).all():
    raise UsageError('`images` must lie inside the support of the flow. Got: an image without finite noise.', 'images')
  # Threads would add numbers up in another order each time, and such small products take longer with them.
  with threadpoolctl.threadpool_limits(1):
    kmeans = [
      KMeans(prior.components_per_class, n_init=1, random_state=seed).fit(noise[groups == group])
      for group in range(prior.classes or 1)
    ]
    centers = np.concatenate([found.cluster_centers_ for found in kmeans])
  centers = centers.reshape(prior.means.shape).astype(prior.dtype.as_numpy_dtype)
  if isinstance(prior.prototypes, tf.Variable):
    prototypes = in_parts(
      lambda given, noise: given.decode(noise), centers, np.arange(prior.num_components) // prior.components_per_class
    )
    prior.prototypes.assign(np.clip(prototypes, 0.0, 1.0))
  prior.means.assign(centers)
