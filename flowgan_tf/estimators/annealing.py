"""Annealed importance sampling (AIS): the likelihood of images under a generator, without the use of its density."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp
import tqdm

from flowgan_tf.estimators.annealed_chains import PILOT_STEPS, AnnealedChains
from flowgan_tf.metrics.arrays import standard_error

__all__ = ['AisEstimate', 'AnnealedImportanceSampler', 'BidirectionalEstimate', 'SigmaChoice']

_SIGMA_RANGE = 0.01, 0.5


class AisEstimate(NamedTuple):
  """Log-likelihoods by annealed importance sampling.

  Attributes:
    log_likelihood: `log p(x)` of each image in nats, float64 `[n]`.
    nll: Mean negative log-likelihood, in nats per image.
    standard_error: Standard error of `nll` over images, NaN for a single image.
    effective_sample_size: `(sum w)^2 / sum w^2` of each image's weights, from 1 to `chains`, float64 `[n]`.
    acceptance: Mean acceptance probability of the transitions.
    sigma: Standard deviation of the observation model, in units of the images.
    n: Number of images.
    chains: Number of chains per image.
    steps: Number of temperatures.
    leapfrog_steps: Leapfrog steps in each transition.
  """

  log_likelihood: np.ndarray
  nll: float
  standard_error: float
  effective_sample_size: np.ndarray
  acceptance: float
  sigma: float
  n: int
  chains: int
  steps: int
  leapfrog_steps: int


class BidirectionalEstimate(NamedTuple):
  """Stochastic bounds on the log-likelihood of simulated images.

  Attributes:
    lower: Estimate from the forward chains. The expectation of `log_likelihood` is at most the truth.
    upper: Estimate from the reverse chains. The expectation of `log_likelihood` is at least the truth.
    gap: Mean difference of the two, in nats per image. In expectation it bounds the error of each.
    gap_standard_error: Standard error of `gap` over images, NaN for a single image.
    images: The simulated images `[n, *image_shape]`, not clipped to [0, 1].
  """

  lower: AisEstimate
  upper: AisEstimate
  gap: float
  gap_standard_error: float
  images: np.ndarray


class SigmaChoice(NamedTuple):
  """The standard deviation of the observation model that fits validation images best.

  Attributes:
    sigma: The best standard deviation that was tried.
    nll: Mean negative log-likelihood at `sigma`, in nats per image.
    tried: All pairs `(sigma, nll)`, in the order of the search.
  """

  sigma: float
  nll: float
  tried: list[tuple[float, float]]


class AnnealedImportanceSampler:
  """Estimates `log p(x)` of a generator with Gaussian observation noise.

  ```none
  p(x) = int p(z) N(x; G(z), sigma^2 I) dz
  log w = sum_k (beta_{k+1} - beta_k) log N(x; G(z_k), sigma^2 I),   z_0 ~ p(z),
  z_{k+1} ~ T_{k+1}(z_k), which leaves p(z) N(x; G(z), sigma^2 I)^beta_{k+1} invariant
  log p(x) ~ log mean_chains w
  ```

  The mean of the weights is an unbiased estimate of `p(x)`, so that its log is a stochastic lower bound. It is below
  the truth in expectation. By Markov's inequality, the probability that it is more than `c` nats above it is at most
  `exp(-c)`.

  `T` is one transition of Hamiltonian Monte Carlo. Its step size depends only on the image and the temperature. A pilot
  run with a few other chains adapts it on the way from prior to posterior, and the chains that count use what the pilot
  found. A chain that adapted to its own past would no longer leave its target invariant.

  The schedule is sigmoidal, `beta_k ~ sigmoid(4 (2 k / steps - 1))` scaled to [0, 1], as in the code of Wu et al. Its
  steps are smallest at the ends.

  A progress bar is shown if standard error is a terminal.

  ```python
  sampler = AnnealedImportanceSampler(flow.decode, flow.distribution, chains=16, steps=500)
  sigma = sampler.choose_sigma(validation_images, seed=0).sigma
  sampler.estimate(images, sigma, seed=0).nll, sampler.bidirectional(sigma, n=10, seed=0).gap
  ```

  #### References

  [1]: Radford Neal. Annealed importance sampling. Statistics and Computing 11, 2001.
  [2]: Yuhuai Wu, Yuri Burda, Ruslan Salakhutdinov, Roger Grosse. On the Quantitative Analysis of Decoder-Based
       Generative Models. ICLR 2017, sections 2.3 and 3.
  """

  def __init__(
    self,
    decode: Callable[[tf.Tensor], tf.Tensor],
    prior: tfp.distributions.Distribution,
    *,
    chains: int = 16,
    steps: int = 500,
    leapfrog_steps: int = 10,
    batch_size: int = 256,
  ):
    """Builds the sampler.

    Args:
      decode: `G`, a deterministic and differentiable map from noise `[b, *noise_shape]` to images `[b, *image_shape]`.
      prior: `p(z)`, with event shape `noise_shape`. All computations have its dtype, except for the sum of the weights,
        which is in float64.
      chains: Number of chains per image and direction.
      steps: Number of temperatures.
      leapfrog_steps: Leapfrog steps in each transition. A temperature costs `leapfrog_steps + 1` gradients and one
        evaluation of `G`.
      batch_size: Largest number of states that `decode` is given at once. The chains of one image always go together.

    Raises:
      ValueError: If a number is below 1.
    """
    counts = {'chains': chains, 'steps': steps, 'leapfrog_steps': leapfrog_steps, 'batch_size': batch_size}
    for name, count in counts.items():
      if count < 1:
        raise ValueError(f'`{name}` must be at least 1. Got: {count}.')
    self._decode = decode
    self._prior = prior
    self._chains = chains
    self._steps = steps
    self._leapfrog_steps = leapfrog_steps
    self._batch_size = batch_size
    self._annealed = AnnealedChains(decode, prior, chains, steps, leapfrog_steps)

  def estimate(self, images: np.ndarray, sigma: float, seed: int) -> AisEstimate:
    """Estimates the log-likelihood of images.

    Args:
      images: The images `[n, *image_shape]`.
      sigma: Standard deviation of the observation model, in units of the images. See `choose_sigma`.
      seed: Seed. The same seed, arguments and weights give the same estimate.

    Returns:
      The estimate for each image, and its mean.

    Raises:
      ValueError: If `sigma` is out of range, there are no images, or they have another shape than the generator's.
    """
    return self._anneal(images, sigma, seed)

  def bidirectional(self, sigma: float, n: int, seed: int) -> BidirectionalEstimate:
    """Brackets the log-likelihood of images simulated from the model, which shows how far AIS can be trusted.

    ```none
    z ~ p(z),   x ~ N(G(z), sigma^2 I)
    ```

    Such a `z` is an exact sample from the posterior given `x`, so that chains can be annealed backwards from it to the
    prior. The mean of their weights is an unbiased estimate of `1 / p(x)`, and minus its log is a stochastic upper
    bound. Each image has a single exact sample, from which all of its reverse chains start. Real images have none, so
    the upper bound exists only for simulated images.

    Args:
      sigma: Standard deviation of the observation model, in units of the images.
      n: Number of images to simulate.
      seed: Seed of the images and of the chains.

    Returns:
      The two bounds, the gap between them, and the images.

    Raises:
      ValueError: If an argument is out of range.

    #### References

    [1]: Roger Grosse, Zoubin Ghahramani, Ryan Adams. Sandwiching the marginal likelihood using bidirectional Monte
         Carlo. 2015, section 3.
    [2]: Wu et al. ICLR 2017, section 3.2.
    """
    if n < 1:
      raise ValueError(f'`n` must be at least 1. Got: {n}.')
    noise_seed, observation_seed, chain_seed = tfp.random.split_seed(tf.constant([seed, 1]), n=3)
    noise = self._prior.sample(n, seed=noise_seed)
    batches = [self._decode(noise[i : i + self._batch_size]) for i in range(0, n, self._batch_size)]
    clean = tf.concat(batches, axis=0)
    images = clean + sigma * tf.random.stateless_normal(tf.shape(clean), observation_seed, dtype=clean.dtype)
    lower = self.estimate(images, sigma, int(chain_seed[0]))
    upper = self._anneal(images, sigma, int(chain_seed[1]), posterior_sample=noise)
    gap = upper.log_likelihood - lower.log_likelihood
    return BidirectionalEstimate(lower, upper, float(gap.mean()), standard_error(gap), images.numpy())

  def choose_sigma(self, images: np.ndarray, seed: int) -> SigmaChoice:
    """Chooses the observation model's standard deviation by the likelihood of validation images (Wu et al., section 3).

    Brent's method searches over `log sigma`, from sigma = 0.01 to 0.5. It makes about 9 estimates with the same random
    numbers, and finds sigma to about 10 percent. Small sigmas need more temperatures. A search with fewer temperatures
    than the final estimate therefore prefers larger sigmas. If the choice is next to either end, the range is too
    narrow for the generator.

    Args:
      images: Images of the validation set `[n, *image_shape]`.
      seed: Seed of every estimate.

    Returns:
      The best sigma, and all that were tried.

    Raises:
      ValueError: If there are no images, or they have another shape than the generator's.
    """
    tried = []

    def nll(log_sigma):
      sigma = math.exp(log_sigma)
      tried.append((sigma, self.estimate(images, sigma, seed).nll))
      return tried[-1][1]

    scipy.optimize.minimize_scalar(nll, bounds=np.log(_SIGMA_RANGE), method='bounded', options={'xatol': 0.1})
    return SigmaChoice(*min(tried, key=lambda pair: pair[1]), tried)

  def _anneal(self, images, sigma, seed, posterior_sample=None):
    """Anneals from the prior or, given posterior samples `[n, *noise_shape]`, from these back to the prior."""
    if not 0 < sigma < math.inf:
      raise ValueError(f'`sigma` must be positive and finite. Got: {sigma}.')
    images = np.asarray(images)
    if not len(images):
      raise ValueError(f'`images` must not be empty. Got: shape {images.shape}.')
    images_per_batch = max(1, self._batch_size // self._chains)
    log_weights, acceptance = [], []
    starts = range(0, len(images), images_per_batch)
    direction = 'AIS' if posterior_sample is None else 'reverse AIS'
    with tqdm.tqdm(
      desc=f'{direction}, sigma {sigma:.3g}',
      total=len(starts) * (PILOT_STEPS + self._steps),
      unit='temperature',
      dynamic_ncols=True,
      disable=not sys.stderr.isatty(),
    ) as bar:
      for i in starts:
        batch = slice(i, i + images_per_batch)
        start = None if posterior_sample is None else posterior_sample[batch]
        weights, accepted = self._annealed.anneal(images[batch], sigma, tf.constant([seed, i]), start, bar.update)
        log_weights.append(weights)
        acceptance.append(accepted)
    log_weights = np.concatenate(log_weights, axis=1)
    log_mean = scipy.special.logsumexp(log_weights, axis=0) - math.log(self._chains)
    log_likelihood = log_mean if posterior_sample is None else -log_mean
    log_squares = scipy.special.logsumexp(2 * log_weights, axis=0) - math.log(self._chains)
    return AisEstimate(
      log_likelihood=log_likelihood,
      nll=float(-log_likelihood.mean()),
      standard_error=standard_error(log_likelihood),
      effective_sample_size=self._chains * np.exp(2 * log_mean - log_squares),
      acceptance=float(np.concatenate(acceptance, axis=1).mean()),
      sigma=float(sigma),
      n=len(images),
      chains=self._chains,
      steps=self._steps,
      leapfrog_steps=self._leapfrog_steps,
    )
