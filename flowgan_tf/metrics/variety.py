"""Whether samples look real, whether they show all kinds of images, and whether they are copies of training images.

All of it compares distances between features of a network, in which alike images are near to each other.
"""

import math
from typing import NamedTuple

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestNeighbors

from flowgan_tf.base.errors import UsageError, check, check_integer
from flowgan_tf.metrics.arrays import standard_error
from flowgan_tf.metrics.scores import check_features

_BLOCK_ROWS = 1024
FEWEST_HELD_OUT = 99  # With fewer, the nearest of them is not yet nearer than 99%.
_NEARER_THAN = 0.01


class PRDC(NamedTuple):
  """Precision, recall, density and coverage of samples."""

  precision: float  #: Share of samples inside the ball of a real image.
  recall: float  #: Share of real images inside the ball of a sample.
  density: float  #: Mean number of balls of real images that a sample lies in, over k.
  coverage: float  #: Share of real images with a sample inside their ball.


def prdc(samples: np.ndarray, references: np.ndarray, k: int = 5) -> PRDC:
  """Returns improved precision and recall, density and coverage of samples.

  The ball of an image reaches as far as the k-th nearest of the other images of its set. `B(y)` is the open ball of
  `y`, `x_j` are the features of n samples, and `y_i` of m real images:

  ```none
  precision = mean_j [x_j in a B(y_i)]           recall   = mean_i [y_i in a B(x_j)]
  density   = mean_j sum_i [x_j in B(y_i)] / k   coverage = mean_i [an x_j in B(y_i)]
  ```

  Precision and density say whether samples look real, recall and coverage whether all kinds of real images are among
  them. Density may exceed 1. One odd real image makes a large ball, which density and coverage mind less. Recall counts
  balls of samples: samples that lie far apart, and are not real, raise it; copies of few images lower it to 0.

  All four depend on n, m and k. Compare them only at the same numbers, with features of the same network. If samples
  and real images have the same distribution and `n = m`, the expected density is 1, and the expected coverage nearly
  `1 - 2^-k`, in any dimension. Precision and recall then depend on the distribution.

  Args:
    samples: Features of the samples, real `[n, d]`, with n > k. The distances are computed in float64.
    references: Features of the real images, real `[m, d]`, with m > k. As many as there are samples are customary.
    k: Number of neighbours. Density and coverage are customary with 5, precision and recall with 3 to 5.

  Raises:
    UsageError: If the features are not two finite matrices of the same width, or `k` is out of range.

  #### References

  [1]: Tuomas Kynkäänniemi, Tero Karras, Samuli Laine, Jaakko Lehtinen, Timo Aila. Improved Precision and Recall Metric
       for Assessing Generative Models. NeurIPS 2019.
  [2]: Muhammad Ferjad Naeem, Seong Joon Oh, Youngjung Uh, Yunjey Choi, Jaejun Yoo. Reliable Fidelity and Diversity
       Metrics for Generative Models. ICML 2020. Its code, the package prdc, has open balls, too.
  """
  samples, references = _float64_of_one_width(samples, references)
  check_integer('k', k, 1, min(len(samples), len(references)) - 1)
  sample_radii, radii = (
    _distances_to(x, x, NearestNeighbors(n_neighbors=k, algorithm='brute').fit(x).kneighbors(return_distance=False))
    for x in (samples, references)
  )
  balls = np.zeros(len(samples))  # of real images around each sample
  is_covered, is_recalled = np.zeros((2, len(references)), bool)
  for start in range(0, len(samples), _BLOCK_ROWS):
    block = slice(start, start + _BLOCK_ROWS)
    # Of equal distances, rounding would put some inside of a ball.
    distances = euclidean_distances(samples[block], references) * (1 + 1e-9)
    is_inside = distances < radii
    balls[block] = is_inside.sum(axis=1)
    is_covered |= is_inside.any(axis=0)
    is_recalled |= (distances < sample_radii[block, np.newaxis]).any(axis=0)
  return PRDC(*(float(v) for v in (np.mean(balls > 0), is_recalled.mean(), balls.mean() / k, is_covered.mean())))


