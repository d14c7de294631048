"""Evaluation of a generator: likelihood on a split, scores and health of its samples, a grid of fixed noise."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.files import write_atomically
from flowgan_tf.flows import Flow
from flowgan_tf.generators import Generator
from flowgan_tf.metrics import classifier as classifiers
from flowgan_tf.metrics.inception import load_inception
from flowgan_tf.metrics.likelihood import Likelihood, make_likelihood_fn
from flowgan_tf.metrics.reference import load_or_compute
from flowgan_tf.metrics.samples import sample_health
from flowgan_tf.metrics.scorers import Scorer
from flowgan_tf.training.checkpoints import restore_generator
from flowgan_tf.training.runs import load_run
from flowgan_tf.training.seeds import Purpose, stateless_seed
from flowgan_tf.training.state import make_generator

__all__ = ['Evaluator', 'cache_dir', 'evaluate_run', 'make_scorer']

_SAMPLES_PER_CALL = 500
_SAMPLES = {'classifier': 5000, 'inception': 50_000}  # where the user names no number
_SPLITS = 10


def cache_dir(config: config_dict.ConfigDict) -> pathlib.Path:
  """Folder in which trained classifiers and reference features are kept."""
  return pathlib.Path(config.cache_dir or '~/.cache/flowgan_tf').expanduser()


def make_scorer(config: config_dict.ConfigDict, dataset: data.Dataset) -> Scorer | None:
  """What scores the samples of a run: FID and KID are against the training images, as is the custom.

  A classifier that the cache does not hold is trained now; reference features that it does not hold are computed.

  Returns:
    None for a run without scores, or if a classifier is asked for and the data have no labels.

  Raises:
    UsageError: If the cache folder cannot be made, no training image has one of the labels, or there are no weights of
      Inception-v3.
  """
  by_classifier = config.scorer == 'classifier'
  if not config.score_samples or (by_classifier and dataset.num_classes is None):
    return None
  if by_classifier:
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    if not counts.all():
      raise UsageError(
        f'--dataset={config.dataset}: no training image has label {counts.argmin()}; expected each of '
        f'0 to {dataset.num_classes - 1}, or no labels'
      )
  folder = cache_dir(config)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UsageError(f'--cache_dir={folder}: cannot be made ({error.strerror})') from error
  if by_classifier:
    network = classifiers.load_or_train(dataset, folder)
  else:
    network = load_inception(config.inception_weights or None)
  return Scorer(network, load_or_compute(dataset, 'train', network, folder))


class Evaluator:
  """Measures one generator, again and again, with programs that are traced once.

  Attributes:
    scorer: What scores its samples; None for no scores.
  """

  def __init__(
    self,
    generator: Generator,
    dataset: data.Dataset,
    config: config_dict.ConfigDict,
    scorer: Scorer | None,
  ):
    """Prepares the measurements.

    Args:
      generator: The generator; its variables may change between calls.
      dataset: Data with the splits.
      config: A training configuration; seed, batch size and `jit` count.
      scorer: See above.
    """
    self.scorer = scorer
    self._generator, self._dataset, self._config = generator, dataset, config
    self._likelihood = None
    if isinstance(generator, Flow):
      self._likelihood = make_likelihood_fn(generator, dataset.levels, max(config.batch_size, 100), config.jit)
    self._decode = tf.function(generator.decode, jit_compile=config.jit)

  def likelihood(self, split: str) -> Likelihood | None:
    """Likelihood of all images of 'train', 'validation' or 'test', with a dequantisation that is fixed by the seed.

    None for a generator that has none.
    """
    if self._likelihood is None:
      return None
    images = getattr(self._dataset, split).images
    return self._likelihood(data.dequantize(images, self._dataset.levels, self._config.seed + Purpose.EVALUATION))

  def sample(self, n: int, purpose: Purpose, step: int = 0) -> np.ndarray:
    """Samples, float `[n, height, width, channels]`.

    Args:
      n: Number of samples.
      purpose: What they are for, which chooses the noise.
      step: Chooses the noise within a purpose.
    """
    seed = stateless_seed(self._config.seed, purpose, step)
    noise = self._generator.distribution.sample(-(-n // _SAMPLES_PER_CALL) * _SAMPLES_PER_CALL, seed=seed)
    return np.concatenate([self._decode(part) for part in tf.split(noise, len(noise) // _SAMPLES_PER_CALL)])[:n]

  def scores(self, images: np.ndarray, splits: int = 1) -> dict[str, float | int | str]:
    """Health of samples and, if there is a scorer and all pixels are finite, their scores.

    Args:
      images: Samples, float `[n, height, width, channels]`.
      splits: Parts of the samples that are scored apart; see `Scorer`.
    """
    health = sample_health(images)
    if self.scorer is None or health['non_finite']:
      return health
    return health | self.scorer(images, splits)


def evaluate_run(
  workdir: str | os.PathLike,
  checkpoints: Sequence[str],
  split: str,
  samples: int | None = None,
  float64: bool = False,
  **scoring: str,
) -> list[dict]:
  """Evaluates checkpoints of a run and keeps the numbers in its `evaluation.json`.

  Args:
    workdir: Folder of the run.
    checkpoints: Names of the checkpoints, at least one.
    split: 'train', 'validation' or 'test', for the likelihood.
    samples: Samples behind the scores, scored in 10 splits; by default 50,000 with Inception-v3 and else 5,000.
    float64: Whether the likelihood is measured in double precision, too.
    **scoring: `scorer` and `inception_weights`, where other than in the run's configuration.

  Returns:
    One record for each checkpoint: step, likelihood and scores with what they rest on. `nll_float64` and the like are
    there if asked for. A generator without a likelihood has scores alone.

  Raises:
    UsageError: If the run or its data cannot be read, or double precision is asked of a generator without a likelihood.
  """
  run = load_run(workdir, checkpoints[0])
  dataset = data.load(run.config.dataset, run.config.data_dir or None)
  if dataset.fingerprint != run.fingerprint:
    raise UsageError(f'{workdir}: was trained on other data than --dataset={run.config.dataset} is now')
  if float64 and not isinstance(run.generator, Flow):
    raise UsageError(f'--float64: {workdir} has generator {run.config.generator.name}, which has no likelihood')
  run.config.update(scoring)
  evaluator = Evaluator(run.generator, dataset, run.config, make_scorer(run.config, dataset))
  if float64:
    wide = make_generator(run.config, run.image_shape, 'float64')
    wide_evaluator = Evaluator(wide, dataset, run.config, None)
  records = []
  for checkpoint in checkpoints:
    step = restore_generator(run.workdir, checkpoint, run.generator)
    # Checkpoints of one step hold one generator.
    measured = next((record for record in records if record['step'] == step), None)
    if measured is None:
      measured = {'step': step, 'split': split}
      if likelihood := evaluator.likelihood(split):
        measured |= likelihood._asdict()
      if float64:
        for variable, narrow in zip(wide.variables, run.generator.variables, strict=True):
          variable.assign(tf.cast(narrow, variable.dtype))
        likelihood = wide_evaluator.likelihood(split)._asdict()
        measured |= {f'{name}_float64': value for name, value in likelihood.items() if name != 'n'}
      images = evaluator.sample(samples or _SAMPLES[run.config.scorer], Purpose.SCORE)
      measured |= evaluator.scores(images, _SPLITS)
    records.append(measured | {'checkpoint': checkpoint})
  try:
    write_atomically(run.workdir / 'evaluation.json', json.dumps(records, indent=2) + '\n')
  except OSError as error:
    raise UsageError(f'{workdir}: evaluation.json cannot be written ({error.strerror})') from error
  return records
