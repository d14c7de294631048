"""The analysis `kde`: the likelihood by a Parzen window of samples, which is a mixture of Gaussians."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import threadpoolctl
import tqdm

from flowgan_tf.display.tables import Column
from flowgan_tf.errors import check
from flowgan_tf.lazy import later
from flowgan_tf.study.analysis import Analysis, Settings, setting

if TYPE_CHECKING:
  from flowgan_tf.study.subject import Subject

__all__ = ['GaussianMixture', 'Kde', 'KdeSettings']

arrays = later('flowgan_tf.metrics.arrays')

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
    centers: The images, floats `[n, *image_shape]`.

  #### References

  Parzen. On estimation of a probability density function and mode. Annals of Mathematical Statistics 33, 1962.
  Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI 2018,
  section 3.4 and appendix C.
  """

  def __init__(self, centers: np.ndarray):
    """Builds the mixture.

    Args:
      centers: Samples or dequantised images in [0, 1], finite floats `[n, *image_shape]` with n > 0. `d` is the product
        of the dimensions after the first.

    Raises:
      UsageError: If they are not.
    """
    self.centers = _checked('centers', centers)

  def log_prob(self, images: np.ndarray, bandwidths: Sequence[float]) -> np.ndarray:
    """Returns log densities of images for several bandwidths at once, which hardly costs more than for one.

    The squared distances cost one product of matrices, `2 m n d` operations, whatever the number of bandwidths. Each
    bandwidth adds `m n` exponentials. Neither matrix is ever held as a whole. Distances are computed as
    `|x|^2 + |c|^2 - 2 xc` in float64, with an error of about 1e-15 `|x|^2`. For images in [0, 1] the result is accurate
    down to a bandwidth of 1e-5 if an image is itself a centre, and even further if not.

    Args:
      images: The images, finite floats `[m, *image_shape]` with m > 0.
      bandwidths: The k standard deviations `h` of the Gaussians, in units of the images.

    Returns:
      The log densities in nats, float64 `[k, m]`.

    Raises:
      UsageError: If the images are not finite floats of the centres' shape, or a bandwidth is outside [1e-100, 1e100].
    """
    images, centers = _checked('images', images), self.centers
    check('images', images.shape, f"of the centres' shape, {centers.shape[1:]}", images.shape[1:] == centers.shape[1:])
    h = np.asarray(bandwidths, np.float64)
    # Within these bounds the square of a bandwidth neither overflows nor vanishes, so that log densities are finite.
    check('bandwidths', bandwidths, 'numbers from 1e-100 to 1e100', np.all((h >= 1e-100) & (h <= 1e100)))
    x = images.reshape(len(images), -1).astype(np.float64)
    x_norms = np.einsum('md,md->m', x, x)
    precisions = 0.5 / h**2
    # log-sum-exp over blocks of centres. At every bandwidth the largest term is that of the nearest centre.
    nearest, sums = np.full(len(x), np.inf), np.zeros([len(h), len(x)])

    def add(rows, c, c_norms):
      squared = x[rows] @ c.T
      squared *= -2
      squared += x_norms[rows, np.newaxis]
      squared += c_norms
      np.maximum(squared, 0, out=squared)
      previous, nearest[rows] = nearest[rows].copy(), np.minimum(nearest[rows], squared.min(axis=1))
      excess = np.subtract(nearest[rows, np.newaxis], squared, out=squared)
      terms = np.empty_like(excess)
      with np.errstate(under='ignore'):
        sums[:, rows] *= np.exp(np.multiply.outer(precisions, nearest[rows] - previous))
        for i, precision in enumerate(precisions):
          np.multiply(excess, precision, out=terms)
          # NumPy takes up to 50 times as long if a result underflows. e^-700 vanishes beside the nearest centre's 1.
          np.maximum(terms, -700, out=terms)
          np.exp(terms, out=terms)
          sums[i, rows] += terms.sum(axis=1)

    blocks = [slice(i, i + _IMAGES) for i in range(0, len(x), _IMAGES)]
    with (
      concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
      # If the product started threads of its own inside ours, it would take twice as long.
      threadpoolctl.threadpool_limits(1, user_api='blas'),
      tqdm.tqdm(
        total=len(centers), desc='log density', unit='centre', delay=3, dynamic_ncols=True, disable=None
      ) as bar,
    ):
      for start in range(0, len(centers), _CENTERS):
        c = centers[start : start + _CENTERS].reshape(-1, x.shape[1]).astype(np.float64)
        c_norms = np.einsum('nd,nd->n', c, c)
        list(pool.map(functools.partial(add, c=c, c_norms=c_norms), blocks))
        bar.update(len(c))
    normalizer = math.log(len(centers)) + x.shape[1] / 2 * np.log(2 * np.pi * h**2)
    return np.log(sums) - np.multiply.outer(precisions, nearest) - normalizer[:, np.newaxis]

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

  def choose_bandwidth(self, images: np.ndarray) -> float:
    """Finds the bandwidth in [1e-4, 1] that maximises the mean log density of held-out images.

    It is a line search to 0.1 %. The first round visits 17 bandwidths over the whole range, at equal ratios. Three more
    rounds each visit 17 bandwidths between the neighbours of the best one. The search uses at most 1,000 of the images,
    drawn at random but always the same. If the density still rises at an end of the range, that end is the best
    bandwidth: 1e-4 if the images are copies of centres, and 1 if they are far from all centres.

    Args:
      images: Validation images, finite floats `[m, *image_shape]`. They must not be among the centres.

    Raises:
      UsageError: As in `log_prob`.

    #### References

    Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI
    2018, section 3.4: "optimized for the lowest validation NLL by doing a line search in (0, 1]".
    """
    # Not simply the first images, because a data set may be sorted by class.
    subset = images[np.random.default_rng(0).permutation(len(images))[:_SEARCH_IMAGES]]
    low, high = _LOWEST, _HIGHEST
    for _ in range(_ROUNDS):
      grid = np.geomspace(low, high, _GRID)
      best = int(np.argmax(self.log_prob(subset, grid).mean(axis=1)))
      low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    return float(grid[best])


