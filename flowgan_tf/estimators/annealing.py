"""Annealed importance sampling: the likelihood that a generator gives to images when its density is not used."""

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

from flowgan_tf.metrics.standard_errors import standard_error

__all__ = [
  'AisEstimate',
  'BidirectionalEstimate',
  'SigmaChoice',
  'annealed_importance_sampling',
  'bidirectional',
  'choose_sigma',
]

# The acceptance rate that Wu et al. tune the step size for; HMC's optimum in high dimensions (Neal 2011, section 5.4).
_TARGET_ACCEPTANCE = 0.65

_SCHEDULE_WIDTH = 4.0

_PILOT_CHAINS = 4
_PILOT_STEPS = 100
_PILOT_RATE = 0.5
_PILOT_FIRST_STEP_SIZE = 0.1


class AisEstimate(NamedTuple):
  """Log-likelihoods by annealed importance sampling.

  Attributes:
    log_likelihood: float64 `[n]`, `log p(x)` of each image in nats.
    nll: Mean negative log-likelihood, nats per image.
    standard_error: Of `nll`, over images; NaN for one image.
    effective_sample_size: float64 `[n]`, `(sum w)^2 / sum w^2` of each image's weights, 1 to `chains`.
    acceptance: Mean acceptance probability of the transitions.
    sigma: Standard deviation of the observation model, in units of the images.
    n: Number of images.
    chains: Chains per image.
    steps: Temperatures.
    leapfrog_steps: Leapfrog steps of each transition.
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
  """Stochastic bounds of the log-likelihood of simulated images.

  Attributes:
    lower: Of the forward chains; the expectation of `log_likelihood` is at most the truth.
    upper: Of the reverse chains; the expectation of `log_likelihood` is at least the truth.
    gap: Mean of upper minus lower, nats per image. It bounds, in expectation, the error of either.
    gap_standard_error: Of `gap`, over images; NaN for one image.
    images: `[n, *image_shape]`, the simulated images, not clipped to [0, 1].
  """

  lower: AisEstimate
  upper: AisEstimate
  gap: float
  gap_standard_error: float
  images: np.ndarray


class SigmaChoice(NamedTuple):
  """The observation model's standard deviation that fits validation images best.

  Attributes:
    sigma: The best.
    nll: Its mean negative log-likelihood, nats per image.
    tried: Pairs `(sigma, nll)` in the order of the search.
  """

  sigma: float
  nll: float
  tried: list[tuple[float, float]]


def annealed_importance_sampling(
  decode: Callable[[tf.Tensor], tf.Tensor],
  prior: tfp.distributions.Distribution,
  images: np.ndarray,
  sigma: float,
  chains: int = 16,
  steps: int = 500,
  leapfrog_steps: int = 10,
  batch_size: int = 256,
  seed: int = 0,
  progress: bool = True,
) -> AisEstimate:
  """Estimates `log p(x)` of a generator with Gaussian observation noise.

  ```none
  p(x) = int p(z) N(x; G(z), sigma^2 I) dz
  log w = sum_k (beta_{k+1} - beta_k) log N(x; G(z_k), sigma^2 I),   z_0 ~ p(z),
  z_{k+1} ~ T_{k+1}(z_k), which leaves p(z) N(x; G(z), sigma^2 I)^beta_{k+1} invariant
  log p(x) ~ log mean_chains w
  ```

  The mean of the weights is unbiased for `p(x)`, so that its log is a stochastic lower bound: below the truth in
  expectation, and by Markov's inequality more than `c` nats above it with a probability of at most `exp(-c)`.

  `T` is one transition of Hamiltonian Monte Carlo. Its step size depends on the image and the temperature alone: a
  pilot of a few other chains adapts it on the way from prior to posterior, and the chains that count use what the pilot
  found. A chain that adapted to its own past would no longer leave its target invariant.

  The schedule is sigmoidal, `beta_k ~ sigmoid(4 (2 k / steps - 1))` scaled to [0, 1], as in the code of Wu et al.:
  steps are smallest at the ends.

  Args:
    decode: `G`, from noise `[b, *noise_shape]` to images `[b, *image_shape]`, deterministic, differentiable.
    prior: `p(z)`, with event shape `noise_shape`. Its dtype is that of all computations but the sum of the weights,
      which is float64.
    images: `[n, *image_shape]`.
    sigma: Standard deviation of the observation model, in units of the images; see `choose_sigma`.
    chains: Chains per image.
    steps: Temperatures.
    leapfrog_steps: Leapfrog steps of each transition. A temperature costs `leapfrog_steps + 1` gradients of `G` and
      one value.
    batch_size: Most states that `decode` is given at once; `chains` of one image always go together.
    seed: Seed. The same seed, arguments and weights give the same estimate.
    progress: Whether to show a progress bar, if stderr is a terminal.

  Returns:
    The estimate, by image.

  Raises:
    ValueError: If an argument is out of range, or images and generator differ in shape.

  #### References

  [1]: Radford Neal. Annealed importance sampling. Statistics and Computing 11, 2001.
  [2]: Yuhuai Wu, Yuri Burda, Ruslan Salakhutdinov, Roger Grosse. On the Quantitative Analysis of Decoder-Based
       Generative Models. ICLR 2017, sections 2.3 and 3.
  """
  annealer = _Annealer(decode, prior, chains, steps, leapfrog_steps, batch_size, progress)
  return annealer.estimate(images, sigma, seed)


def bidirectional(
  decode: Callable[[tf.Tensor], tf.Tensor],
  prior: tfp.distributions.Distribution,
  sigma: float,
  n: int,
  chains: int = 16,
  steps: int = 500,
  leapfrog_steps: int = 10,
  batch_size: int = 256,
  seed: int = 0,
  progress: bool = True,
) -> BidirectionalEstimate:
  """Brackets the log-likelihood of images simulated from the model, to see how far AIS can be trusted.

  ```none
  z ~ p(z),   x ~ N(G(z), sigma^2 I)
  ```

  Such a `z` is an exact sample of the posterior of `x`, whence chains can be annealed backwards, to the prior. The mean
  of their weights is unbiased for `1 / p(x)`, so that minus its log is a stochastic upper bound. An image has one exact
  sample, from which all of its reverse chains start. Real images have none: the bound is for simulated ones alone.

  Args:
    decode: `G`, as in `annealed_importance_sampling`.
    prior: `p(z)`.
    sigma: Standard deviation of the observation model, in units of the images.
    n: Number of images to simulate.
    chains: Chains per image and direction.
    steps: Temperatures.
    leapfrog_steps: Leapfrog steps of each transition.
    batch_size: Most states that `decode` is given at once.
    seed: Seed.
    progress: Whether to show a progress bar, if stderr is a terminal.

  Returns:
    The two bounds, the gap between them, and the images.

  Raises:
    ValueError: If an argument is out of range.

  #### References

  [1]: Roger Grosse, Zoubin Ghahramani, Ryan Adams. Sandwiching the marginal likelihood using bidirectional Monte Carlo.
       2015, section 3.
  [2]: Wu et al. ICLR 2017, section 3.2.
  """
  annealer = _Annealer(decode, prior, chains, steps, leapfrog_steps, batch_size, progress)
  _check_sigma(sigma)
  if n < 1:
    raise ValueError(f'`n` must be at least 1. Got: {n}.')
  noise_seed, observation_seed, chain_seed = tfp.random.split_seed(tf.constant([seed, 1]), n=3)
  noise = prior.sample(n, seed=noise_seed)
  batches = [decode(noise[i : i + batch_size]) for i in range(0, n, batch_size)]
  clean = tf.concat(batches, axis=0)
  images = clean + sigma * tf.random.stateless_normal(tf.shape(clean), observation_seed, dtype=clean.dtype)
  lower = annealer.estimate(images, sigma, int(chain_seed[0]))
  upper = annealer.estimate(images, sigma, int(chain_seed[1]), posterior_sample=noise)
  gap = upper.log_likelihood - lower.log_likelihood
  return BidirectionalEstimate(lower, upper, float(gap.mean()), standard_error(gap), images.numpy())


def choose_sigma(
  decode: Callable[[tf.Tensor], tf.Tensor],
  prior: tfp.distributions.Distribution,
  images: np.ndarray,
  low: float = 0.01,
  high: float = 0.5,
  chains: int = 16,
  steps: int = 500,
  leapfrog_steps: int = 10,
  batch_size: int = 256,
  seed: int = 0,
  progress: bool = True,
) -> SigmaChoice:
  """Chooses the observation model's standard deviation by the likelihood of validation images (Wu et al., section 3).

  Brent's search over `log sigma`, to about 10 percent, in about 9 estimates with the same random numbers. Small sigmas
  need more temperatures, so an estimate with fewer than the final one has prefers larger sigmas.

  Args:
    decode: `G`, as in `annealed_importance_sampling`.
    prior: `p(z)`.
    images: `[n, *image_shape]`, of the validation set.
    low: Smallest sigma, in units of the images.
    high: Largest sigma. A choice next to either end says that the range was too narrow.
    chains: Chains per image.
    steps: Temperatures.
    leapfrog_steps: Leapfrog steps of each transition.
    batch_size: Most states that `decode` is given at once.
    seed: Seed.
    progress: Whether to show a progress bar for each estimate, if stderr is a terminal.

  Returns:
    The best sigma of those tried, and all of them.

  Raises:
    ValueError: If an argument is out of range.
  """
  if not 0 < low < high:
    raise ValueError(f'`low` and `high` must be 0 < low < high. Got: {low} and {high}.')
  annealer = _Annealer(decode, prior, chains, steps, leapfrog_steps, batch_size, progress)
  tried = []

  def nll(log_sigma):
    sigma = math.exp(log_sigma)
    tried.append((sigma, annealer.estimate(images, sigma, seed).nll))
    return tried[-1][1]

  scipy.optimize.minimize_scalar(nll, bounds=(math.log(low), math.log(high)), method='bounded', options={'xatol': 0.1})
  return SigmaChoice(*min(tried, key=lambda pair: pair[1]), tried)


class _Annealer:
  """The chains of one generator, traced once for all images, sigmas, temperatures and both directions.

  Not `tfp.mcmc.sample_annealed_importance_chain`: through TFP 0.25 it hands HMC the log-density and the gradient of
  the current state at the temperature before. The transitions then do not leave their targets invariant: with 20
  temperatures on a Gaussian in one dimension the mean weight was 0.803 (standard error 0.002) of the true integral, and
  1.000 with results made afresh, as here. Its temperatures are also equally spaced and its step size is one for all.
  """

  def __init__(self, decode, prior, chains, steps, leapfrog_steps, batch_size, progress):
    counts = {'chains': chains, 'steps': steps, 'leapfrog_steps': leapfrog_steps, 'batch_size': batch_size}
    for name, count in counts.items():
      if count < 1:
        raise ValueError(f'`{name}` must be at least 1. Got: {count}.')
    self._decode = decode
    self._prior = prior
    self._chains = chains
    self._steps = steps
    self._leapfrog_steps = leapfrog_steps
    self._images_per_batch = max(1, batch_size // chains)
    self._progress = progress and sys.stderr.isatty()
    self._transition = tf.function(self._transition, reduce_retracing=True)

  def estimate(self, images, sigma, seed, posterior_sample=None):
    """Anneals from the prior or, given a posterior sample `[n, *noise_shape]`, from there backwards to the prior."""
    _check_sigma(sigma)
    images = np.asarray(images)
    if not len(images):
      raise ValueError('`images` must not be empty. Got: none.')
    log_weights, acceptance = [], []
    starts = range(0, len(images), self._images_per_batch)
    direction = 'AIS' if posterior_sample is None else 'reverse AIS'
    with tqdm.tqdm(
      desc=f'{direction}, sigma {sigma:.3g}',
      total=len(starts) * (_PILOT_STEPS + self._steps),
      unit='temperature',
      dynamic_ncols=True,
      disable=not self._progress,
    ) as bar:
      for i in starts:
        batch = slice(i, i + self._images_per_batch)
        start = None if posterior_sample is None else posterior_sample[batch]
        weights, accepted = self._estimate_batch(images[batch], sigma, tf.constant([seed, i]), start, bar)
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

  def _estimate_batch(self, images, sigma, seed, start, bar):
    """Log-weights `[chains, n]` of the images `[n, ...]`, and the mean acceptance at each temperature `[steps, n]`."""
    images = tf.constant(images, self._prior.dtype)
    pilot_seed, start_seed, chain_seed = tfp.random.split_seed(seed, n=3)
    step_sizes = self._pilot(images, sigma, pilot_seed, bar)
    step_sizes = step_sizes[np.rint(np.linspace(0, _PILOT_STEPS, self._steps + 1)).astype(int)]
    betas = _schedule(self._steps)
    if start is None:
      state = self._prior.sample((self._chains, len(images)), seed=start_seed)
    else:
      state = tf.repeat(start[tf.newaxis], self._chains, axis=0)
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
    """Step sizes `[_PILOT_STEPS + 1, n]` that chains from prior to posterior were content with."""
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
    # A number would be part of the graph, which would be traced anew for each temperature.
    return [tf.convert_to_tensor(argument, self._prior.dtype) for argument in arguments]

  def _transition(self, images, sigma, beta, step_size, state, seed):
    """One transition of HMC.

    Args:
      images: `[n, *image_shape]`.
      sigma: `[]`.
      beta: `[]`, of the distribution that the transition leaves invariant.
      step_size: `[n]`.
      state: `[chains, n, *noise_shape]`.
      seed: Stateless seed.

    Returns:
      The next state, the log-likelihood `[chains, n]` of the state before, and the mean acceptance probability `[n]`.
    """

    def log_likelihood(noise):
      decoded = self._decode(tf.reshape(noise, tf.concat([[-1], tf.shape(noise)[2:]], axis=0)))
      if not decoded.shape[1:].is_compatible_with(images.shape[1:]):
        raise ValueError(f"`images` must be shaped like the generator's, {decoded.shape[1:]}. Got: {images.shape[1:]}.")
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


def _check_sigma(sigma):
  if not 0 < sigma < math.inf:
    raise ValueError(f'`sigma` must be positive and finite. Got: {sigma}.')


def _schedule(steps):
  """Inverse temperatures `[steps + 1]` from 0 to 1."""
  betas = scipy.special.expit(_SCHEDULE_WIDTH * np.linspace(-1, 1, steps + 1))
  return (betas - betas[0]) / (betas[-1] - betas[0])


def _fold_in(seed, k):
  return tf.random.experimental.stateless_fold_in(seed, tf.constant(k))
