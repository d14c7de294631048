"""Training images nearest to samples, which show whether a generator has memorised them."""

from typing import NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors

from flowgan_tf.base.errors import UsageError, check_integer
from flowgan_tf.data import StoredImages
from flowgan_tf.metrics.arrays import check_images

# Training images, and their values, that are converted to float32 at a time: 120 MB for CIFAR-10, whose 50,000 images
# would take 614 MB.
_BLOCK = 10_000
_BLOCK_VALUES = 2**27


class Neighbors(NamedTuple):
  """The k nearest training images of each of n samples, nearest first; ties are in the order of the images."""

  indices: np.ndarray  #: Positions in the training images, int64 `[n, k]`.
  #: Root mean square differences of the pixels, float64 `[n, k]`. The range from black to white is 1.
  distances: np.ndarray


def nearest_neighbors(images: np.ndarray, training: np.ndarray | StoredImages, levels: int, k: int = 5) -> Neighbors:
  """Finds the training images that are nearest to samples, pixel by pixel.

  ```
  distance(x, t) = ||x - (t + 1/2) / levels||_2 / sqrt(height * width * channels)
  ```

  A grey level t stands for the centre of its bin, because dequantised images `(t + u) / levels` are spread over the
  whole bin. The distance between a training image and its own dequantised copy is therefore about
  `1 / (sqrt(12) levels)`. A sample has been memorised if it is much closer to a training image than test images are.
  The converse does not hold: a copy shifted by one pixel is far away.

  Args:
    images: Samples, floats `[n, height, width, channels]` with n > 0, in [0, 1]. Values outside are not clipped.
    training: Grey levels from 0 to levels - 1, uint8 `[m, height, width, channels]`. Images in a file are read
      block by block.
    levels: Number of grey levels.
    k: Number of neighbours of each sample, from 1 to m.

  Raises:
    UsageError: If the images are not finite floats, if the training images are not uint8 of their shape, or if `k` is
      out of range.
  """
  training = training if isinstance(training, StoredImages) else np.asarray(training)
  images = check_images(images)
  if training.dtype != np.uint8 or training.shape[1:] != images.shape[1:]:
    raise UsageError(
      f'`training` must be uint8 grey levels of shape [m, {", ".join(map(str, images.shape[1:]))}]. '
      f'Got: {training.dtype} of shape {training.shape}.',
      'training',
    )
  check_integer('k', k, 1, len(training))
  samples = images.reshape(len(images), -1)
  size = max(1, min(_BLOCK, _BLOCK_VALUES // samples.shape[1]))
  candidates = []
  for start in range(0, len(training), size):
    block = _bin_centers(training[start : start + size], levels)
    search = NearestNeighbors(n_neighbors=min(k, len(block)), algorithm='brute').fit(block)
    candidates.append(start + search.kneighbors(samples.astype(np.float32), return_distance=False))
  indices = np.concatenate(candidates, axis=1)
  # The search computes squared distances as ||a||^2 + ||b||^2 - 2 ab, which loses the digits of small distances.
  distances = np.stack(
    [
      np.sqrt(np.mean((sample - _bin_centers(training[found], levels)) ** 2, axis=1))
      for sample, found in zip(samples.astype(np.float64), indices, strict=True)
    ]
  )
  order = np.lexsort((indices, distances), axis=1)[:, :k]
  return Neighbors(np.take_along_axis(indices, order, axis=1), np.take_along_axis(distances, order, axis=1))


def _bin_centers(training: np.ndarray, levels: int) -> np.ndarray:
  return (training.reshape(len(training), -1) + np.float32(0.5)) / np.float32(levels)
