"""The analyses of a run by name: each takes a `Subject` and returns numbers and arrays for `study` to keep."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.estimators.annealing import annealed_importance_sampling, bidirectional, choose_sigma
from flowgan_tf.estimators.gaussian_mixture import GaussianMixture, bandwidth_study
from flowgan_tf.estimators.independent_critic import critic_gap
from flowgan_tf.estimators.jacobian_spectrum import spectrum
from flowgan_tf.estimators.kernel_density import kde_estimate
from flowgan_tf.estimators.log_probs import auroc, compare_log_probs
from flowgan_tf.estimators.parzen import choose_bandwidth
from flowgan_tf.evaluation.evaluator import Evaluator
from flowgan_tf.evaluation.scoring import make_scorer
from flowgan_tf.metrics.batches import map_batches
from flowgan_tf.runs.config import make_critic
from flowgan_tf.runs.run import Run, load_data
from flowgan_tf.runs.seeds import Purpose, stateless_seed

__all__ = ['ANALYSES', 'Settings', 'Subject']

_IMAGES_PER_CALL = 100
_GRID_IMAGES = 64
_GMM_BANDWIDTHS = np.geomspace(0.01, 1, 17)
# The choice of sigma is as much work as the estimate, and would be many times as much with its temperatures.
_SIGMA_IMAGES, _SIGMA_STEPS, _SIGMA_LEAPFROG_STEPS = 4, 50, 5
_BRACKETED_IMAGES = 4


@dataclasses.dataclass(frozen=True)
class Settings:
  """How much an analysis looks at.

  Attributes:
    seed: Non-negative, of all that is random.
    samples: Samples of the generator behind the Parzen window, and of each mixture behind its scores.
    images: Images of a split whose log-densities `histograms` shows.
    noise_vectors: Noise vectors at which the Jacobian is taken.
    ais_images: Test images whose likelihood annealed importance sampling estimates.
    ais_chains: Chains per image.
    ais_steps: Temperatures of a chain.
    critic_steps: Updates of the independent critic.
    other_dataset: Name or path of other images for `histograms`; none if empty.
  """

  seed: int = 0
  samples: int = 5000
  images: int = 5000
  noise_vectors: int = 64
  ais_images: int = 16
  ais_chains: int = 4
  ais_steps: int = 300
  critic_steps: int = 2000
  other_dataset: str = ''


class Subject:
  """A run under study, with what several analyses need of it, made when it is first asked for."""

  def __init__(self, run: Run, settings: Settings):
    self.run, self.settings = run, settings
    self.dataset = load_data(run)
    self.is_flow = run.generator.has_density

  @functools.cached_property
  def evaluator(self) -> Evaluator:
    return Evaluator(self.run.generator, self.dataset, self.run.config, make_scorer(self.run.config, self.dataset))

  @functools.cached_property
  def samples(self) -> np.ndarray:
    silent = Evaluator(self.run.generator, self.dataset, self.run.config, None)
    images = silent.sample(self.settings.samples, Purpose.ANALYSIS, self.settings.seed)
    if bad := np.count_nonzero(~np.isfinite(images).all(axis=(1, 2, 3))):
      raise UsageError(f'{self.run.workdir}: {bad} of {len(images)} samples are not finite; try another --checkpoint')
    return images

  def images(self, split: str, n: int | None = None, dataset: data.Dataset | None = None) -> np.ndarray:
    """The images of a split, of the run's data unless others are given, or n of them drawn at random; dequantised."""
    dataset = dataset or self.dataset
    images = getattr(dataset, split).images
    if n is not None and n < len(images):
      images = images[np.sort(np.random.default_rng(self.settings.seed).permutation(len(images))[:n])]
    return data.dequantize(images, dataset.levels, self.run.config.seed + Purpose.EVALUATION)

  @functools.cached_property
  def _log_prob(self) -> Callable[[np.ndarray], tf.Tensor]:
    return tf.function(self.run.generator.log_prob)

  def log_prob(self, images: np.ndarray) -> np.ndarray:
    """Exact log-densities of images in nats, float64 `[n]`."""
    return map_batches(self._log_prob, images, _IMAGES_PER_CALL).astype(np.float64)

  def exact(self, images: np.ndarray) -> dict:
    """The exact NLL of images, in nats; nothing for a generator without one."""
    if not self.is_flow:
      return {}
    values = self.log_prob(images)
    return {'exact_nll': -values.mean(), 'exact_standard_error': _standard_error(values), 'exact_n': len(values)}


def _gmm(subject: Subject):
  settings, scorer = subject.settings, subject.evaluator.scorer
  mixture = GaussianMixture(subject.images('train'))
  validation = subject.images('validation')
  score = scorer and functools.partial(scorer, splits=1)
  records = bandwidth_study(mixture, validation, score, _GMM_BANDWIDTHS, settings.samples, settings.seed)
  best = choose_bandwidth(validation, mixture.centers)
  test = -mixture.log_prob(subject.images('test'), [best.bandwidth])[0]
  likelihood = subject.evaluator.likelihood('validation')
  model = {'nll': likelihood.nll if likelihood else None} | subject.evaluator.scores(subject.samples)
  numbers = {
    'centers': len(mixture.centers),
    'selection': scorer and scorer.selection,
    'best_bandwidth': best.bandwidth,
    'best_nll': -best.mean_log_density,
    'best_standard_error': best.standard_error,
    'test_nll': test.mean(),
    'test_standard_error': _standard_error(test),
    'test_n': len(test),
    'model': model,
    'bandwidths': records,
  }
  samples = np.clip(mixture.sample(_GRID_IMAGES, best.bandwidth, settings.seed), 0, 1)
  return ('samples',), numbers, {'samples': samples}


