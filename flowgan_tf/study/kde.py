"""The analysis `kde`: the likelihood by a Parzen window of samples, which is a mixture of Gaussians."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import os
from typing import ClassVar

import numpy as np
import threadpoolctl
from numpy.typing import ArrayLike

from flowgan_tf.base.errors import check
from flowgan_tf.base.progress import Task
from flowgan_tf.display.tables import Column
from flowgan_tf.metrics import arrays
from flowgan_tf.study.analysis import Analysis, Settings, Subject, mean_nll, setting

# Numbers of images and of centres whose squared distances a thread holds at a time. They take 4 MB, so that the
# exponentials for further bandwidths hardly wait for memory.
_IMAGES, _CENTERS = 256, 2048

# On a logarithmic scale, each round of the search shrinks the bracket to 1/8. Neighbouring bandwidths of the last round
# differ by 0.1 %.
_LOWEST, _HIGHEST, _GRID, _ROUNDS = 1e-4, 1.0, 17, 4
_SEARCH_IMAGES = 1000


class GaussianMixture:
  """A mixture of isotropic Gaussians of equal weight and bandwidth, one centred on each of many images.

  ```
  p_h(x) = (1/n) sum_j N(x; c_j, h^2 I)
  log p_h(x) = log sum_j exp(-|x - c_j|^2 / (2 h^2)) - log n - d/2 log(2 pi h^2)
  ```

  On samples of a generator it is a Parzen window, or kernel density estimate. On the training images it is the paper's
  baseline that only memorises. The only parameter is the bandwidth, which each method takes as an argument. Some of the
  mixture's mass lies outside [0, 1]^d, which puts its likelihood at a disadvantage against models whose density is
  confined to the cube.

  Attributes:
    centers: The images, floats `[n, height, width, channels]`.

  #### References

  Parzen. On estimation of a probability density function and mode. Annals of Mathematical Statistics 33, 1962.
  Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI 2018,
  section 3.4 and appendix C.
  """

  def __init__(self, centers: np.ndarray):
    """Builds the mixture on samples or dequantised images in [0, 1], floats `[n, height, width, channels]` with n > 0.

    Raises:
      UsageError: If there are none, or if they are integers or not finite.
    """
    self.centers = arrays.check_images(centers)
    check('centers', len(self.centers), 'at least one', len(self.centers) > 0)

  def log_prob(self, images: np.ndarray, bandwidths: ArrayLike) -> np.ndarray:
    """Returns log densities of images for several bandwidths at once, at hardly more cost than for one.

    The squared distances cost one product of matrices, `2 m n d` operations, whatever the number of bandwidths. Each
    bandwidth adds `m n` exponentials. Neither matrix is ever held as a whole. Distances are computed as
    `|x|^2 + |c|^2 - 2 xc` in float64, with an error of about 1e-15 `|x|^2`. For images in [0, 1] the result is accurate
    down to a bandwidth of 1e-5 if an image is itself a centre, and even further if not.

    Args:
      images: The images, finite floats `[m, height, width, channels]` with m > 0.
      bandwidths: The k standard deviations `h` of the Gaussians, in units of the images.

    Returns:
      The log densities in nats, float64 `[k, m]`.

    Raises:
      UsageError: If the images are integers, not finite, or of another shape than the centres; or if a bandwidth is not
        above 0.
    """
    shape, h = self.centers.shape[1:], np.asarray(bandwidths, np.float64)
    check('images', np.shape(images)[1:], f'of the shape of the centres, {shape}', np.shape(images)[1:] == shape)
    check('bandwidths', bandwidths, 'above 0', (h > 0).all())
    images, centers = (a.reshape(len(a), -1) for a in (arrays.check_images(images), self.centers))
    precisions = 0.5 / h**2

    def log_sums(start):
      """Returns `log sum_j exp(-|x - c_j|^2 / (2 h^2))` of a block of images, by log-sum-exp over blocks of centres."""
      x = images[start : start + _IMAGES].astype(np.float64)
      found = np.full((len(h), len(x)), -np.inf)
      for i in range(0, len(centers), _CENTERS):
        c = centers[i : i + _CENTERS].astype(np.float64)
        squared = x @ c.T
        squared *= -2
        squared += np.einsum('md,md->m', x, x)[:, np.newaxis]
        squared += np.einsum('nd,nd->n', c, c)
        np.maximum(squared, 0, out=squared)
        nearest = squared.min(axis=1)  # its term is the largest at every bandwidth
        excess = np.subtract(nearest[:, np.newaxis], squared, out=squared)
        terms = np.empty_like(excess)
        for sums, precision in zip(found, precisions, strict=True):
          np.multiply(excess, precision, out=terms)
          # NumPy takes up to 50 times as long if a result underflows. e^-700 vanishes beside the nearest centre's 1.
          np.maximum(terms, -700, out=terms)
          np.exp(terms, out=terms)
          np.logaddexp(sums, np.log(terms.sum(axis=1)) - precision * nearest, out=sums)
      return found

    starts = range(0, len(images), _IMAGES)
    with (
      concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
      # If the product started threads of its own inside ours, it would take twice as long.
      threadpoolctl.threadpool_limits(1, user_api='blas'),
      Task('Parzen windows', len(images)) as task,
    ):
      blocks = []
      for block in pool.map(log_sums, starts):
        blocks.append(block)
        task.advance(_IMAGES)
    found = np.concatenate(blocks, axis=1)
    return found - (math.log(len(centers)) + images.shape[1] / 2 * np.log(2 * np.pi * h**2))[:, np.newaxis]

  def sample(self, n: int, bandwidth: float, seed: int) -> np.ndarray:
    """Draws samples `c_j + h e`, where j is uniform and e is standard normal, float32 `[n, height, width, channels]`.

    For the same seed, j and e are the same at every bandwidth. Samples are not clipped to [0, 1].
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(self.centers), size=n)
    samples = rng.standard_normal((n, *self.centers.shape[1:]), dtype=np.float32)
    samples *= np.float32(bandwidth)
    samples += self.centers[chosen]
    return samples

  def choose_bandwidth(self, images: np.ndarray) -> float:
    """Finds the bandwidth in [1e-4, 1] that maximises the mean log density of held-out images.

    This is a line search to 0.1 %, as in section 3.4 of the paper. The first round visits 17 bandwidths over the whole
    range, at equal ratios. Three more rounds each visit 17 bandwidths between the neighbours of the best one. The
    search uses at most 1,000 of the images, drawn at random but always the same. If the density still rises at an end
    of the range, that end is the best bandwidth: 1e-4 if the images are copies of centres, and 1 if they are far from
    all centres.

    Args:
      images: Validation images, as in `log_prob`. They must not be among the centres.
    """
    # Do not take the first images, because a data set may be sorted by class.
    subset = images[np.random.default_rng(0).permutation(len(images))[:_SEARCH_IMAGES]]
    low, high = _LOWEST, _HIGHEST
    for _ in range(_ROUNDS):
      grid = np.geomspace(low, high, _GRID)
      best = int(np.argmax(self.log_prob(subset, grid).mean(axis=1)))
      low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    return float(grid[best])


