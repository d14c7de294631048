"""The analysis `ais`: the likelihood by annealed importance sampling (AIS), without using the density."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import numpy as np

from flowgan_tf.display.tables import Column
from flowgan_tf.errors import check, check_integer, check_memory, check_number
from flowgan_tf.lazy import lazy_import
from flowgan_tf.progress import Task
from flowgan_tf.study.analysis import Analysis, Settings, Subject, mean_nll, setting
from flowgan_tf.study.kde import Kde
from flowgan_tf.study.summary import Summary

if TYPE_CHECKING:
  import tensorflow as tf
  import tensorflow_probability as tfp

tf = lazy_import('tensorflow')
tfp = lazy_import('tensorflow_probability')
optimize = lazy_import('scipy.optimize')
special = lazy_import('scipy.special')
arrays = lazy_import('flowgan_tf.metrics.arrays')
data = lazy_import('flowgan_tf.data')
priors = lazy_import('flowgan_tf.flows.prior')

_SIGMA_RANGE = 0.01, 0.5
_SCHEDULE_WIDTH = 4.0
# Wu et al. tune the step size for this acceptance rate, the optimum of HMC in high dimensions (Neal 2011, section 5.4).
_TARGET_ACCEPTANCE = 0.65
_PILOT_STEPS = 100
_PILOT_CHAINS = 4
_PILOT_RATE = 0.5
_PILOT_FIRST_STEP_SIZE = 0.1

# With these, choosing sigma takes about as long as the estimate. With the estimate's settings it would take far longer.
_SIGMA_IMAGES, _SIGMA_STEPS, _SIGMA_LEAPFROG_STEPS = 4, 50, 5
_LEAPFROG_STEPS = 10
_BRACKETED_IMAGES = 4


class AisEstimate(NamedTuple):
  """Log-likelihoods by annealed importance sampling."""

  log_likelihood: np.ndarray  #: `log p(x)` of each image in nats, float64 `[n]`.
  #: `(sum w)^2 / sum w^2` of each image's weights, from 1 to the number of chains, float64 `[n]`.
  effective_sample_size: np.ndarray
  acceptance: float  #: Mean acceptance probability of the transitions.


@dataclasses.dataclass(eq=False)
class AnnealedImportanceSampler:
  """Estimates `log p(x)` of a generator with Gaussian observation noise.

  ```none
  p(x) = int p(z) N(x; G(z), sigma^2 I) dz
  log w = sum_k (beta_{k+1} - beta_k) log N(x; G(z_k), sigma^2 I),   z_0 ~ p(z),
  z_{k+1} ~ T_{k+1}(z_k), which leaves p(z) N(x; G(z), sigma^2 I)^beta_{k+1} invariant
  log p(x) ~ log mean_chains w
  ```

  The mean of the weights is an unbiased estimate of `p(x)`. So the expectation of its log is at most the truth. By
  Markov's inequality, it is more than `c` nats above the truth with a probability of at most `exp(-c)`.

  `T` is one transition of Hamiltonian Monte Carlo. Its step size depends only on the image and the temperature. A few
  pilot chains adapt it on their way from prior to posterior, and the chains that count use what these found. A chain
  that adapted to its own past would no longer leave its target invariant.

  The schedule is sigmoidal, `beta_k ~ sigmoid(4 (2 k / steps - 1))` scaled to [0, 1], as in the code of Wu et al. Its
  steps are smallest at the ends.

  `tfp.mcmc.sample_annealed_importance_chain` (up to TFP 0.25) gives HMC the log-density and the gradient of the current
  state at the previous temperature, so that transitions do not leave their targets invariant. With 20 temperatures on
  a Gaussian in one dimension, its mean weight was 0.803 (standard error 0.002) of the true integral. Here, where both
  are computed anew for each temperature, it is 1.000.

  ```python
  sampler = AnnealedImportanceSampler(flow.decode, flow.distribution, chains=16, steps=500)
  sigma, _ = sampler.choose_sigma(validation_images, seed=0)
  nll = -sampler.estimate(images, sigma, seed=0).log_likelihood.mean()
  lower, upper, _ = sampler.bidirectional(sigma, n=10, seed=0)
  ```

  Attributes:
    decode: `G`, a deterministic and differentiable map from noise `[b, *noise_shape]` to images `[b, *image_shape]`.
    prior: `p(z)`, with event shape `noise_shape`. All computations use its dtype, except for the sum of the weights,
      which is in float64.
    chains: Number of chains per image and direction.
    steps: Number of temperatures.
    leapfrog_steps: Leapfrog steps in each transition. A temperature costs `leapfrog_steps + 1` gradients and one
      evaluation of `G`.
    batch_size: Largest number of states that `decode` is given at once. The chains of one image always go together.

  #### References

  [1]: Radford Neal. Annealed importance sampling. Statistics and Computing 11, 2001.
  [2]: Yuhuai Wu, Yuri Burda, Ruslan Salakhutdinov, Roger Grosse. On the Quantitative Analysis of Decoder-Based
       Generative Models. ICLR 2017, sections 2.3 and 3.
  """

  decode: Callable[[tf.Tensor], tf.Tensor]
  prior: tfp.distributions.Distribution
  _: dataclasses.KW_ONLY
  chains: int = 16
  steps: int = 500
  leapfrog_steps: int = _LEAPFROG_STEPS
  batch_size: int = 256
  _given: np.ndarray | None = dataclasses.field(default=None, init=False, repr=False)

  def __post_init__(self):
    for name in ('chains', 'steps', 'leapfrog_steps', 'batch_size'):
      check_integer(name, getattr(self, name), 1)
    # Traced once for all images, sigmas, temperatures and both directions.
    self._transition = tf.function(self._transition, autograph=False, reduce_retracing=True)

  def given(self, conditions: np.ndarray | None) -> Self:
    """Returns a sampler of images that come with conditions `[n, ...]`, whose estimates are of log p(x | c).

    `decode` gets them as its keyword `condition`. A `MixturePrior` that is divided among classes gets them as labels.
    """
    other = copy.copy(self)
    other._given = conditions
    return other

  def estimate(
    self, images: np.ndarray, sigma: float, seed: int, posterior_samples: tf.Tensor | None = None
  ) -> AisEstimate:
    """Estimates the log-likelihood of images.

    Args:
      images: The images `[n, *image_shape]`, with n > 0.
      sigma: Standard deviation of the observation model, in units of the images. See `choose_sigma`.
      seed: Seed. The same seed, arguments and weights give the same estimate.
      posterior_samples: An exact sample of `p(z | x)` for each image, `[n, *noise_shape]`. With them, the chains go
        back from the samples to the prior, and the estimate is a stochastic upper bound. See `bidirectional`.

    Raises:
      UsageError: If the images do not have the generator's shape, or are not as many as the conditions.
    """
    check_number('sigma', sigma, 'a positive number', lambda v: v > 0)
    images = np.asarray(images)
    self._check_count('images', len(images))
    forward = posterior_samples is None
    starts = range(0, len(images), max(1, self.batch_size // self.chains))
    found = []
    what, total = f'{"AIS" if forward else "reverse AIS"}, sigma {sigma:.3g}', len(starts) * (_PILOT_STEPS + self.steps)
    with Task(what, total, unit='temperatures', images=0) as task:
      for i in starts:
        batch = slice(i, i + starts.step)
        start = None if posterior_samples is None else posterior_samples[batch]
        given = data.dataset.take(self._given, batch)
        found.append(self._run_chains(images[batch], given, sigma, tf.constant([seed, i]), start, task))
    log_weights, acceptances = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    log_mean = special.logsumexp(log_weights, axis=0) - math.log(self.chains)
    log_squares = special.logsumexp(2 * log_weights, axis=0) - math.log(self.chains)
    return AisEstimate(
      log_likelihood=log_mean if forward else -log_mean,
      effective_sample_size=self.chains * np.exp(2 * log_mean - log_squares),
      acceptance=float(acceptances.mean()),
    )

  def bidirectional(self, sigma: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brackets the log-likelihood of images simulated from the model, which shows how far AIS can be trusted.

    ```none
    z ~ p(z),   x ~ N(G(z), sigma^2 I)
    ```

    Such a `z` is an exact sample from the posterior given `x`. All reverse chains of the image start from it and go to
    the prior. The mean of their weights is an unbiased estimate of `1 / p(x)`, and minus its log is a stochastic upper
    bound. Real images have no exact sample, so the upper bound exists only for simulated images. In expectation, the
    gap between the bounds limits the error of each.

    Args:
      sigma: Standard deviation of the observation model, in units of the images.
      n: Number of images to simulate, which must be the number of the conditions, if there are any.
      seed: Seed of the images and of the chains.

    Returns:
      The lower and the upper bounds in nats, float64 `[n]`, and the images `[n, *image_shape]`, not clipped to [0, 1].

    #### References

    Grosse, Ghahramani, Adams. Sandwiching the marginal likelihood using bidirectional Monte Carlo. 2015, section 3.
    Wu et al. ICLR 2017, section 3.2.
    """
    self._check_count('n', n)
    noise_seed, observation_seed, chain_seed = tfp.random.split_seed(tf.constant([seed, 1]), n=3)
    noise = self._draw((n,), noise_seed, self._given)
    parts = [slice(i, i + self.batch_size) for i in range(0, n, self.batch_size)]
    batches = [self._decode(noise[tf.newaxis, part], data.dataset.take(self._given, part))[0] for part in parts]
    clean = tf.concat(batches, axis=0)
    images = clean + sigma * tf.random.stateless_normal(tf.shape(clean), observation_seed, dtype=clean.dtype)
    lower = self.estimate(images, sigma, int(chain_seed[0]))
    upper = self.estimate(images, sigma, int(chain_seed[1]), posterior_samples=noise)
    return lower.log_likelihood, upper.log_likelihood, images.numpy()

  def choose_sigma(self, images: np.ndarray, seed: int) -> tuple[float, list[tuple[float, float]]]:
    """Chooses the observation model's standard deviation by the likelihood of validation images (Wu et al., section 3).

    Brent's method searches over `log sigma`, from sigma = 0.01 to 0.5. It makes about 9 estimates with the same seed,
    and finds sigma to about 10 percent. Small sigmas need more temperatures. A search with fewer temperatures than the
    final estimate therefore prefers larger sigmas. If the choice is next to either end, the range is too narrow for the
    generator.

    Returns:
      The best sigma; and all pairs of a sigma and its mean NLL in nats, in the order of the search.
    """
    tried = []

    def nll(log_sigma):
      sigma = math.exp(log_sigma)
      tried.append((sigma, float(-self.estimate(images, sigma, seed).log_likelihood.mean())))
      return tried[-1][1]

    optimize.minimize_scalar(nll, bounds=np.log(_SIGMA_RANGE), method='bounded', options={'xatol': 0.1})
    return min(tried, key=lambda pair: pair[1])[0], tried

  def _check_count(self, name, n):
    count = n if self._given is None else len(self._given)
    check(name, n, f'as many as the conditions that are given, {count}', n == count)

  def _run_chains(self, images, given, sigma, seed, posterior_samples, task):
    """Returns log-weights, float64 `[chains, n]`, and mean acceptance probabilities `[steps, n]`, of one batch."""
    pilot_seed, start_seed, chain_seed = tfp.random.split_seed(seed, n=3)
    step_sizes = self._pilot(images, given, sigma, pilot_seed, task)
    step_sizes = step_sizes[np.rint(np.linspace(0, _PILOT_STEPS, self.steps + 1)).astype(int)]
    betas = _schedule(self.steps)
    if posterior_samples is None:
      state = self._draw((self.chains, len(images)), start_seed, given)
    else:
      state = tf.repeat(posterior_samples[tf.newaxis], self.chains, axis=0)
      betas, step_sizes = betas[::-1], step_sizes[::-1]
    log_weights = np.zeros((self.chains, len(images)))
    acceptances = []
    for k in range(self.steps):
      state, log_likelihood, acceptance = self._move(
        images, given, sigma, betas[k + 1], step_sizes[k + 1], state, chain_seed, k
      )
      log_weights += (betas[k + 1] - betas[k]) * log_likelihood.numpy()
      acceptances.append(acceptance)
      task.advance()
    return log_weights, np.stack(acceptances)

  def _pilot(self, images, given, sigma, seed, task):
    """Returns the step sizes `[_PILOT_STEPS + 1, n]` to which chains from prior to posterior adapted."""
    start_seed, chain_seed = tfp.random.split_seed(seed)
    state = self._draw((_PILOT_CHAINS, len(images)), start_seed, given)
    step_sizes = [np.full(len(images), _PILOT_FIRST_STEP_SIZE)]
    for k, beta in enumerate(_schedule(_PILOT_STEPS)[1:]):
      state, _, acceptance = self._move(images, given, sigma, beta, step_sizes[-1], state, chain_seed, k)
      step_sizes.append(step_sizes[-1] * np.exp(_PILOT_RATE * (acceptance.numpy() - _TARGET_ACCEPTANCE)))
      task.advance()
    return np.stack(step_sizes)

  def _draw(self, shape, seed, given):
    """Draws noise `[*shape, *noise_shape]` from the prior, with what the last axis of `shape` is given, `[n, ...]`."""
    labels = {name: tf.broadcast_to(label, shape) for name, label in priors.label_keyword(self.prior, given).items()}
    return self.prior.sample(shape, seed=seed, **labels)

  def _decode(self, noise, given):
    """Decodes the noise of chains, `[chains, n, *noise_shape]`, with what belongs to their images, `[n, ...]`."""

    def flat(tensor):
      return tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], axis=0))

    if given is None:
      images = self.decode(flat(noise))
    else:
      images = self.decode(flat(noise), condition=flat(tf.repeat(given[tf.newaxis], tf.shape(noise)[0], axis=0)))
    return tf.reshape(images, tf.concat([tf.shape(noise)[:2], tf.shape(images)[1:]], axis=0))

  def _move(self, images, given, sigma, beta, step_size, state, seed, k):
    # A Python number would become part of the graph, which would then be traced again for each temperature.
    tensors = [tf.convert_to_tensor(value, self.prior.dtype) for value in (images, sigma, beta, step_size)]
    return self._transition(*tensors, state, tf.random.experimental.stateless_fold_in(seed, tf.constant(k)), given)

  def _transition(self, images, sigma, beta, step_size, state, seed, given):
    """Makes one transition of HMC, which leaves the distribution at the inverse temperature `beta` invariant.

    `step_size` has shape `[n]`, and `state` has shape `[chains, n, *noise_shape]`. Returns the next state, the
    log-likelihood `[chains, n]` of the given state, and the mean acceptance probability `[n]`.
    """
    of_prior = priors.label_keyword(self.prior, given)

    def log_likelihood(noise):
      decoded = self._decode(noise, given)
      shape = decoded.shape[2:]
      fits = shape.is_compatible_with(images.shape[1:])  # TensorFlow would broadcast.
      check('images', images.shape[1:], f"of the generator's shape, {shape}", fits)
      pixels = tfp.distributions.Normal(decoded, sigma).log_prob(images)
      return tf.reduce_sum(pixels, axis=tf.range(2, tf.rank(pixels)))

    kernel = tfp.mcmc.HamiltonianMonteCarlo(
      lambda noise: self.prior.log_prob(noise, **of_prior) + beta * log_likelihood(noise),
      step_size=tf.reshape(step_size, [-1] + [1] * self.prior.event_shape.rank),
      num_leapfrog_steps=self.leapfrog_steps,
    )
    next_state, results = kernel.one_step(state, kernel.bootstrap_results(state), seed=seed)
    acceptance = tf.exp(tf.minimum(results.log_accept_ratio, 0))
    return next_state, log_likelihood(state), tf.reduce_mean(acceptance, axis=0)