def _checked(name, images):
  images = np.asarray(images)
  check(
    name,
    f'{images.dtype} of {images.shape}',
    'floats [n, *image_shape], dequantised',
    np.issubdtype(images.dtype, np.floating) and images.ndim > 1 and images.size > 0,
  )
  check(name, 'NaN or infinity', 'finite', np.isfinite(images).all())
  return images


@dataclasses.dataclass(frozen=True, kw_only=True)
class KdeSettings(Settings):
  """Settings of `Kde`."""

  samples: int = setting(5000, 'Samples of the generator, and of each mixture.', minimum=10, maximum=10**6)


class Kde(Analysis):
  """NLL of test images under a Parzen window of samples, beside the exact NLL (the paper's Table 3).

  ```
  NLL = -mean_x log (1/n) sum_j N(x; s_j, h^2 I),  where h is the best bandwidth for the validation images
  ```

  This is the exact likelihood of another model, a mixture of Gaussians with one on each sample s_j, and says little
  about that of the generator. Theis et al. show that it is far from the true likelihood even for patches of 6 x 6
  pixels and a very large number of samples. They also show that it does not rank models as their likelihoods do, and
  that it prefers k-means centroids to samples from the true distribution. They conclude that it should be avoided. The
  paper finds the same for flows, whose likelihood is known. The estimate is provided for that comparison, and for
  generators that have no other. Its standard error does not include the randomness of the samples.

  #### References

  Breuleux, Bengio, Vincent. Unlearning for better mixing. Technical report 1349, Université de Montréal, 2009.
  Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio. Generative adversarial nets. NIPS 2014,
  section 5.
  Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI 2018,
  section 5.
  Theis, van den Oord, Bethge. A note on the evaluation of generative models. ICLR 2016, section 3.
  """

  name = 'kde'
  title = 'Estimates of the likelihood'
  description = 'NLL by a Parzen window of samples, with the bandwidth chosen on validation images'
  paper = 'Table 3'
  caption = 'NLL in nats per image, exact and estimated from the generator alone'
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
      'nll': -log_densities.mean(),
      'standard_error': arrays.standard_error(log_densities),
      'bandwidth': bandwidth,
      'n_samples': len(window.centers),
      'n_validation': len(validation),
      'n_test': len(test),
    }
    return numbers | subject.exact(test), {}