def _kde(subject: Subject):
  estimate = kde_estimate(subject.samples, subject.images('validation'), subject.images('test'))
  numbers = {name: value for name, value in estimate._asdict().items() if name != 'curve'}
  return ('samples',), numbers | subject.exact(subject.images('test')), {}


def _ais(subject: Subject):
  settings, run = subject.settings, subject.run
  decode, prior = run.generator.decode, run.generator.distribution
  common = {'chains': settings.ais_chains, 'seed': settings.seed}
  sigma_images = subject.images('validation', _SIGMA_IMAGES)
  choice = choose_sigma(decode, prior, sigma_images, steps=_SIGMA_STEPS, leapfrog_steps=_SIGMA_LEAPFROG_STEPS, **common)
  images = subject.images('test', settings.ais_images)
  common['steps'] = settings.ais_steps
  estimate = annealed_importance_sampling(decode, prior, images, choice.sigma, **common)
  bracket = bidirectional(decode, prior, choice.sigma, _BRACKETED_IMAGES, **common)
  log_likelihoods = {'log_likelihood': estimate.log_likelihood}
  numbers = {name: value for name, value in estimate._asdict().items() if np.isscalar(value)} | {
    'effective_sample_size': estimate.effective_sample_size.mean(),
    'sigma_images': len(sigma_images),
    'sigmas_tried': choice.tried,
    'bracket_lower': bracket.lower.log_likelihood.mean(),
    'bracket_upper': bracket.upper.log_likelihood.mean(),
    'bracket_gap': bracket.gap,
    'bracket_gap_standard_error': bracket.gap_standard_error,
    'bracket_n': _BRACKETED_IMAGES,
  }
  return ('ais_images', 'ais_chains', 'ais_steps'), numbers | subject.exact(images), log_likelihoods


def _jacobian(subject: Subject):
  settings, generator = subject.settings, subject.run.generator
  noise = generator.distribution.sample(settings.noise_vectors, seed=stateless_seed(settings.seed, Purpose.ANALYSIS))
  try:
    # In float32 the smallest singular values of a nearly singular Jacobian are rounding errors.
    found = spectrum(generator.with_dtype('float64'), noise)
  except ValueError as error:  # Derivatives that are not finite.
    raise UsageError(f'{subject.run.workdir}: {error}') from error
  numbers = {
    'n': found.n,
    'd': found.d,
    'mean_log_det': found.mean_log_det,
    'standard_error': found.standard_error,
    'median_condition_number': np.median(found.condition_number),
    'largest_condition_number': found.condition_number.max(),
    'below_precision': found.below_precision.mean(),
  }
  if found.flow_log_det is not None:
    numbers['largest_relative_difference'] = np.max(np.abs(found.log_det / found.flow_log_det - 1))
  return ('noise_vectors',), numbers, {'singular_values': found.singular_values}


def _histograms(subject: Subject):
  settings, run = subject.settings, subject.run
  if not subject.is_flow:
    raise UsageError(f'--what=histograms: {run.workdir} has generator {run.config.generator}, which has no likelihood')
  sets = {name: subject.images(name, settings.images) for name in ('train', 'test')}
  if settings.other_dataset:
    name, images = _other_images(subject)
    sets[f'other {name}' if name in sets else name] = images
  noise = np.random.default_rng(settings.seed).random((len(sets['test']), *subject.dataset.image_shape), np.float32)
  sets['uniform noise'] = noise
  try:
    found = compare_log_probs(subject.log_prob, sets)
  except ValueError as error:  # Densities that are not finite.
    raise UsageError(f'{run.workdir}: {error}') from error
  numbers = {
    'levels': subject.dataset.levels,
    'sets': {
      name: {
        'mean_log_prob': s.mean,
        'standard_error': s.standard_error,
        'n': s.n,
        'auroc': None if name == 'test' else auroc(found['test'].log_prob, s.log_prob),
      }
      for name, s in found.items()
    },
  }
  return ('images', 'other_dataset'), numbers, {name: s.log_prob for name, s in found.items()}


def _other_images(subject: Subject):
  flag = f'--other_dataset={subject.settings.other_dataset}'
  other = data.load(subject.settings.other_dataset, subject.run.config.data_dir or None)
  if other.fingerprint == subject.dataset.fingerprint:
    raise UsageError(f'{flag}: is the data set that {subject.run.workdir} was trained on; expected another one')
  if other.image_shape != subject.dataset.image_shape:
    raise UsageError(f'{flag}: has images of {other.image_shape}, expected {subject.dataset.image_shape}')
  return other.name, subject.images('test', subject.settings.images, other)


def _critic(subject: Subject):
  settings, config, dataset = subject.settings, subject.run.config, subject.dataset
  keras.utils.set_random_seed(settings.seed)
  critic = make_critic(config, dataset.image_shape)
  found = critic_gap(
    subject.run.generator.sample,
    dataset.train.images,
    dataset.validation.images,
    dataset.levels,
    critic,
    settings.critic_steps,
    config.batch_size,
    settings.seed,
  )
  if not math.isfinite(found.gap):
    raise UsageError(f'{subject.run.workdir}: what the critic sees is not finite; try another --checkpoint')
  return ('critic_steps',), found._asdict(), {}


# Each returns the names of the settings it has used, its numbers and its arrays.
ANALYSES: dict[str, Callable] = {
  'gmm': _gmm,
  'kde': _kde,
  'ais': _ais,
  'jacobian': _jacobian,
  'histograms': _histograms,
  'critic': _critic,
}


def _standard_error(values):
  return values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
