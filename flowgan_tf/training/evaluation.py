"""Evaluation of a flow: likelihood on a split, scores and health of its samples, a grid of fixed noise."""

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
from flowgan_tf.metrics import classifier as classifiers
from flowgan_tf.metrics.likelihood import Likelihood, make_likelihood_fn
from flowgan_tf.metrics.samples import sample_health
from flowgan_tf.metrics.scores import Score, inception_score, mode_score
from flowgan_tf.training.checkpoints import restore_generator
from flowgan_tf.training.runs import load_run
from flowgan_tf.training.seeds import Purpose, stateless_seed

__all__ = ['Evaluator', 'cache_dir', 'evaluate_run', 'make_classifier']

_SAMPLES_PER_CALL = 500
_SPLITS = 10


def cache_dir(config: config_dict.ConfigDict) -> pathlib.Path:
  """Folder in which trained classifiers are kept."""
  return pathlib.Path(config.cache_dir or '~/.cache/flowgan_tf').expanduser()


def make_classifier(config: config_dict.ConfigDict, dataset: data.Dataset) -> classifiers.Classifier | None:
  """The classifier behind the scores, trained now if the cache does not hold it; None for data without labels or a run
  without scores.

  Raises:
    UsageError: If the cache folder cannot be made, or no training image has one of the labels.
  """
  if dataset.num_classes is None or not config.score_samples:
    return None
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
  return classifiers.load_or_train(dataset, folder)


class Evaluator:
  """Measures one flow, again and again, with programs that are traced once."""

  def __init__(
    self,
    flow: Flow,
    dataset: data.Dataset,
    config: config_dict.ConfigDict,
    classifier: classifiers.Classifier | None,
  ):
    """Prepares the measurements.

    Args:
      flow: The flow; its variables may change between calls.
      dataset: Data with the splits.
      config: A training configuration; seed, batch size and `jit` count.
      classifier: Behind the scores; None for no scores.
    """
    self._flow, self._dataset, self._config, self._classifier = flow, dataset, config, classifier
    self._likelihood = make_likelihood_fn(flow, dataset.levels, max(config.batch_size, 100), config.jit)
    self._decode = tf.function(flow.decode, jit_compile=config.jit)

  def likelihood(self, split: str) -> Likelihood:
    """Likelihood of all images of 'train', 'validation' or 'test', with a dequantisation that is fixed by the seed."""
    images = getattr(self._dataset, split).images
    return self._likelihood(data.dequantize(images, self._dataset.levels, self._config.seed + Purpose.EVALUATION))

  def sample(self, n: int, purpose: Purpose, step: int = 0, temperature: float = 1.0) -> np.ndarray:
    """Samples of the flow, float32 `[n, height, width, channels]`.

    Args:
      n: Number of samples.
      purpose: What they are for, which chooses the noise.
      step: Chooses the noise within a purpose.
      temperature: Factor of the noise.
    """
    seed = stateless_seed(self._config.seed, purpose, step)
    noise = temperature * self._flow.distribution.sample(-(-n // _SAMPLES_PER_CALL) * _SAMPLES_PER_CALL, seed=seed)
    return np.concatenate([self._decode(part) for part in tf.split(noise, len(noise) // _SAMPLES_PER_CALL)])[:n]

  def scores(self, images: np.ndarray, splits: int = 1) -> dict[str, float | int | str]:
    """Health and, if there is a classifier, MODE and Inception-style score of samples, with what they rest on.

    Args:
      images: Samples, float `[n, height, width, channels]`.
      splits: Parts of the samples that are scored apart; the scores are mean and standard deviation over them.
    """
    health = sample_health(images)
    if self._classifier is None:
      return health
    mode = inception = Score(float('nan'), float('nan'))
    if not health['non_finite']:
      probabilities = self._classifier.probabilities(images)
      mode = mode_score(probabilities, self._classifier.label_distribution, splits)
      inception = inception_score(probabilities, splits)
    return health | {
      'mode_score': mode.mean,
      'mode_score_std': mode.std,
      'inception_score': inception.mean,
      'inception_score_std': inception.std,
      'score_samples': len(images),
      'score_splits': splits,
      'classifier': self._classifier.hash,
      'classifier_accuracy': self._classifier.test_accuracy,
    }


def evaluate_run(workdir: str | os.PathLike, checkpoints: Sequence[str], split: str, samples: int) -> list[dict]:
  """Evaluates checkpoints of a run and keeps the numbers in its `evaluation.json`.

  Args:
    workdir: Folder of the run.
    checkpoints: Names of the checkpoints, at least one.
    split: 'train', 'validation' or 'test', for the likelihood.
    samples: Samples behind the scores; scored in 10 splits.

  Returns:
    One record for each checkpoint: step, likelihood and scores with n, splits and the classifier's hash.

  Raises:
    UsageError: If the run or its data cannot be read.
  """
  run = load_run(workdir, checkpoints[0])
  dataset = data.load(run.config.dataset, run.config.data_dir or None)
  if dataset.fingerprint != run.fingerprint:
    raise UsageError(f'{workdir}: was trained on other data than --dataset={run.config.dataset} is now')
  evaluator = Evaluator(run.generator, dataset, run.config, make_classifier(run.config, dataset))
  records = []
  for checkpoint in checkpoints:
    step = restore_generator(run.workdir, checkpoint, run.generator)
    # Checkpoints of one step hold one flow.
    measured = next((record for record in records if record['step'] == step), None)
    if measured is None:
      images = evaluator.sample(samples, Purpose.SCORE)
      measured = (
        {'step': step, 'split': split} | evaluator.likelihood(split)._asdict() | evaluator.scores(images, _SPLITS)
      )
    records.append(measured | {'checkpoint': checkpoint})
  try:
    write_atomically(run.workdir / 'evaluation.json', json.dumps(records, indent=2) + '\n')
  except OSError as error:
    raise UsageError(f'{workdir}: evaluation.json cannot be written ({error.strerror})') from error
  return records
