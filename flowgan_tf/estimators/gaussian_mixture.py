"""The paper's baseline that memorises: a mixture of Gaussians centred on the training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from flowgan_tf.estimators.parzen import bandwidth_curve, log_density

__all__ = ['GaussianMixture', 'bandwidth_study', 'winning_range']

# Distances between samples and data; every other score grows with quality.
_LOWER_IS_BETTER = ('fid', 'kid')


class GaussianMixture:
  """Equal mixture of isotropic Gaussians of one bandwidth, one on each training image.

  ```
  p_h(x) = (1/n) sum_j N(x; c_j, h^2 I)
  ```

  It has no parameters to learn but the bandwidth, which each method takes. Some of its mass lies outside [0, 1]^d, so
  that its likelihood, of a density over all of R^d, is understated against models of the cube.

  Attributes:
    centers: Floats `[n, *image_shape]`.

  #### References

  Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI 2018,
  section 3.4 and appendix C.
  """

  def __init__(self, centers: np.ndarray):
    """Takes the training images.

    Args:
      centers: Floats `[n, *image_shape]`, n > 0, dequantised, in [0, 1].

    Raises:
      ValueError: if they are not floats, or none.
    """
    self.centers = np.asarray(centers)
    if not np.issubdtype(self.centers.dtype, np.floating):
      raise ValueError(f'`centers` must be dequantised images, floats in [0, 1]. Got: {self.centers.dtype}')
    if self.centers.ndim < 2 or 0 in self.centers.shape:
      raise ValueError(f'`centers` must have shape [n, *image_shape], not empty. Got: {self.centers.shape}')

  def log_prob(self, images: np.ndarray, bandwidths: Sequence[float]) -> np.ndarray:
    """Log density of images for several bandwidths at once, which costs hardly more than for one.

    Args:
      images: Floats `[m, *image_shape]`, finite.
      bandwidths: k standard deviations of the Gaussians.

    Returns:
      float64 `[k, m]`, nats.

    Raises:
      ValueError: as `parzen.log_density` does.
    """
    return log_density(images, self.centers, bandwidths)

  def sample(self, n: int, bandwidth: float, seed: int) -> np.ndarray:
    """Draws samples `c_j + h e`, where j is uniform and e standard normal.

    One seed chooses the same j and e for every bandwidth. Samples are not clipped to [0, 1].

    Args:
      n: Number of samples.
      bandwidth: Standard deviation of the Gaussians.
      seed: Non-negative seed of NumPy's default generator.

    Returns:
      float32 `[n, *image_shape]`.
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

  The samples of all bandwidths have their centres and their noise, but for its scale, in common. They are clipped to
  [0, 1] before they are scored, as they would be to be shown; the likelihood is that of the mixture without clipping.

  Args:
    mixture: The mixture.
    validation_images: Dequantised images, floats `[m, *image_shape]`.
    score: Scores of samples, float32 `[samples, *image_shape]` in [0, 1], such as a `metrics.Scorer`; None for none.
    bandwidths: Bandwidths to visit.
    samples: Number of samples that are scored at each.
    seed: Non-negative seed of the samples.

  Returns:
    For each bandwidth, in the order given, a record of `bandwidth`, `nll` (nats per image), its `standard_error`
    (over images), their number `n`, and what `score` returns.

  Raises:
    ValueError: as `parzen.log_density` does.
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
  """Bandwidths for which the mixture beats a model on both counts: the shaded region of the paper's Figures 3 and 6.

  NLL and score are taken as linear in the logarithm of the bandwidth between those visited; nothing is assumed beyond
  them. Should there be several ranges, the widest by ratio is returned.

  Args:
    records: What `bandwidth_study` returns, of two or more bandwidths.
    nll: The model's NLL of the same images, nats per image.
    score: The model's score by the same scorer, of as many samples.
    score_name: Name of the score in the records. Lower is better for 'fid' and 'kid', higher for others.

  Returns:
    (lowest, highest) bandwidth of the range, or None if there is none.

  Raises:
    ValueError: if there are fewer than two different bandwidths, or a record lacks the score.
  """
  if missing := [record['bandwidth'] for record in records if score_name not in record]:
    raise ValueError(f'`records` must hold `score_name`, {score_name!r}. Got: none at bandwidths {missing}')
  rows = sorted((r['bandwidth'], r['nll'], r[score_name]) for r in records)
  if len({bandwidth for bandwidth, *_ in rows}) < 2:
    raise ValueError(f'`records` must be of two or more bandwidths. Got: {[bandwidth for bandwidth, *_ in rows]}')
  bandwidths, nlls, scores = np.transpose(rows)
  log_h = np.log(bandwidths)
  margins = nll - nlls, (score - scores if score_name in _LOWER_IS_BETTER else scores - score)
  # Between neighbouring points of these, no margin changes its sign.
  points = np.unique(np.concatenate([log_h, *(_crossings(log_h, margin) for margin in margins)]))
  middles = (points[:-1] + points[1:]) / 2
  wins = np.all([np.interp(middles, log_h, margin) > 0 for margin in margins], axis=0)
  # Where a run of winning intervals begins and ends.
  edges = points[np.flatnonzero(np.diff(wins, prepend=False, append=False))].reshape(-1, 2)
  if not len(edges):
    return None
  low, high = np.exp(edges[np.argmax(edges[:, 1] - edges[:, 0])])
  return float(low), float(high)


def _crossings(x, y):
  """Zeros, inside the intervals, of the function that is linear between the points (x, y)."""
  i = np.flatnonzero(y[:-1] * y[1:] < 0)
  return x[i] - y[i] * (x[i + 1] - x[i]) / (y[i + 1] - y[i])
