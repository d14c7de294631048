"""Log-densities of several sets of images: does the likelihood recognise images of the training distribution?

Often it does not, because a density may be high where there are no data. Flows trained on CIFAR-10 give images of SVHN
a higher likelihood than their own test images. The log-densities of training images, test images, images of another
data set and uniform noise show how well a likelihood recognises the data. The difference between training and test
images shows how far the model overfits.

#### References

[1]: Eric Nalisnick, Akihiro Matsukawa, Yee Whye Teh, Dilan Gorur, Balaji Lakshminarayanan. Do Deep Generative Models
     Know What They Don't Know? ICLR 2019. https://arxiv.org/abs/1810.09136
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

from flowgan_tf.metrics.standard_errors import standard_error

__all__ = ['LogProbs', 'auroc', 'compare_log_probs']


class LogProbs(NamedTuple):
  """Log-densities of one set of images, in nats per image over the unit cube.

  `metrics.bits_per_dim(-value, image_shape, levels)` converts them.

  Attributes:
    log_prob: Log-densities in the order of the images, float64 `[n]`.
    mean: Mean of the log-densities.
    standard_error: Standard error of `mean` over images, NaN for a single image.
    n: Number of images.
  """

  log_prob: np.ndarray
  mean: float
  standard_error: float
  n: int


def compare_log_probs(
  log_prob: Callable[[np.ndarray], ArrayLike], images: Mapping[str, np.ndarray]
) -> dict[str, LogProbs]:
  """Measures the log-densities of several sets of images.

  ```python
  compare_log_probs(
    flow.log_prob,
    {
      'train': data.dequantize(dataset.train.images[:1000], dataset.levels, seed=0),
      'test': data.dequantize(dataset.test.images[:1000], dataset.levels, seed=1),
      'noise': np.random.default_rng(0).random((1000, *dataset.image_shape), np.float32),
    },
  )
  ```

  Args:
    log_prob: Function from images `[n, height, width, channels]` to their log-densities `[n]` in nats. It is called
      once with each set.
    images: Sets of dequantised images by name, floats `[n, height, width, channels]`.

  Returns:
    The log-densities of each set, under the same names.

  Raises:
    ValueError: If there are no sets, a set is empty, or a log-density is not finite.
  """
  if not images or any(len(array) == 0 for array in images.values()):
    raise ValueError(f'`images` must hold sets of at least one image. Got: { {k: len(v) for k, v in images.items()} }.')
  found = {}
  for name, array in images.items():
    v = np.asarray(log_prob(array)).astype(np.float64)
    if bad := np.count_nonzero(~np.isfinite(v)):
      raise ValueError(f'`log_prob` must be finite. Got: NaN or infinity for {bad} of {len(array)} images of {name!r}.')
    found[name] = LogProbs(v, float(v.mean()), standard_error(v), len(v))
  return found


def auroc(in_distribution: np.ndarray, other: np.ndarray) -> float:
  """Area under the ROC curve: the probability that an image of the distribution has a higher log-density than another.

  It is 1 if a threshold on the likelihood separates the two sets, 0.5 for chance, and below 0.5 if the other images
  tend to be more likely. A tie counts one half.

  Args:
    in_distribution: Log-densities of images of the distribution, such as its test images, `[n]`.
    other: Log-densities of other images, `[m]`.

  Returns:
    The probability, from 0 to 1.

  Raises:
    ValueError: If one of the arrays is empty or not finite.
  """
  labels = np.repeat([1, 0], [len(in_distribution), len(other)])
  if len(set(labels)) < 2:
    raise ValueError(f'`in_distribution` and `other` must not be empty. Got: {len(in_distribution)} and {len(other)}.')
  return float(roc_auc_score(labels, np.concatenate([in_distribution, other])))
