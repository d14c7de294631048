"""The paper's study of a run: each analysis reads the run, and leaves its numbers in the run's folder."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import pathlib
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.analysis.ais import annealed_importance_sampling, bidirectional, choose_sigma
from flowgan_tf.analysis.critic_gap import critic_gap
from flowgan_tf.analysis.gmm import GaussianMixture, bandwidth_study
from flowgan_tf.analysis.jacobian import spectrum
from flowgan_tf.analysis.kde import kde_estimate
from flowgan_tf.analysis.outliers import QUANTILES, auroc, log_prob_histograms
from flowgan_tf.analysis.parzen import choose_bandwidth
from flowgan_tf.errors import UsageError
from flowgan_tf.files import write_atomically
from flowgan_tf.flows import Flow
from flowgan_tf.networks import dcgan_critic
from flowgan_tf.training.checkpoints import available
from flowgan_tf.training.evaluation import Evaluator, make_scorer
from flowgan_tf.training.runs import Run, load_data, load_run
from flowgan_tf.training.seeds import Purpose, stateless_seed

__all__ = ['ANALYSES', 'Settings', 'Study', 'analyze', 'read']

_NEED_LIKELIHOOD = ('histograms',)
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


@dataclasses.dataclass(frozen=True)
class Study:
  """What an analysis found in a run.

  Attributes:
    record: What `RUN/analysis/WHAT.json` holds: `what`, `checkpoint`, `step`, `seconds`, the `settings` that count,
      and the numbers.
    arrays: What `RUN/analysis/WHAT.npz` holds: arrays by name.
  """

  record: dict
  arrays: dict[str, np.ndarray]


def analyze(
  workdir: str | os.PathLike, what: str, checkpoint: str | None = None, settings: Settings | None = None
) -> Study:
  """Applies one of `ANALYSES` to a run, and keeps the result in the run's folder `analysis`.

  Args:
    workdir: Folder of the run.
    what: One of `ANALYSES`.
    checkpoint: Name of a checkpoint. Default: the best by score, as in the paper's Table 3, where there is one.
    settings: How much to look at.

  Returns:
    The numbers.

  Raises:
    UsageError: If there is no such analysis, the run or its data cannot be read, or the generator does not allow it: it
      has no likelihood, or its samples are not finite.
  """
  settings = settings or Settings()
  if what not in ANALYSES:
    raise UsageError(f'--what={what}: no such analysis; expected {", ".join(ANALYSES)}')
  if checkpoint is None and 'best_score' in available(pathlib.Path(workdir)):
    checkpoint = 'best_score'
  run = load_run(workdir, checkpoint)
  if what in _NEED_LIKELIHOOD and not isinstance(run.generator, Flow):
    raise UsageError(f'--what={what}: {workdir} has generator {run.config.generator.name}, which has no likelihood')
  began = time.monotonic()
  subject = _Subject(run, settings)
  used, numbers, arrays = ANALYSES[what](subject)
  record = {
    'what': what,
    'checkpoint': run.checkpoint,
    'step': run.step,
    'settings': {name: getattr(settings, name) for name in ('seed', *used)},
    'seconds': round(time.monotonic() - began, 1),
    **numbers,
  }
  folder = run.workdir / 'analysis'
  try:
    folder.mkdir(exist_ok=True)
    # The numbers last: where they are, the arrays are too.
    if arrays:
      temporary = folder / f'{what}.tmp.npz'
      np.savez_compressed(temporary, **arrays)
      os.replace(temporary, folder / f'{what}.npz')
    write_atomically(folder / f'{what}.json', json.dumps(_jsonable(record), indent=2) + '\n')
  except OSError as error:
    raise UsageError(f'{folder}: cannot be written ({error.strerror})') from error
  return Study(_jsonable(record), arrays)


def read(workdir: str | os.PathLike, what: str) -> Study | None:
  """What `analyze` left in a run; None if it was not applied to it.

  Raises:
    UsageError: If the files are damaged.
  """
  path = pathlib.Path(workdir) / 'analysis' / f'{what}.json'
  if not path.exists():
    return None
  try:
    record, arrays = json.loads(path.read_text()), {}
    if not isinstance(record, dict) or record.get('what') != what:
      raise ValueError(f'not of {what}')
    if path.with_suffix('.npz').exists():
      with np.load(path.with_suffix('.npz')) as file:
        arrays = {name: file[name] for name in file.files}
  except Exception as error:  # A damaged zip file raises whatever its flipped bits lead to.
    raise UsageError(f'{path}: damaged ({type(error).__name__}); run the analysis again') from error
  return Study(record, arrays)


class _Subject:
  """A run under study, with what several analyses need of it, made when it is first asked for."""

  def __init__(self, run: Run, settings: Settings):
    self.run, self.settings = run, settings
    self.dataset = load_data(run)
    self.is_flow = isinstance(run.generator, Flow)

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

  def images(self, split: str, n: int | None = None) -> np.ndarray:
    """The images of a split, or n of them drawn at random, dequantised."""
    images = getattr(self.dataset, split).images
    if n is not None and n < len(images):
      images = images[np.sort(np.random.default_rng(self.settings.seed).permutation(len(images))[:n])]
    return data.dequantize(images, self.dataset.levels, self.run.config.seed + Purpose.EVALUATION)

  def exact(self, images: np.ndarray) -> dict:
    """The exact NLL of images, in nats; nothing for a generator without one."""
    if not self.is_flow:
      return {}
    log_prob = tf.function(self.run.generator.log_prob)
    values = np.concatenate([log_prob(images[i : i + 500]) for i in range(0, len(images), 500)]).astype(np.float64)
    return {'exact_nll': -values.mean(), 'exact_standard_error': _standard_error(values), 'exact_n': len(values)}


def _gmm(subject: _Subject):
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


def _kde(subject: _Subject):
  estimate = kde_estimate(subject.samples, subject.images('validation'), subject.images('test'))
  numbers = {name: value for name, value in estimate._asdict().items() if name != 'curve'}
  return ('samples',), numbers | subject.exact(subject.images('test')), {}


def _ais(subject: _Subject):
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


def _jacobian(subject: _Subject):
  settings, generator = subject.settings, subject.run.generator
  seed = stateless_seed(settings.seed, Purpose.ANALYSIS)
  try:
    found = spectrum(generator, generator.distribution.sample(settings.noise_vectors, seed=seed))
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
  return ('noise_vectors',), numbers, {'singular_values': found.singular_values.astype(np.float32)}


def _histograms(subject: _Subject):
  settings, levels = subject.settings, subject.dataset.levels
  sets = {name: subject.images(name, settings.images) for name in ('train', 'test')}
  if settings.other_dataset:
    other = data.load(settings.other_dataset, subject.run.config.data_dir or None)
    if other.image_shape != subject.dataset.image_shape:
      raise UsageError(
        f'--other_dataset={settings.other_dataset}: has images of {other.image_shape}, '
        f'expected {subject.dataset.image_shape}'
      )
    sets[other.name] = data.dequantize(other.test.images[: settings.images], other.levels, settings.seed)
  noise = np.random.default_rng(settings.seed).random((len(sets['test']), *subject.dataset.image_shape), np.float32)
  sets['uniform noise'] = noise
  found = log_prob_histograms(tf.function(subject.run.generator.log_prob), sets)
  numbers = {
    'levels': levels,
    'quantiles_at': QUANTILES,
    'sets': {
      name: {
        'mean_log_prob': h.mean,
        'standard_error': h.standard_error,
        'quantiles': h.quantiles.tolist(),
        'n': h.n,
        'auroc': None if name == 'test' else auroc(found['test'].log_prob, h.log_prob),
      }
      for name, h in found.items()
    },
  }
  return ('images', 'other_dataset'), numbers, {name: h.log_prob for name, h in found.items()}


def _critic(subject: _Subject):
  settings, config, dataset = subject.settings, subject.run.config, subject.dataset
  keras.utils.set_random_seed(settings.seed)
  c = config.critic
  critic = dcgan_critic(dataset.image_shape, c.channels, c.dense_units, c.layer_norm)
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


def _jsonable(value):
  """Plain numbers; None for what is not finite, which JSON lacks."""
  if isinstance(value, dict):
    return {name: _jsonable(v) for name, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_jsonable(v) for v in value]
  if isinstance(value, (np.generic, float)):
    value = np.asarray(value).item()
    return value if not isinstance(value, float) or math.isfinite(value) else None
  return value
