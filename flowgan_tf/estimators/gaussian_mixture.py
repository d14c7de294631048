"""The paper's baseline that only memorises: a mixture of Gaussians centred on the training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from flowgan_tf.estimators.parzen import bandwidth_curve, log_density

__all__ = ['GaussianMixture', 'bandwidth_study', 'winning_range']


class GaussianMixture:
  """A mixture of isotropic Gaussians of equal weight and bandwidth, one centred on each training image.

  ```
  p_h(x) = (1/n) sum_j N(x; c_j, h^2 I)
  ```

  The only parameter is the bandwidth, which each method takes as an argument. Some of the mixture's mass lies outside
  [0, 1]^d, which puts its likelihood at a disadvantage against models whose density is confined to the cube.

  Attributes:
    centers: The training images, floats `[n, *image_shape]`.

  #### References

  Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI 2018,
  section 3.4 and appendix C.
  """

  def __init__(self, centers: np.ndarray):
    """Builds the mixture.

    Args:
      centers: Dequantised training images in [0, 1], floats `[n, *image_shape]` with n > 0.

    Raises:
      ValueError: If the images are not floats, or if there are none.
    """
    self.centers = np.asarray(centers)
    if not np.issubdtype(self.centers.dtype, np.floating):
      raise ValueError(f'`centers` must be dequantised images, floats in [0, 1]. Got: {self.centers.dtype}.')
    if self.centers.ndim < 2 or 0 in self.centers.shape:
      raise ValueError(f'`centers` must have shape [n, *image_shape], not empty. Got: {self.centers.shape}.')

  def log_prob(self, images: np.ndarray, bandwidths: Sequence[float]) -> np.ndarray:
    """Log density of images for several bandwidths at once, which hardly costs more than for one.

    Args:
      images: The images, finite floats `[m, *image_shape]`.
      bandwidths: The k standard deviations of the Gaussians.

    Returns:
      The log densities in nats, float64 `[k, m]`.

    Raises:
      ValueError: If an argument is not valid for `parzen.log_density`.
    """
    return log_density(images, self.centers, bandwidths)

  def sample(self, n: int, bandwidth: float, seed: int) -> np.ndarray:
    """Draws samples `c_j + h e`, where j is uniform and e is standard normal.

    For the same seed, j and e are the same at every bandwidth. Samples are not clipped to [0, 1].

    Args:
      n: Number of samples.
      bandwidth: Standard deviation of the Gaussians.
      seed: Non-negative seed of NumPy's default generator.

    Returns:
      The samples, float32 `[n, *image_shape]`.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(self.centers), size=n)
    samples = rng.standard_normal((n, *self.centers.shape[1:]), dtype=np.float32)
    samples *= np.float32(bandwidth)
    samples += self.centers[chosen]
    return samples


def bandwidth_study(
  mixture: GaussianMixture,
  validation_images: np.ndarray,
  score: Callable[[np.ndarray], dict] | None,
  bandwidths: Sequence[float],
  samples: int,
  seed: int,
) -> list[dict]:
  """Likelihood and sample scores of the mixture as functions of the bandwidth: the curves of the paper's Figures 3, 6.

  The samples at different bandwidths have the same centres and the same noise, which is only scaled. They are clipped
  to [0, 1] before they are scored, as they would be before they are shown. The likelihood is that of the mixture
  without clipping.

  Args:
    mixture: The mixture.
    validation_images: Dequantised images, floats `[m, *image_shape]`.
    score: Function, such as a `metrics.Scorer`, that scores samples in [0, 1], float32 `[samples, *image_shape]`. None
      leaves the scores out.
    bandwidths: The bandwidths to visit.
    samples: Number of samples to score at each bandwidth.
    seed: Non-negative seed of the samples.

  Returns:
    One record for each bandwidth, in the given order: `bandwidth`; `nll` in nats per image; its `standard_error` over
    images; their number `n`; and what `score` returns.

  Raises:
    ValueError: If an argument is not valid for `parzen.log_density`.
  """
  curve = bandwidth_curve(validation_images, mixture.centers, bandwidths)
  records = []
  for bandwidth, mean, standard_error in zip(*curve[:3], strict=True):
    record = {
      'bandwidth': float(bandwidth),
      'nll': float(-mean),
      'standard_error': float(standard_error),
      'n': curve.n,
    }
    if score is not None:
      record |= score(np.clip(mixture.sample(samples, bandwidth, seed), 0, 1))
    records.append(record)
  return records


def winning_range(records: list[dict], nll: float, score: float, score_name: str) -> tuple[float, float] | None:
  """Bandwidths at which the mixture beats a model in likelihood and score: the shaded region of Figures 3 and 6.

  Between the visited bandwidths, NLL and score are interpolated linearly in the logarithm of the bandwidth. Beyond them
  nothing is assumed. If there are several ranges, the one with the largest ratio of its ends is returned.

  Args:
    records: What `bandwidth_study` returned for two or more bandwidths.
    nll: The model's NLL of the same images, in nats per image.
    score: The model's score, by the same scorer and for the same number of samples.
    score_name: Name of the score in the records. Higher must be better.

  Returns:
    The lowest and highest bandwidth of the range, or None if there is no such range.

  Raises:
    ValueError: If there are fewer than two different bandwidths, or a record lacks the score.
  """
  if missing := [record['bandwidth'] for record in records if score_name not in record]:
    raise ValueError(f'`records` must hold `score_name`, {score_name!r}. Got: none at bandwidths {missing}.')
  rows = sorted((r['bandwidth'], r['nll'], r[score_name]) for r in records)
  if len({bandwidth for bandwidth, *_ in rows}) < 2:
    raise ValueError(f'`records` must have two or more bandwidths. Got: {[bandwidth for bandwidth, *_ in rows]}.')
  bandwidths, nlls, scores = np.transpose(rows)
  log_h = np.log(bandwidths)
  margins = nll - nlls, scores - score
  # No margin changes its sign between two neighbouring points of these.
  points = np.unique(np.concatenate([log_h, *(_crossings(log_h, margin) for margin in margins)]))
  middles = (points[:-1] + points[1:]) / 2
  wins = np.all([np.interp(middles, log_h, margin) > 0 for margin in margins], axis=0)
  # The points where a run of winning intervals begins and where it ends.
  edges = points[np.flatnonzero(np.diff(wins, prepend=False, append=False))].reshape(-1, 2)
  if not len(edges):
    return None
  low, high = np.exp(edges[np.argmax(edges[:, 1] - edges[:, 0])])
  return float(low), float(high)


def _crossings(x, y):
  """Returns the zeros, inside the intervals, of the function that is linear between the points (x, y)."""
  i = np.flatnonzero(y[:-1] * y[1:] < 0)
  return x[i] - y[i] * (x[i + 1] - x[i]) / (y[i + 1] - y[i])
