"""Evaluates the checkpoints of a run: likelihood of a split, and scores of samples."""

from __future__ import annotations

import os
from collections.abc import Sequence

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.evaluation.evaluator import Evaluator
from flowgan_tf.evaluation.records import merge_records, read_evaluation, write_evaluation
from flowgan_tf.evaluation.scoring import make_scorer, score_samples
from flowgan_tf.metrics.scorers import Scorer
from flowgan_tf.replicas import Replicas, make_replicas
from flowgan_tf.runs.checkpoints import CHECKPOINTS, restore_generator
from flowgan_tf.runs.config import check_strategy, shared_settings, validate
from flowgan_tf.runs.run import load_data, load_run
from flowgan_tf.runs.seeds import Purpose

__all__ = ['evaluate_run']

_SAMPLES = {'classifier': 5000, 'inception': 50_000}  # by default
_SPLITS = 10
_REAL_SEED = 1  # Another than that of the reference.
# Of real images; what else a scorer returns is the same for samples.
_REAL = (
  *('mode_score', 'mode_score_std', 'inception_score', 'inception_score_std'),
  *('fid', 'kid', 'kid_std', 'score_samples'),
)


def evaluate_run(
  workdir: str | os.PathLike,
  checkpoints: Sequence[str],
  split: str,
  samples: int | None = None,
  *,
  float64: bool = False,
  scorer: str | None = None,
  inception_weights: str | None = None,
  strategy: str = '',
) -> list[dict]:
  """Evaluates checkpoints of a run and saves the results in its `evaluation.json`.

  The file keeps the results of other checkpoints and splits. It also keeps the scores of a checkpoint if only its
  likelihood is measured again.

  Args:
    workdir: Folder of the run.
    checkpoints: Names of the checkpoints, at least one.
    split: 'train', 'validation' or 'test', for the likelihood.
    samples: Number of samples, scored in 10 splits. The default is 50,000 with Inception-v3 and otherwise 5,000; 0
      measures only the likelihood.
    float64: Whether to measure the likelihood in double precision, too.
    scorer: 'classifier' or 'inception'. The default is that of the run's configuration; then data without labels go
      without scores instead of raising an error.
    inception_weights: File with the weights of Inception-v3, instead of the one in the run's configuration.
    strategy: Devices that share the work, as in `make_replicas`; whatever those of the training were. Every worker of
      'multi_worker' reads the folder, and takes checkpoints and weights that the chief found there; the chief alone
      scores samples and saves.

  Returns:
    One record for each checkpoint: step, likelihood, scores, and the network and numbers of images behind the scores.
    Beside them are the scores of as many real test images, if there are so many, as `real_mode_score` and the like:
    what a perfect sampler would have.
    With `float64` there are `nll_float64` and the like. A generator without a likelihood has only scores.

  Raises:
    UsageError: If the run or its data cannot be read, double precision is requested for a generator without a
      likelihood, `samples` are too few for 10 splits, `scorer` is unknown, `inception_weights` are given for another
      scorer, the run, its data or an argument are others than the chief's, or `make_scorer` or `make_replicas` fails.
  """
  if samples and samples < _SPLITS:
    raise UsageError(f'`samples` must be 0 or at least {_SPLITS}. Got: {samples}.')
  check_strategy(strategy)
  replicas = make_replicas(strategy)
  with replicas.reporting_lost_workers():
    checkpoints = _found_by_chief(checkpoints, replicas)
    with replicas.scope():  # On several workers all take part in making a variable, so that nothing else is made here.
      run = load_run(workdir, checkpoints[0])
    return _evaluate(run, checkpoints, split, samples, float64, scorer, inception_weights, replicas)


def _evaluate(run, checkpoints, split, samples, float64, scorer, inception_weights, replicas):
  run.config.scorer = scorer or run.config.scorer
  validate(run.config)
  if inception_weights:
    if run.config.scorer != 'inception':
      raise UsageError(f"`inception_weights` must go with `scorer` 'inception'. Got: {inception_weights}.")
    run.config.inception_weights = inception_weights
  read_evaluation(run.workdir)  # Before the work, as it may be damaged.
  dataset = load_data(run)
  arguments = {'split': split, 'samples': samples, 'float64': float64}
  replicas.check_same(arguments | shared_settings(run.config, dataset))
  if float64 and not run.generator.has_density:
    raise UsageError(
      f'`float64` must be False, as {run.config.generator} of {run.workdir} has no likelihood. Got: True.'
    )
  made = (
    None if samples == 0 or not replicas.is_chief else make_scorer(run.config, dataset, required=scorer is not None)
  )
  n = _SAMPLES[run.config.scorer] if samples is None else samples
  real = _real_scores(dataset, n, made)
  evaluator = Evaluator(run.generator, dataset, run.config, replicas)
  records = []
  for checkpoint in checkpoints:
    step = replicas.from_chief(restore_generator(run.workdir, checkpoint, run.generator))
    replicas.broadcast(run.generator.variables)  # A training may have replaced the checkpoint meanwhile.
    # Checkpoints of the same step hold the same generator.
    measured = next((record for record in records if record['step'] == step), None)
    if measured is None:
      measured = {'step': step, 'split': split}
      if likelihood := evaluator.likelihood(split):
        measured |= likelihood._asdict()
      if float64:
        with replicas.scope():
          generator = run.generator.with_dtype('float64')
        wide = Evaluator(generator, dataset, run.config, replicas)
        found = wide.likelihood(split)._asdict()
        measured |= {f'{name}_float64': value for name, value in found.items() if name != 'n'}
      if samples != 0:
        drawn = evaluator.sample(n, Purpose.SCORE)
        if replicas.is_chief:
          measured |= score_samples(drawn, made, _SPLITS) | real
    records.append(measured | {'checkpoint': checkpoint})
  if replicas.is_chief:
    # Read again, as another process may have evaluated the run meanwhile.
    write_evaluation(run.workdir, merge_records(read_evaluation(run.workdir), records))
  replicas.any(False)  # No worker ends before the others have what they need of it.
  return records


def _found_by_chief(checkpoints: Sequence[str], replicas: Replicas) -> Sequence[str]:
  if replicas.workers == 1:
    return checkpoints
  found = replicas.from_chief(sum(2**i for i, name in enumerate(CHECKPOINTS) if name in checkpoints))
  return [name for i, name in enumerate(CHECKPOINTS) if found & 2**i] or checkpoints


def _real_scores(dataset: data.Dataset, n: int, scorer: Scorer | None) -> dict[str, float | int]:
  images = dataset.test.images[:n]
  if scorer is None or len(images) < n:  # Scores of fewer images are lower, and no bound.
    return {}
  scores = scorer(data.dequantize(images, dataset.levels, _REAL_SEED), _SPLITS)
  return {f'real_{name}': value for name, value in scores.items() if name in _REAL}
