"""The chains of annealed importance sampling: their temperatures, transitions and weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

__all__ = ['PILOT_STEPS', 'AnnealedChains']

# Wu et al. tune the step size for this acceptance rate, the optimum of HMC in high dimensions (Neal 2011, section 5.4).
_TARGET_ACCEPTANCE = 0.65

_SCHEDULE_WIDTH = 4.0

PILOT_STEPS = 100
_PILOT_CHAINS = 4
_PILOT_RATE = 0.5
_PILOT_FIRST_STEP_SIZE = 0.1


class AnnealedChains:
  """The chains of one generator, traced once for all images, sigmas, temperatures and both directions.

  A pilot run of a few other chains chooses the step sizes; see `AnnealedImportanceSampler`.

  `tfp.mcmc.sample_annealed_importance_chain` is not used because, up to TFP 0.25, it gives HMC the log-density and
  the gradient of the current state at the previous temperature. The transitions then do not leave their targets
  invariant. With 20 temperatures on a Gaussian in one dimension, the mean weight was 0.803 (standard error 0.002) of
  the true integral. It was 1.000 when both were computed anew for each temperature, as they are here. TFP's
  temperatures are also equally spaced, and its step size is the same for all of them.
  """

  def __init__(
    self,
    decode: Callable[[tf.Tensor], tf.Tensor],
    prior: tfp.distributions.Distribution,
    chains: int,
    steps: int,
    leapfrog_steps: int,
  ):
    """Builds the chains; the arguments are those of `AnnealedImportanceSampler`."""
    self._decode = decode
    self._prior = prior
    self._chains = chains
    self._steps = steps
    self._leapfrog_steps = leapfrog_steps
    self._transition = tf.function(self._transition, reduce_retracing=True)

  def anneal(
    self,
    images: np.ndarray,
    sigma: float,
    seed: tf.Tensor,
    posterior_sample: tf.Tensor | None,
    progress: Callable[[], object],
  ) -> tuple[np.ndarray, np.ndarray]:
    """Anneals from the prior or, given posterior samples, from these back to the prior.

    Args:
      images: The images `[n, *image_shape]`.
      sigma: Standard deviation of the observation model.
      seed: Stateless seed.
      posterior_sample: A sample of the posterior of each image, `[n, *noise_shape]`.
      progress: Called after each of `PILOT_STEPS` + `steps` temperatures.

    Returns:
      Log-weights, float64 `[chains, n]`, and mean acceptance probabilities `[steps, n]`.
    """
    images = tf.constant(images, self._prior.dtype)
    pilot_seed, start_seed, chain_seed = tfp.random.split_seed(seed, n=3)
    step_sizes = self._pilot(images, sigma, pilot_seed, progress)
    step_sizes = step_sizes[np.rint(np.linspace(0, PILOT_STEPS, self._steps + 1)).astype(int)]
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
      progress()
    return log_weights, np.stack(acceptances)

  def _pilot(self, images, sigma, seed, progress):
    """Returns the step sizes `[PILOT_STEPS + 1, n]` to which chains from prior to posterior adapted."""
    start_seed, chain_seed = tfp.random.split_seed(seed)
    state = self._prior.sample((_PILOT_CHAINS, len(images)), seed=start_seed)
    step_size = np.full(len(images), _PILOT_FIRST_STEP_SIZE)
    step_sizes = [step_size]
    for k, beta in enumerate(_schedule(PILOT_STEPS)[1:]):
      state, _, acceptance = self._transition(
        *self._tensors(images, sigma, beta, step_size), state, _fold_in(chain_seed, k)
      )
      step_size = step_size * np.exp(_PILOT_RATE * (acceptance.numpy() - _TARGET_ACCEPTANCE))
      step_sizes.append(step_size)
      progress()
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
      if not decoded.shape[1:].is_compatible_with(images.shape[1:]):
        raise ValueError(f"`images` must have the generator's shape, {decoded.shape[1:]}. Got: {images.shape[1:]}.")
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