def _schedule(steps):
  """Returns the inverse temperatures `[steps + 1]`, from 0 to 1."""
  betas = special.expit(_SCHEDULE_WIDTH * np.linspace(-1, 1, steps + 1))
  return (betas - betas[0]) / (betas[-1] - betas[0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class AisSettings(Settings):
  ais_images: int = setting(16, 'Test images.', 1, 10**5)
  ais_chains: int = setting(4, 'Chains per image.', 1, 10**4)
  ais_steps: int = setting(300, 'Temperatures per chain.', 1, 10**6)


class Ais(Analysis):
  """NLL of some test images by AIS, with bounds for simulated images (the paper's Table 3)."""

  name = 'ais'
  title = Kde.title
  description = (
    'NLL by annealed importance sampling with Gaussian noise on the images, and bounds that bracket the truth for '
    'simulated images'
  )
  paper = 'Table 3'
  caption = Kde.caption
  Settings = AisSettings
  columns = (
    Column('AIS', 'nll', ',.2f', 'standard_error'),
    Column('exact, images of AIS', 'exact_nll', ',.2f', 'exact_standard_error'),
    Column('the paper: AIS', 'ais', ',.2f', source='paper'),
  )
  details = (
    Column('AIS: test images', 'n', ','),
    Column('AIS: chains', 'chains', ','),
    Column('AIS: temperatures', 'steps', ','),
    Column('AIS: σ', 'sigma', '.4f'),
    Column('AIS: acceptance', 'acceptance', '.2f'),
    Column('AIS: gap between bounds', 'bracket_gap', ',.2f', 'bracket_gap_standard_error'),
  )
  ranked = ('nll',)
  published: ClassVar = {
    'mnist': {'MLE': {'ais': -2584.40}, 'ADV': {'ais': -2916.10}, 'Hybrid λ = 0.1': {'ais': -2703.03}}
  }

  def measure(self, subject: Subject, settings: AisSettings) -> tuple[dict, dict[str, np.ndarray]]:
    decode, prior = subject.run.generator.decode, subject.run.generator.distribution
    chains, seed = settings.ais_chains, settings.seed
    size = settings.ais_images * chains * math.prod(subject.dataset.image_shape)
    check_memory('states of `ais_images` times `ais_chains`', 4 * size)
    sigma_images, given = subject.batch('validation', _SIGMA_IMAGES, seed)
    short = AnnealedImportanceSampler(
      decode, prior, chains=chains, steps=_SIGMA_STEPS, leapfrog_steps=_SIGMA_LEAPFROG_STEPS
    )
    sigma, tried = short.given(given).choose_sigma(sigma_images, seed)
    sampler = AnnealedImportanceSampler(
      decode, prior, chains=chains, steps=settings.ais_steps, leapfrog_steps=_LEAPFROG_STEPS
    )
    # The likelihood is p(x | c) given an image's own c, because no gradient leads from one class to another.
    images, given = subject.batch('test', settings.ais_images, seed)
    estimate = sampler.given(given).estimate(images, sigma, seed)
    simulated = subject.conditions_for_samples(_BRACKETED_IMAGES, seed)
    lower, upper, _ = sampler.given(simulated).bidirectional(sigma, _BRACKETED_IMAGES, seed)
    numbers = mean_nll(estimate.log_likelihood) | {
      'acceptance': estimate.acceptance,
      'sigma': sigma,
      'chains': chains,
      'steps': settings.ais_steps,
      'leapfrog_steps': _LEAPFROG_STEPS,
      'effective_sample_size': estimate.effective_sample_size.mean(),
      'sigma_images': len(sigma_images),
      'sigmas_tried': tried,
      'bracket_lower': lower.mean(),
      'bracket_upper': upper.mean(),
      'bracket_gap': (upper - lower).mean(),
      'bracket_gap_standard_error': arrays.standard_error(upper - lower),
      'bracket_n': _BRACKETED_IMAGES,
    }
    if subject.given == 'all classes':
      numbers['given'] = 'own class'
    return numbers | subject.exact(images, given), {'log_likelihood': estimate.log_likelihood}

  def notes(self, runs: Sequence[Summary]) -> list[str]:
    return [
      'AIS estimates the likelihood of the generator with Gaussian noise of standard deviation σ on its images. σ is '
      'the best value for a few validation images. The gap is the difference between the stochastic upper and lower '
      'bounds of log p, in nats, for images simulated from that model. For real images it may be larger.'
    ]

  def resolution(self, record: dict) -> float:
    return record.get('bracket_gap') or 0.0
