"""The training loop, from a configuration to a trained run."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import time

import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.evaluation.evaluator import Evaluator
from flowgan_tf.evaluation.grids import image_grid, save_png
from flowgan_tf.evaluation.scoring import make_scorer, score_samples
from flowgan_tf.runs.checkpoints import Checkpoints, available
from flowgan_tf.runs.config import make_objective, validate
from flowgan_tf.runs.seeds import Purpose
from flowgan_tf.runs.workdir import exclusive, open_workdir
from flowgan_tf.training.logs import RunLog
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import batches_per_step, make_train_step

__all__ = ['TrainingDiverged', 'train']

_GRID_IMAGES = 64
_LOG = logging.getLogger(__name__)


class TrainingDiverged(Exception):
  """A metric or a weight is no longer finite."""


def train(config: config_dict.ConfigDict, workdir: str | os.PathLike, *, scorer_required: bool = False) -> bool:
  """Trains a Flow-GAN in a run folder, or resumes the training that the folder holds.

  Args:
    config: A configuration; see `default_config`.
    workdir: Folder of the run.
    scorer_required: Whether data without labels are an error if the scorer is a classifier. Otherwise they go without
      scores.

  Returns:
    True if the last step was reached; False if SIGINT or SIGTERM ended the training earlier, with everything saved.

  Raises:
    UsageError: If configuration, data or folder cannot be used. It is raised before any training.
    TrainingDiverged: If a metric or a weight is NaN or infinite.
  """
  validate(config)
  objective = make_objective(config)
  dataset = data.load(config.dataset, config.data_dir)
  state = TrainState(config, dataset.image_shape, objective)
  if objective.uses_likelihood and not state.generator.has_density:
    raise UsageError(
      f"`objective` must be 'adversarial' with generator {config.generator}, which is not invertible and has no "
      f'likelihood. Got: {config.objective!r}.'
    )
  with exclusive(workdir):
    return _train(config, objective, dataset, open_workdir(workdir, config, dataset), state, scorer_required)


def _train(config, objective, dataset, workdir, state, scorer_required):
  checkpoints = Checkpoints(workdir, state.checkpoint())
  if checkpoints.restore():
    going_on = int(state.step) < config.steps
    _LOG.info('%s step %d of %d in %s.', 'Resuming at' if going_on else 'Already at', state.step, config.steps, workdir)
  elif rest := available(workdir):
    raise UsageError(f'{workdir}: has checkpoint {" and ".join(rest)} but none to resume from; use another `workdir`')
  scorer = make_scorer(config, dataset, required=scorer_required) if config.score_samples else None
  for name, part in ((config.generator, state.generator), ('critic', state.critic)):
    if part is not None and int(state.step) < config.steps:
      _LOG.info('%s: %s parameters.', name, f'{sum(v.shape.num_elements() for v in part.trainable_variables):,}')
  return _Loop(config, objective, dataset, workdir, state, checkpoints, scorer).run()


class _Loop:
  def __init__(self, config, objective, dataset, workdir, state, checkpoints, scorer):
    self._config, self._workdir, self._state = config, workdir, state
    self._checkpoints, self._scorer = checkpoints, scorer
    self._evaluator = Evaluator(state.ema, dataset, config)
    self._start = int(state.step)
    self._train_step = make_train_step(state, objective, config)
    per_step = batches_per_step(objective, config.critic_steps, config.reuse_batch)
    self._batches = data.training_batches(
      dataset.train, dataset.levels, per_step * config.batch_size, config.seed, start=self._start, flip=config.flip
    )
    self._began = time.monotonic()

  def run(self):
    config, log = self._config, RunLog(self._workdir, self._start, self._config.steps)
    batches = iter(self._batches)
    with _deferred_signals() as stop, contextlib.closing(log):
      if self._start == 0:
        self._evaluate(log, 0)
        # Saved before any best checkpoint: a best one without a latest one means that something was lost.
        self._checkpoints.save('latest')
      for step in range(self._start + 1, config.steps + 1):
        metrics = self._train_step(next(batches))
        log.advance()
        if step % config.log_every == 0:
          self._record(log, step, metrics)
        if step % config.eval_every == 0 or step == config.steps:
          self._check_finite(step, metrics)
          self._evaluate(log, step)
          self._checkpoints.save('latest')
        if stop:
          self._check_finite(step, metrics)
          self._checkpoints.save('latest')
          return step == config.steps
    return True

  def _seconds(self):
    return time.monotonic() - self._began

  def _record(self, log, step, metrics):
    metrics = {name: float(value) for name, value in metrics.items()}
    log.record('train', step, metrics, self._seconds())
    self._check_finite(step, metrics)

  def _check_finite(self, step, metrics):
    # The metrics belong to the weights before the step; the weights after it are what would be saved.
    state = self._state
    trained = [*state.generator.trainable_variables, *(state.critic.trainable_variables if state.critic else ())]
    metrics = metrics | {'weights': tf.linalg.global_norm(trained)}
    # With float16 a gradient that overflows is no failure: the optimizer skips that step and lowers its loss scale.
    excused = {'gradient_norm'} if self._config.precision == 'mixed_float16' else set()
    bad = [name for name, value in metrics.items() if name not in excused and not math.isfinite(float(value))]
    if bad:
      raise TrainingDiverged(
        f'{", ".join(bad)} not finite at step {step}; the last good checkpoint in {self._workdir} is kept'
      )

  def _evaluate(self, log, step):
    metrics = {}
    if likelihood := self._evaluator.likelihood('validation'):
      metrics = {name: getattr(likelihood, name) for name in ('nll', 'bits_per_dim', 'round_trip_error')}
    samples = self._evaluator.sample(max(self._config.score_samples, _GRID_IMAGES), Purpose.SCORE, step)
    metrics |= score_samples(samples, self._scorer)
    log.record('validation', step, metrics, self._seconds())
    self._save_grid(log, step)
    if not step:
      return
    state = self._state
    if metrics.get('nll', math.inf) < float(state.best_nll):
      state.best_nll.assign(metrics['nll'])
      self._checkpoints.save('best_nll')
    scorer = self._scorer
    if scorer and metrics.get(scorer.selection, -math.inf) > float(state.best_score):
      state.best_score.assign(metrics[scorer.selection])
      self._checkpoints.save('best_score')

  def _save_grid(self, log, step):
    grid = image_grid(self._evaluator.sample(_GRID_IMAGES, Purpose.GRID))
    folder = self._workdir / 'samples'
    folder.mkdir(exist_ok=True)
    save_png(grid, folder / f'step_{step:07d}.png')
    log.image('samples', step, grid)


@contextlib.contextmanager
def _deferred_signals():
  """Collects SIGINT and SIGTERM, so that the step can be finished and saved before the program ends."""
  received: list[int] = []
  handlers = {s: signal.signal(s, lambda number, _: received.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield received
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)
