"""Evaluation of a generator: likelihood on a split, scores and health of its samples, a grid of fixed noise."""

from __future__ import annotations

import json
import logging
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.files import make_writable, write_atomically
from flowgan_tf.flows import Flow
from flowgan_tf.generators import Generator
from flowgan_tf.metrics import classifier as classifiers
from flowgan_tf.metrics.inception import load_inception
from flowgan_tf.metrics.likelihood import Likelihood, make_likelihood_fn
from flowgan_tf.metrics.reference import load_or_compute
from flowgan_tf.metrics.samples import sample_health
from flowgan_tf.metrics.scorers import Scorer
from flowgan_tf.training.checkpoints import restore_generator
from flowgan_tf.training.config import SCORERS
from flowgan_tf.training.runs import load_data, load_run
from flowgan_tf.training.seeds import Purpose, stateless_seed
from flowgan_tf.training.state import make_generator

__all__ = ['Evaluator', 'cache_dir', 'evaluate_run', 'make_scorer', 'read_evaluation']

_LOG = logging.getLogger(__name__)

_SAMPLES_PER_CALL = 500
_SAMPLES = {'classifier': 5000, 'inception': 50_000}  # where the user names no number
_SPLITS = 10


def cache_dir(config: config_dict.ConfigDict) -> pathlib.Path:
  """Folder in which trained classifiers and reference features are kept."""
  return pathlib.Path(config.cache_dir or '~/.cache/flowgan_tf').expanduser()


def make_scorer(config: config_dict.ConfigDict, dataset: data.Dataset, required: bool = False) -> Scorer | None:
  """What scores the samples of a run: FID and KID are against the training images, as is the custom.

  A classifier that the cache does not hold is trained now; reference features that it does not hold are computed. Where
  the cache cannot be written, a warning says so before that work.

  Args:
    config: A training configuration; `scorer`, `inception_weights` and `cache_dir` count.
    dataset: The data.
    required: Whether the user has asked for the scorer by name, so that there is an error in place of None.

  Returns:
    None if the scorer is a classifier and the data have no labels.

  Raises:
    UsageError: If `required` and the data have no labels, no training image has one of the labels, there are fewer than
      2 training images, or there are no weights of Inception-v3.
  """
  by_classifier = config.scorer == 'classifier'
  if by_classifier and dataset.num_classes is None:
    if required:
      raise UsageError(
        f'--scorer=classifier: --dataset={config.dataset} has no labels to train one on; expected --scorer=inception, '
        'or no --scorer for no scores'
      )
    return None
  if len(dataset.train) < 2:  # What a covariance takes.
    raise UsageError(
      f'--dataset={config.dataset}: got {len(dataset.train)} training image, expected at least 2 for FID and KID; '
      'without scores go --config.score_samples=0 in training, --samples=0 in evaluation'
    )
  if by_classifier:
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    if not counts.all():
      raise UsageError(
        f'--dataset={config.dataset}: no training image has label {counts.argmin()}; expected each of '
        f'0 to {dataset.num_classes - 1}, or no labels'
      )
  folder = cache_dir(config)
  try:
    make_writable(folder)
  except OSError as error:
    _LOG.warning(
      '--config.cache_dir=%s: cannot be written (%s); what it does not hold is made anew each time.',
      folder,
      error.strerror,
    )
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
  scorer: str | None = None,
  inception_weights: str | None = None,
) -> list[dict]:
  """Evaluates checkpoints of a run and keeps the numbers in its `evaluation.json`.

  What the file holds of other checkpoints and splits stays, and so do the scores of a checkpoint whose likelihood alone
  is measured again.

  Args:
    workdir: Folder of the run.
    checkpoints: Names of the checkpoints, at least one.
    split: 'train', 'validation' or 'test', for the likelihood.
    samples: Samples behind the scores, scored in 10 splits; by default 50,000 with Inception-v3 and else 5,000. 0 for
      the likelihood alone.
    float64: Whether the likelihood is measured in double precision, too.
    scorer: 'classifier' or 'inception'; by default that of the run's configuration, for which unlabelled data go
      without scores rather than that there is an error.
    inception_weights: File with the weights of Inception-v3, where another than in the run's configuration.

  Returns:
    One record for each checkpoint: step, likelihood and scores with what they rest on. `nll_float64` and the like are
    there if asked for. A generator without a likelihood has scores alone.

  Raises:
    UsageError: If the run or its data cannot be read, double precision is asked of a generator without a likelihood,
      `samples` are too few for 10 splits, `scorer` is neither of the two, `inception_weights` are given for another
      scorer, or `make_scorer` finds no scorer.
  """
  if samples and samples < _SPLITS:
    raise UsageError(f'--samples={samples}: expected 0 or at least {_SPLITS}')
  if scorer not in (None, *SCORERS):
    raise UsageError(f'--scorer={scorer}: expected one of {", ".join(SCORERS)}')
  run = load_run(workdir, checkpoints[0])
  run.config.scorer = scorer or run.config.scorer
  if inception_weights:
    if run.config.scorer != 'inception':
      raise UsageError(f'--inception_weights={inception_weights}: are those of another scorer; add --scorer=inception')
    run.config.inception_weights = inception_weights
  dataset = load_data(run)
  if float64 and not isinstance(run.generator, Flow):
    raise UsageError(f'--float64: {workdir} has generator {run.config.generator.name}, which has no likelihood')
  judge = None if samples == 0 else make_scorer(run.config, dataset, required=scorer is not None)
  evaluator = Evaluator(run.generator, dataset, run.config, judge)
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
      if samples != 0:
        images = evaluator.sample(samples or _SAMPLES[run.config.scorer], Purpose.SCORE)
        measured |= evaluator.scores(images, _SPLITS)
    records.append(measured | {'checkpoint': checkpoint})
  try:
    kept = _merged(read_evaluation(run.workdir), records)
    write_atomically(run.workdir / 'evaluation.json', json.dumps(kept, indent=2) + '\n')
  except OSError as error:
    raise UsageError(f'{workdir}: evaluation.json cannot be written ({error.strerror})') from error
  return records


def read_evaluation(workdir: pathlib.Path) -> list[dict]:
  """The records that `evaluate_run` keeps in a run; none if there is no file.

  Raises:
    UsageError: If the file is damaged.
  """
  path = workdir / 'evaluation.json'
  if not path.exists():
    return []
  try:
    records = json.loads(path.read_text(encoding='utf-8'))
    for record in records:
      texts = {'checkpoint', 'split', *({'scorer', 'scorer_hash'} if 'scorer' in record else ())}
      if not all(isinstance(record[name], str) for name in texts) or not isinstance(record['step'], int):
        raise ValueError('not an evaluation')
      if not all(v is None or isinstance(v, (int, float)) for name, v in record.items() if name not in texts):
        raise ValueError('not numbers')
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UsageError(
      f'{path}: damaged ({type(error).__name__}); remove it, and run bin/evaluate {workdir} again'
    ) from error
  return records


def _merged(old, new):
  """Old records that the new ones neither replace nor contradict, behind the new ones."""
  steps = {record['checkpoint']: record['step'] for record in new}
  old = {
    (record['checkpoint'], record['split']): record
    for record in old
    if steps.get(record['checkpoint'], record['step']) == record['step']
  }
  merged = []
  for record in new:
    before = old.pop((record['checkpoint'], record['split']), {})
    if 'scorer' in record:  # Nothing of another network's scores remains.
      before = {name: value for name, value in before.items() if name.endswith('_float64')}
    merged.append(before | record)
  return merged + list(old.values())