@dataclasses.dataclass(frozen=True, kw_only=True)
class KdeSettings(Settings):
  samples: int = setting(5000, 'Samples of the generator, and of each mixture.', minimum=10, maximum=10**6)


class Kde(Analysis):
  """NLL of test images under a Parzen window of samples, beside the exact NLL (the paper's Table 3).

  ```
  NLL = -mean_x log (1/n) sum_j N(x; s_j, h^2 I),  where h is the best bandwidth for the validation images
  ```

  This is the exact likelihood of another model, a mixture of Gaussians with one on each sample s_j, and a poor estimate
  of the generator's own. Theis et al. show that it is far from the true likelihood even for patches of 6 x 6 pixels and
  a very large number of samples, and that it does not rank models as their likelihoods do. The paper finds the same for
  flows. Use it for that comparison, and for generators that have no other estimate. Its standard error does not include
  the randomness of the samples.

  #### References

  Breuleux, Bengio, Vincent. Unlearning for better mixing. Technical report 1349, Université de Montréal, 2009.
  Goodfellow et al. Generative adversarial nets. NIPS 2014, section 5.
  Theis, van den Oord, Bethge. A note on the evaluation of generative models. ICLR 2016, section 3.
  """

  name = 'kde'
  title = 'Estimates of the likelihood'
  description = 'NLL from a Parzen window of samples, with the bandwidth chosen on validation images'
  paper = 'Table 3'
  caption = 'NLL in nats per image, exact and estimated from the generator alone'
  needs_marginal = 'each condition would need a window of its own'
  Settings = KdeSettings
  columns = (
    Column('exact', 'exact_nll', ',.2f', 'exact_standard_error'),
    Column('KDE', 'nll', ',.2f', 'standard_error'),
    Column('the paper: exact', 'exact', ',.2f', source='paper'),
    Column('the paper: KDE', 'kde', ',.2f', source='paper'),
  )
  details = (
    Column('KDE: test images', 'n_test', ','),
    Column('KDE: samples', 'n_samples', ','),
    Column('KDE: bandwidth', 'bandwidth', '.4f'),
  )
  ranked = ('exact_nll', 'nll')
  published: ClassVar = {
    'mnist': {
      'MLE': {'exact': -3287.69, 'kde': -167.10},
      'ADV': {'exact': 26350.30, 'kde': -3.03},
      'Hybrid λ = 0.1': {'exact': -3121.53, 'kde': -205.69},
    }
  }

  def measure(self, subject: Subject, settings: KdeSettings) -> tuple[dict, dict[str, np.ndarray]]:
    validation, test = subject.images('validation'), subject.images('test')
    window = GaussianMixture(subject.samples(settings.samples, settings.seed))
    bandwidth = window.choose_bandwidth(validation)
    [log_densities] = window.log_prob(test, [bandwidth])
    numbers = {
      **mean_nll(log_densities),
      'bandwidth': bandwidth,
      'n_samples': len(window.centers),
      'n_validation': len(validation),
      'n_test': len(test),
    }
    return numbers | subject.exact(test), {}
