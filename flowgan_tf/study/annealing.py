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

from flowgan_tf.errors import check, check_integer, check_number
from flowgan_tf.metrics.arrays import standard_error

__all__ = ['AisEstimate', 'AnnealedImportanceSampler', 'BidirectionalEstimate', 'SigmaChoice']

_SIGMA_RANGE = 0.01, 0.5
_SCHEDULE_WIDTH = 4.0
# Wu et al. tune the step size for this acceptance rate, the optimum of HMC in high dimensions (Neal 2011, section 5.4).
_TARGET_ACCEPTANCE = 0.65
_PILOT_STEPS = 100
_PILOT_CHAINS = 4
_PILOT_RATE = 0.5
_PILOT_FIRST_STEP_SIZE = 0.1


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

  The mean of the weights is an unbiased estimate of `p(x)`, so its log is a stochastic lower bound: it is below the
  truth in expectation. By Markov's inequality, the probability that it is more than `c` nats above the truth is at most
  `exp(-c)`.

  `T` is one transition of Hamiltonian Monte Carlo. Its step size depends only on the image and the temperature. A pilot
  run with a few other chains adapts it on the way from prior to posterior, and the chains that count use what the pilot
  found. A chain that adapted to its own past would no longer leave its target invariant.

  The schedule is sigmoidal, `beta_k ~ sigmoid(4 (2 k / steps - 1))` scaled to [0, 1], as in the code of Wu et al. Its
  steps are smallest at the ends.

  `tfp.mcmc.sample_annealed_importance_chain` is not used because, up to TFP 0.25, it gives HMC the log-density and
  the gradient of the current state at the previous temperature. The transitions then do not leave their targets
  invariant. With 20 temperatures on a Gaussian in one dimension, the mean weight was 0.803 (standard error 0.002) of
  the true integral. It is 1.000 here, where both are computed anew for each temperature. TFP's temperatures are also
  equally spaced, and its step size is the same for all of them.

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
      UsageError: If a number is below 1.
    """
    for name, count in (('chains', chains), ('steps', steps), ('leapfrog_steps', leapfrog_steps)):
      check_integer(name, count, 1)
    self._decode = decode
    self._prior = prior
    self._chains = chains
    self._steps = steps
    self._leapfrog_steps = leapfrog_steps
    self._batch_size = batch_size
    # Traced once for all images, sigmas, temperatures and both directions.
    self._transition = tf.function(self._transition, autograph=False, reduce_retracing=True)

  def estimate(self, images: np.ndarray, sigma: float, seed: int) -> AisEstimate:
    """Estimates the log-likelihood of images.

    Args:
      images: The images `[n, *image_shape]`, with n > 0.
      sigma: Standard deviation of the observation model, in units of the images. See `choose_sigma`.
      seed: Seed. The same seed, arguments and weights give the same estimate.

    Returns:
      The estimate for each image, and its mean.

    Raises:
      UsageError: If `sigma` is not a positive number, or the images have another shape than the generator's.
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
      n: Number of images to simulate, at least 1.
      seed: Seed of the images and of the chains.

    Returns:
      The two bounds, the gap between them, and the images.

    Raises:
      UsageError: If `sigma` is not a positive number.

    #### References

    [1]: Roger Grosse, Zoubin Ghahramani, Ryan Adams. Sandwiching the marginal likelihood using bidirectional Monte
         Carlo. 2015, section 3.
    [2]: Wu et al. ICLR 2017, section 3.2.
    """
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
      images: Images of the validation set `[n, *image_shape]`, with n > 0.
      seed: Seed of every estimate.

    Returns:
      The best sigma, and all that were tried.

    Raises:
      UsageError: If the images have another shape than the generator's.
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
    check_number('sigma', sigma, 'a positive number', lambda s: s > 0)
    images = np.asarray(images)
    images_per_batch = max(1, self._batch_size // self._chains)
    log_weights, acceptance = [], []
    starts = range(0, len(images), images_per_batch)
    with tqdm.tqdm(
      desc=f'{"AIS" if posterior_sample is None else "reverse AIS"}, sigma {sigma:.3g}',
      total=len(starts) * (_PILOT_STEPS + self._steps),
      unit='temperature',
      dynamic_ncols=True,
      disable=not sys.stderr.isatty(),
    ) as bar:
      for i in starts:
        batch = slice(i, i + images_per_batch)
        start = None if posterior_sample is None else posterior_sample[batch]
        weights, accepted = self._run_chains(images[batch], sigma, tf.constant([seed, i]), start, bar)
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

  def _run_chains(self, images, sigma, seed, posterior_sample, bar):
    """Returns log-weights, float64 `[chains, n]`, and mean acceptance probabilities `[steps, n]`, of one batch."""
    images = tf.constant(images, self._prior.dtype)
    pilot_seed, start_seed, chain_seed = tfp.random.split_seed(seed, n=3)
    step_sizes = self._pilot(images, sigma, pilot_seed, bar)
    step_sizes = step_sizes[np.rint(np.linspace(0, _PILOT_STEPS, self._steps + 1)).astype(int)]
    betas = _schedule(self._steps)
    if posterior_sample is None:
      state = self._prior.sample((self._chains, len(images)), seed=start_seed)
    else:
      state = tf.repeat(posterior_sample[tf.newaxis], self._chains, axis=0)
      betas, step_sizes = betas[::-1], step_sizes[::-1]
    log_weights = np.zeros((self._chains, len(images)))
    acceptances = []
    for k in range(self._steps):
      state, log_likelihood, acceptance = self._transition(
        *self._tensors(images, sigma, betas[k + 1], step_sizes[k + 1]), state, _fold_in(chain_seed, k)
      )
      log_weights += (betas[k + 1] - betas[k]) * log_likelihood.numpy()
      acceptances.append(acceptance)
      bar.update()
    return log_weights, np.stack(acceptances)

  def _pilot(self, images, sigma, seed, bar):
    """Returns the step sizes `[_PILOT_STEPS + 1, n]` to which chains from prior to posterior adapted."""
    start_seed, chain_seed = tfp.random.split_seed(seed)
    state = self._prior.sample((_PILOT_CHAINS, len(images)), seed=start_seed)
    step_size = np.full(len(images), _PILOT_FIRST_STEP_SIZE)
    step_sizes = [step_size]
    for k, beta in enumerate(_schedule(_PILOT_STEPS)[1:]):
      state, _, acceptance = self._transition(
        *self._tensors(images, sigma, beta, step_size), state, _fold_in(chain_seed, k)
      )
      step_size = step_size * np.exp(_PILOT_RATE * (acceptance.numpy() - _TARGET_ACCEPTANCE))
      step_sizes.append(step_size)
      bar.update()
    return np.stack(step_sizes)

  def _tensors(self, *arguments):
    # A Python number would become part of the graph, which would then be traced again for each temperature.
    return [tf.convert_to_tensor(argument, self._prior.dtype) for argument in arguments]

  def _transition(self, images, sigma, beta, step_size, state, seed):
    """Makes one transition of HMC.

    Args:
      images: The images `[n, *image_shape]`.
      sigma: Standard deviation of the observation model `[]`.
      beta: Inverse temperature `[]` of the distribution that the transition leaves invariant.
      step_size: Step size for each image `[n]`.
      state: Noise vectors `[chains, n, *noise_shape]`.
      seed: Stateless seed.

    Returns:
      The next state, the log-likelihood `[chains, n]` of the given state, and the mean acceptance probability `[n]`.
    """

    def log_likelihood(noise):
      decoded = self._decode(tf.reshape(noise, tf.concat([[-1], tf.shape(noise)[2:]], axis=0)))
      shape = decoded.shape[1:]
      check(
        'images', images.shape[1:], f"of the generator's shape, {shape}", shape.is_compatible_with(images.shape[1:])
      )
      decoded = tf.reshape(decoded, tf.concat([tf.shape(noise)[:2], tf.shape(images)[1:]], axis=0))
      pixels = tfp.distributions.Normal(decoded, sigma).log_prob(images)
      return tf.reduce_sum(pixels, axis=tf.range(2, tf.rank(pixels)))

    kernel = tfp.mcmc.HamiltonianMonteCarlo(
      lambda noise: self._prior.log_prob(noise) + beta * log_likelihood(noise),
      step_size=tf.reshape(step_size, [-1] + [1] * self._prior.event_shape.rank),
      num_leapfrog_steps=self._leapfrog_steps,
    )
    next_state, results = kernel.one_step(state, kernel.bootstrap_results(state), seed=seed)
    acceptance = tf.exp(tf.minimum(results.log_accept_ratio, 0))
    return next_state, log_likelihood(state), tf.reduce_mean(acceptance, axis=0)


def _schedule(steps):
  """Returns the inverse temperatures `[steps + 1]`, from 0 to 1."""
  betas = scipy.special.expit(_SCHEDULE_WIDTH * np.linspace(-1, 1, steps + 1))
  return (betas - betas[0]) / (betas[-1] - betas[0])


def _fold_in(seed, k):
  return tf.random.experimental.stateless_fold_in(seed, tf.constant(k))