class Copies(NamedTuple):
  """The share of samples that are nearer to a training image than 99 % of held-out images are."""

  share: float  #: 0.01 is expected of samples that are as new as held-out images.
  #: Its standard error, which includes the error of the distance that 99 % of the held-out images exceed.
  error: float


def nearest_distances(features: np.ndarray, training: np.ndarray) -> np.ndarray:
  """Returns the distance of each sample to its nearest training image, for `near_copies`.

  Args:
    features: Features of the samples, finite `[n, d]`.
    training: Features of the training images, finite `[m, d]`.

  Returns:
    Euclidean distances, float64 `[n]`.
  """
  search = NearestNeighbors(n_neighbors=1, algorithm='brute').fit(training)
  return _distances_to(features, training, search.kneighbors(features, return_distance=False))


def near_copies(distances: np.ndarray, held_out: np.ndarray) -> Copies:
  """Tests whether samples are copies of training images.

  Held-out images, which the model has not seen, come near to training images, too: many images are alike. Let `t` be
  the distance to the nearest training image that 99 % of the held-out images exceed (the 1 % quantile in Weibull's
  definition, below which 1 % of new images are expected). The result is the share of samples below `t` or at 0.

  If a model copies a tenth of its samples, the share is at least about 10 %, however poor its other samples are. A test
  of the mean rank [1] misses these copies if the other samples are farther from the training images than new images
  are. A share above 1 % need not be copying: a model that draws only the most typical images has it, too. A share of
  1 % does not exclude copies that the network sees as other images.

  Args:
    distances: The distance of each sample to its nearest training image, `[n]`.
    held_out: The same for held-out images, `[m]`, with m at least 99.

  Raises:
    UsageError: If the distances are not finite, or there are too few.

  #### References

  [1]: Casey Meehan, Kamalika Chaudhuri, Sanjoy Dasgupta. A Non-Parametric Test to Detect Data-Copying in Generative
       Models. AISTATS 2020. It compares the same distances by the rank test of Mann and Whitney.
  """
  for name, values, fewest in (('distances', distances, 2), ('held_out', held_out, FEWEST_HELD_OUT)):
    shape = np.shape(values)
    check(name, shape, f'at least {fewest} numbers', len(shape) == 1 and len(values) >= fewest)
    check(name, 'NaN or infinity', 'finite', np.isfinite(values).all())
  threshold, distances = np.quantile(held_out, _NEARER_THAN, method='weibull'), np.asarray(distances)
  is_near = (distances < threshold) | (distances == 0)  # Of exact copies, `threshold` may be 0, too.
  # The error of the threshold's rank moves the threshold past as many samples as lie there.
  error = math.sqrt(_NEARER_THAN * (1 - _NEARER_THAN) / len(held_out))
  upper = np.quantile(held_out, _NEARER_THAN + error, method='weibull')
  of_threshold = np.mean(distances < upper) - np.mean(distances < threshold)
  return Copies(float(is_near.mean()), math.hypot(standard_error(is_near), of_threshold))


def _distances_to(features, others, neighbors):
  """The distance of each row to its last neighbour, which is exactly 0 between equal rows. In the search it is not."""
  features, others, nearest = np.asarray(features), np.asarray(others), neighbors[:, -1]
  blocks = [slice(start, start + _BLOCK_ROWS) for start in range(0, len(features), _BLOCK_ROWS)]
  return np.concatenate(
    [np.linalg.norm(features[block].astype(np.float64) - others[nearest[block]], axis=1) for block in blocks]
  )


def _float64_of_one_width(samples, references):
  samples, references = check_features(samples, 'samples'), check_features(references, 'references')
  if samples.shape[1] != references.shape[1]:
    raise UsageError(
      f'`references` must be of the width of `samples`, {samples.shape[1]}. Got: {references.shape[1]}.', 'references'
    )
  return samples.astype(np.float64), references.astype(np.float64)
