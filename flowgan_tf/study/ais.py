"""The analysis `ais`: the likelihood by annealed importance sampling (AIS), without using the density."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Self

import numpy as np

from flowgan_tf import data, flows, metrics
from flowgan_tf.base.errors import check, check_integer, check_memory, check_number
from flowgan_tf.base.lazy import tf, tfp
from flowgan_tf.base.progress import Task
from flowgan_tf.display.tables import Column
from flowgan_tf.metrics import arrays
from flowgan_tf.study.analysis import Analysis, Settings, Subject, mean_nll, setting
from flowgan_tf.study.kde import Kde
from flowgan_tf.study.summary import Summary

# The candidates for sigma, in units of the images; neighbours differ by 10 percent.
_SIGMAS = np.geomspace(0.5, 0.01, 41)
_SIGMA_IMAGES = 4
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
  p(x) = int p(z) N(x; G(z), sigma^2 I) dz = (2 pi sigma^2)^(-d/2) Z(1 / sigma^2),   x in R^d
  Z(t) = int p(z) exp(-t E(z)) dz,   E(z) = |x - G(z)|^2 / 2
  ```

  `flowgan_tf.metrics.annealing.Annealing` estimates `Z`. The expectation of the log of its estimate is at most the
  truth. By Markov's inequality, it is more than `c` nats above the truth with a probability of at most `exp(-c)`.

  On their way to the precision `1 / sigma^2`, chains pass the precisions of all larger sigmas, so one run estimates the
  likelihoods for all of these. `log(1 + t_k)` grows in equal steps: where the noise of an image is confined, the energy
  changes in proportion to `1 / t`.

  ```python
  sampler = AnnealedImportanceSampler(flow.decode, flow.distribution, chains=16, steps=1500)
  sigma, _ = sampler.choose_sigma(validation_images, seed=0)
  nll = -sampler.estimate(images, sigma, seed=0).log_likelihood.mean()
  lower, upper, _ = sampler.bidirectional(sigma, n=10, seed=0)
  ```

  Attributes:
    decode: `G`, a deterministic and differentiable map from noise `[b, *noise_shape]` to images `[b, *image_shape]`.
    prior: `p(z)`, with event shape `noise_shape`. All computations use its dtype, except for the weights, which are in
      float64.
    chains: Number of chains per image and direction.
    steps: Number of temperatures, each of which costs one gradient.
    batch_size: Largest number of chains that move at once, without the pilots. The chains of one image always go
      together.

  #### References

  [1]: Yuhuai Wu, Yuri Burda, Ruslan Salakhutdinov, Roger Grosse. On the Quantitative Analysis of Decoder-Based
       Generative Models. ICLR 2017, sections 2.3 and 3.
  [2]: Roger Grosse, Zoubin Ghahramani, Ryan Adams. Sandwiching the marginal likelihood using bidirectional Monte Carlo.
       2015, section 3.
  """

  decode: Callable[[tf.Tensor], tf.Tensor]
  prior: tfp.distributions.Distribution
  _: dataclasses.KW_ONLY
  chains: int = 16
  steps: int = 1500
  batch_size: int = 256
  _conditions: np.ndarray | None = dataclasses.field(default=None, init=False, repr=False)

  def __post_init__(self):
    for name in ('chains', 'steps', 'batch_size'):
      check_integer(name, getattr(self, name), 1)
    self._annealing = metrics.annealing.Annealing(self._log_prior, self._energy)

  def given(self, conditions: np.ndarray | None) -> Self:
    """Returns a sampler of images that come with conditions `[n, ...]`, whose estimates are of log p(x | c).

    `decode` gets them as its keyword `condition`. A `MixturePrior` that is divided among classes gets them as labels.
    """
    other = copy.copy(self)
    other._conditions = conditions
    return other

  def estimate(self, images: np.ndarray, sigma: float, seed: int) -> AisEstimate:
    """Estimates the log-likelihood of images.

    Args:
      images: The images `[n, *image_shape]`, with n > 0.
      sigma: Standard deviation of the observation model, in units of the images. See `choose_sigma`.
      seed: Seed. The same seed, arguments and weights give the same estimate.

    Raises:
      UsageError: If the images do not have the generator's shape, or are not as many as the conditions.
    """
    log_means, log_squares, acceptances, _ = self._run(images, sigma, seed)
    return AisEstimate(
      log_likelihood=log_means[-1] + _log_normalizer(sigma, images),
      effective_sample_size=self.chains * np.exp(2 * log_means[-1] - log_squares),
      acceptance=float(acceptances.mean()),
    )

  def bidirectional(self, sigma: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brackets the log-likelihood of images simulated from the model, which shows how far AIS can be trusted.

    ```none
    z ~ p(z),   x ~ N(G(z), sigma^2 I)
    ```

    Such a `z` is an exact sample from the posterior given `x`. All reverse chains of the image start from it and go to
    the prior. The mean of their weights is an unbiased estimate of `1 / Z`, and minus its log is a stochastic upper
    bound. Real images have no exact sample, so the upper bound exists only for simulated images. In expectation, the
    gap between the bounds limits the error of each. Both bounds use the step sizes of the same pilots, which know the
    image but not its `z` [1, 2].

    Args:
      sigma: Standard deviation of the observation model, in units of the images.
      n: Number of images to simulate, which must be the number of the conditions, if there are any.
      seed: Seed of the images and of the chains.

    Returns:
      The lower and the upper bounds in nats, float64 `[n]`, and the images `[n, *image_shape]`, not clipped to [0, 1].
    """
    check_integer('n', n, 1)
    self._check_count('n', n)
    noise_seed, observation_seed, chain_seed = tfp.random.split_seed(tf.constant([seed, 1]), n=3)
    noise = self._draw(n, noise_seed, self._conditions)
    parts = [slice(i, i + self.batch_size) for i in range(0, n, self.batch_size)]
    clean = tf.concat([self._decode(noise[part], data.split.take(self._conditions, part)) for part in parts], axis=0)
    images = clean + sigma * tf.random.stateless_normal(tf.shape(clean), observation_seed, dtype=clean.dtype)
    lower, _, _, step_sizes = self._run(images, sigma, int(chain_seed[0]))
    upper, *_ = self._run(images, sigma, int(chain_seed[1]), noise, step_sizes)
    constant = _log_normalizer(sigma, images)
    return lower[-1] + constant, constant - upper[-1], images.numpy()

  def choose_sigma(self, images: np.ndarray, seed: int) -> tuple[float, list[tuple[float, float]]]:
    """Chooses the observation model's standard deviation by the likelihood of validation images [1, section 3].

    One run of chains estimates the likelihoods for sigmas from 0.5 to 0.01, about 10 percent apart. Small sigmas need
    more temperatures, so that too few temperatures prefer larger sigmas. If the choice is next to either end, the range
    is too narrow for the generator.

    Returns:
      The best sigma; and all pairs of a sigma and its mean NLL in nats, from the largest sigma to the smallest.
    """
    log_means, *_ = self._run(images, _SIGMAS[-1], seed)
    precisions = _schedule(self.steps, _SIGMAS[-1])[1:]
    tried = []
    for k in np.unique(np.searchsorted(precisions[:-1], _SIGMAS**-2)):
      sigma = float(precisions[k] ** -0.5)
      tried.append((sigma, float(-(log_means[k] + _log_normalizer(sigma, images)).mean())))
    return min(tried, key=lambda pair: pair[1])[0], tried

  def _check_count(self, name, n):
    count = n if self._conditions is None else len(self._conditions)
    check(name, n, f'as many as the conditions that are given, {count}', n == count)

  def _run(self, images, sigma, seed, posterior_samples=None, step_sizes=None):
    """Moves chains from the prior or, with samples of the posterior and step sizes, from these to the prior.

    Returns the logs of the means of the weights after each temperature `[steps, n]`, and of the squares of the last
    ones `[n]`; mean acceptance probabilities `[n]`; and step sizes `[steps, n]`.
    """
    check_number('sigma', sigma, 'a positive number', lambda v: v > 0)
    images = np.asarray(images)
    self._check_count('images', len(images))
    starts = range(0, len(images), max(1, self.batch_size // self.chains))
    found = []
    what = f'{"AIS" if posterior_samples is None else "reverse AIS"}, sigma {sigma:.3g}'
    with Task(what, len(starts) * self.steps, unit='temperatures', images=0) as task:
      for i in starts:
        batch = slice(i, i + starts.step)
        conditions = data.split.take(self._conditions, batch)
        back = () if posterior_samples is None else (posterior_samples[batch], step_sizes[:, batch])
        found.append(self._anneal(images[batch], conditions, sigma, tf.constant([seed, i]), task, *back))
    return [np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True)]

  def _anneal(self, images, conditions, sigma, seed, task, posterior_samples=None, step_sizes=None):
    """Does what `_run` says for one batch of images."""
    precisions, n = _schedule(self.steps, sigma), len(images)
    rows = self.chains + (posterior_samples is None)
    images = tf.constant(np.concatenate([images] * rows), self.prior.dtype)
    conditions = None if conditions is None else tf.constant(np.concatenate([conditions] * rows))
    start_seed, chain_seed = tfp.random.split_seed(seed, n=2)
    if posterior_samples is None:
      noise = self._draw(rows * n, start_seed, conditions)
    else:
      noise, precisions = tf.concat([posterior_samples] * rows, axis=0), precisions[::-1]
    return self._annealing.run(noise, (images, conditions), precisions, n, chain_seed, task, step_sizes)

  def _draw(self, n, seed, conditions):
    """Draws noise `[n, *noise_shape]` from the prior, with what it is given, `[n, ...]`."""
    return self.prior.sample(n, seed=seed, **flows.prior.label_keyword(self.prior, conditions))

  def _decode(self, noise, conditions):
    return self.decode(noise) if conditions is None else self.decode(noise, condition=conditions)

  def _log_prior(self, noise, images, conditions):
    return self.prior.log_prob(noise, **flows.prior.label_keyword(self.prior, conditions))

  def _energy(self, noise, images, conditions):
    decoded = self._decode(noise, conditions)
    fits = decoded.shape[1:].is_compatible_with(images.shape[1:])  # TensorFlow would broadcast.
    check('images', images.shape[1:], f"of the generator's shape, {decoded.shape[1:]}", fits)
    return tf.reduce_sum((images - decoded) ** 2, axis=tf.range(1, tf.rank(images))) / 2


def _schedule(steps, sigma):
  """Returns precisions `[steps + 1]`, from 0 to 1 / sigma^2."""
  return np.expm1(np.linspace(0, math.log1p(sigma**-2), steps + 1))


def _log_normalizer(sigma, images):
  """Returns the log of the Gaussian's constant, `-d/2 log(2 pi sigma^2)`."""
  return -math.prod(np.shape(images)[1:]) / 2 * math.log(2 * math.pi * sigma**2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AisSettings(Settings):
  ais_images: int = setting(16, 'Test images.', 1, 10**5)
  ais_chains: int = setting(4, 'Chains per image.', 1, 10**4)
  ais_steps: int = setting(1500, 'Temperatures per chain.', 1, 10**6)


class Ais(Analysis):
  """NLL of some test images by AIS, with bounds for simulated images (the paper's Table 3)."""

  name = 'ais'
  title = Kde.title
  description = (
    'NLL from annealed importance sampling with Gaussian noise on the images, and bounds that bracket the truth for '
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
    size = max(chains, AnnealedImportanceSampler.batch_size) * math.prod(subject.dataset.image_shape)
    check_memory('the states of `ais_chains`', 4 * size)
    sampler = AnnealedImportanceSampler(decode, prior, chains=chains, steps=settings.ais_steps)
    sigma_images, conditions = subject.batch('validation', _SIGMA_IMAGES, seed)
    sigma, tried = sampler.given(conditions).choose_sigma(sigma_images, seed)
    # The likelihood is p(x | c) given an image's own c, because no gradient leads from one class to another.
    images, conditions = subject.batch('test', settings.ais_images, seed)
    estimate = sampler.given(conditions).estimate(images, sigma, seed)
    simulated = subject.conditions_for_samples(_BRACKETED_IMAGES, seed)
    lower, upper, _ = sampler.given(simulated).bidirectional(sigma, _BRACKETED_IMAGES, seed)
    numbers = mean_nll(estimate.log_likelihood) | {
      'acceptance': estimate.acceptance,
      'sigma': sigma,
      'chains': chains,
      'steps': settings.ais_steps,
      'effective_sample_size': estimate.effective_sample_size.mean(),
      'sigma_images': len(sigma_images),
      'sigmas_tried': tried,
      'bracket_lower': lower.mean(),
      'bracket_upper': upper.mean(),
      'bracket_gap': (upper - lower).mean(),
      'bracket_gap_standard_error': arrays.standard_error(upper - lower),
      'bracket_n': _BRACKETED_IMAGES,
    }
    if subject.condition.title == 'all classes':
      numbers['given'] = 'own class'
    return numbers | subject.exact(images, conditions), {'log_likelihood': estimate.log_likelihood}

  def notes(self, runs: Sequence[Summary]) -> list[str]:
    return [
      'AIS estimates the likelihood of the generator with Gaussian noise of standard deviation σ on its images. σ is '
      'the best value for a few validation images. The gap is the difference between the stochastic upper and lower '
      'bounds of log p, in nats, for images simulated from that model. For real images it may be larger.'
    ]

  def resolution(self, record: dict) -> float:
    return record.get('bracket_gap') or 0.0
