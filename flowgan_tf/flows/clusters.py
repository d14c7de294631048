"""The start of a mixture prior: its components are placed in clusters of images."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import threadpoolctl
from sklearn.cluster import KMeans

from flowgan_tf.bijectors import BatchNormalization
from flowgan_tf.errors import check, check_integer
from flowgan_tf.flows.flow import Flow
from flowgan_tf.flows.prior import MixturePrior

__all__ = ['initialize_prior']

_IMAGES_PER_CALL = 500


def initialize_prior(flow: Flow, images: np.ndarray, seed: int = 0) -> None:
  """Places the means of a new flow's `MixturePrior` at the centres of clusters in the noise of images, by k-means.

  A new flow of the default architectures only takes the logit of each pixel, so that these are clusters of images.
  Training keeps them apart. With means that start at random, all images come to share one of them. If the prototypes of
  the prior are a variable, as in flows of this package, they become the images that the flow makes of the means.

  ```python
  flow = fg.flows.nice((28, 28, 1), components=20)
  fg.flows.initialize_prior(flow, images)
  fg.keras.FlowModel(flow).compile('adam')
  ```

  Args:
    flow: The flow.
    images: A random sample of the training images, floats `[n, *event_shape]` in [0, 1]; ten thousand are enough.
    seed: Seed of the clusters' first centres, not negative.

  Raises:
    ValueError: If the prior of the flow is no mixture whose means are a variable, the flow has batch norms between its
      couplings, whose noise in training is another, or there are fewer different images than components.
  """
  prior = getattr(flow, 'distribution', None)
  expected = 'a flow with `components` of at least 2'
  check('flow', flow, expected, isinstance(prior, MixturePrior) and isinstance(prior.means, tf.Variable))
  normed = any(isinstance(part, BatchNormalization) for part in flow.submodules)
  check('flow', flow, 'without batch norms between its couplings', not normed)
  check_integer('seed', seed, 0, 2**31 - 1)
  images, count = np.asarray(images), prior.num_components
  if np.issubdtype(images.dtype, np.floating):
    images = images.astype(prior.dtype.as_numpy_dtype)
  distinct = len({image.tobytes() for image in images})
  check('images', distinct, f'at least {count} different images, one for each component', distinct >= count)
  encode = tf.function(flow.encode, autograph=False)
  parts = [encode(images[i : i + _IMAGES_PER_CALL]).numpy() for i in range(0, len(images), _IMAGES_PER_CALL)]
  noise = np.concatenate(parts).reshape(len(images), -1)
  finite = bool(np.isfinite(noise).all())
  check('images', 'noise that is not finite', 'inside of the support of the flow', finite)
  with threadpoolctl.threadpool_limits(1, 'openmp'):  # Threads would add numbers up in another order each time.
    centers = KMeans(count, n_init=1, random_state=seed).fit(noise).cluster_centers_
  centers = centers.reshape(prior.means.shape).astype(prior.dtype.as_numpy_dtype)
  if isinstance(prior.prototypes, tf.Variable):
    decode = tf.function(flow.decode, autograph=False)
    parts = [decode(centers[i : i + _IMAGES_PER_CALL]) for i in range(0, count, _IMAGES_PER_CALL)]
    prior.prototypes.assign(tf.clip_by_value(tf.concat(parts, axis=0), 0.0, 1.0))
  prior.means.assign(centers)
