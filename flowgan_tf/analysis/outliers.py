"""Whether a likelihood tells images of the training distribution from others: often it does not.

A density may be higher where no data are: flows trained on CIFAR-10 give the images of SVHN a higher likelihood than
their own test images. Side by side, the log-densities of training images, test images, images of another data set and
uniform noise show how far likelihood is from recognition, and training against test how far the model overfits.

#### References

[1]: Eric Nalisnick, Akihiro Matsukawa, Yee Whye Teh, Dilan Gorur, Balaji Lakshminarayanan. Do Deep Generative Models
     Know What They Don't Know? ICLR 2019. https://arxiv.org/abs/1810.09136
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

__all__ = ['QUANTILES', 'LogProbHistogram', 'auroc', 'log_prob_histograms']

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class LogProbHistogram(NamedTuple):
  """Log-densities of one set of images, in nats per image over the unit cube.

  `metrics.bits_per_dim(-value, image_shape, levels)` converts a mean, a quantile or an edge.

  Attributes:
    log_prob: float64 `[n]`, in the order of the images.
    mean: Their mean.
    standard_error: Of `mean`, over images; NaN for a single one.
    quantiles: float64 `[5]`, those at `QUANTILES`.
    counts: int64 `[bins]`, images between two edges.
    edges: float64 `[bins + 1]`, the same for all sets; `counts / (n * np.diff(edges))` is a density.
    n: Number of images.
  """

  log_prob: np.ndarray
  mean: float
  standard_error: float
  quantiles: np.ndarray
  counts: np.ndarray
  edges: np.ndarray
  n: int


def log_prob_histograms(
  log_prob: Callable[[tf.Tensor], tf.Tensor], images: Mapping[str, np.ndarray], bins: int = 50, batch_size: int = 500
) -> dict[str, LogProbHistogram]:
  """Measures the log-densities of several sets of images.

  The edges of the histograms are quantiles of all sets together, each with the same weight. Bins of equal width would
  put training and test images into one bin as soon as noise, whose density is lower by tens of thousands of nats, is
  among the sets.

  ```python
  log_prob_histograms(
    tf.function(flow.log_prob),
    {
      'train': data.dequantize(dataset.train.images[:5000], dataset.levels, seed=0),
      'test': data.dequantize(dataset.test.images, dataset.levels, seed=1),
      'noise': np.random.default_rng(0).random((1000, *dataset.image_shape), np.float32),
    },
  )
  ```

  Args:
    log_prob: Maps images `[batch, height, width, channels]` to their log-densities `[batch]` in nats.
    images: Names and dequantised images, float `[n, height, width, channels]`.
    bins: Number of bins, fewer where values coincide.
    batch_size: Images in one call of `log_prob`.

  Returns:
    The numbers of each set, under the same names.

  Raises:
    ValueError: If there are no sets, a set is empty, or a log-density is not finite.
  """
  if not images or any(len(array) == 0 for array in images.values()):
    raise ValueError(f'`images` must hold sets of at least one image. Got: { {k: len(v) for k, v in images.items()} }.')
  values = {}
  for name, array in images.items():
    batches = [log_prob(tf.constant(array[i : i + batch_size])) for i in range(0, len(array), batch_size)]
    values[name] = np.concatenate(batches).astype(np.float64)
    if bad := np.count_nonzero(~np.isfinite(values[name])):
      raise ValueError(f'`log_prob` must be finite. Got: NaN or infinity for {bad} of {len(array)} images of {name!r}.')
  grid = np.linspace(0, 1, bins + 1)
  edges = np.unique(np.quantile([np.quantile(v, grid) for v in values.values()], grid))
  if len(edges) == 1:
    edges = edges + np.array([-0.5, 0.5])
  return {
    name: LogProbHistogram(
      log_prob=v,
      mean=float(v.mean()),
      standard_error=float(v.std(ddof=1) / math.sqrt(len(v))) if len(v) > 1 else math.nan,
      quantiles=np.quantile(v, QUANTILES),
      counts=np.histogram(v, edges)[0],
      edges=edges,
      n=len(v),
    )
    for name, v in values.items()
  }


def auroc(in_distribution: np.ndarray, other: np.ndarray) -> float:
  """Probability that an image of the distribution has the higher log-density: the area under the ROC curve.

  1 where a threshold on the likelihood tells both apart, 0.5 for chance, below 0.5 where the other images are the more
  likely ones. A tie counts one half.

  Args:
    in_distribution: `[n]`, log-densities of images of the distribution, of its test split for instance.
    other: `[m]`, those of other images.

  Raises:
    ValueError: If one of both is empty or not finite.
  """
  labels = np.repeat([1, 0], [len(in_distribution), len(other)])
  if len(set(labels)) < 2:
    raise ValueError(f'`in_distribution` and `other` must not be empty. Got: {len(in_distribution)} and {len(other)}.')
  return float(roc_auc_score(labels, np.concatenate([in_distribution, other])))
