"""The training loop, from a configuration to a trained run."""

import collections
import contextlib
import dataclasses
import logging
import math
import os
import pathlib
import shutil
import time
from collections.abc import Sequence

from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.base.errors import UsageError, check, check_memory
from flowgan_tf.base.plugins import short_name
from flowgan_tf.base.progress import Task
from flowgan_tf.base.signals import deferred_signals
from flowgan_tf.bijectors import clearing_caches
from flowgan_tf.devices.replicas import make_replicas
from flowgan_tf.evaluation.evaluate import Evaluator, warn_of_wrong_inverse
from flowgan_tf.evaluation.grids import SampleGrids
from flowgan_tf.evaluation.scorer import make_scorer
from flowgan_tf.flows.registry import traits_of
from flowgan_tf.objectives.objective import make_objective
from flowgan_tf.runs.checkpoints import Checkpoints
from flowgan_tf.runs.config import run_identity, shared_settings, validate
from flowgan_tf.runs.folder import available, count_rollback, exclusive, latest_step, open_workdir, read_description
from flowgan_tf.runs.log import NoLog, RunLog
from flowgan_tf.runs.run import data_of
from flowgan_tf.runs.seeds import Purpose
from flowgan_tf.training.best import update_best
from flowgan_tf.training.diagnosis import explain, not_finite
from flowgan_tf.training.initialization import TrainingImages, initialize_from_data, initialize_from_run
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep, batches_per_step

_FEWEST_SAMPLES = 64  # whose health is measured
_MAX_ROLLBACKS = 3
_ROUND_TRIPS = 1000  # validation images; each takes as long as a likelihood
_LOG = logging.getLogger(__name__)


class TrainingDiverged(Exception):
  """A metric or a weight is no longer finite."""

  argument = 'on_nan'  # The message names this setting, as a `UsageError` does.


@clearing_caches()
def train(
  config: config_dict.ConfigDict,
  workdir: str | os.PathLike,
  *,
  scorer_required: bool = False,
  command: Sequence[str] = (),
) -> bool:
  """Trains a Flow-GAN in a run folder, or resumes the training that the folder holds.

  SIGINT, SIGTERM and SIGHUP are held back until the current step is finished and saved; then they have their usual
  effect, which in Python is `KeyboardInterrupt` for SIGINT and the end of the process for the others. They take effect
  at once while there is nothing to save: before the first step is finished, and during an evaluation, which a resumed
  training makes again. A second signal, more than a second later, is not held back. So a signal waits for one step and
  one checkpoint. In a thread other than the main one, which receives no signals, the training continues.

  With the strategy 'multi_worker' every worker calls this, and the chief alone reads and writes the folder. A signal to
  some of the workers ends all of them after the same step; workers that received none raise `ConnectionError`.

  Args:
    config: A configuration; see `default_config`.
    workdir: Folder of the run.
    scorer_required: Whether data without labels are an error if the scorer is a classifier. Otherwise they go without
      scores.
    command: Arguments of `bin/train` that describe this training. The record of the run keeps them for its page.

  Returns:
    True if the last step was reached; False if a signal ended the training earlier and its handler returned.

  Raises:
    UsageError: If configuration, data or folder cannot be used, or a worker's settings or data differ from the chief's,
      before any training; or if a picture of samples cannot be written. The last checkpoint is kept.
    TrainingDiverged: If a metric or a weight is NaN or infinite, unless `config.on_nan` is 'rollback' and there have
      been fewer than 3 rollbacks.
    OSError: If another file cannot be written; the last checkpoint is kept. A `ConnectionError` if another worker has
      ended.
  """
  validate(config)
  replicas = make_replicas(config.strategy)
  expected = f'a multiple of {replicas.count}, the number of replicas of {config.strategy}'
  check('batch_size', config.batch_size, expected, config.batch_size % replicas.count == 0)
  with replicas.reporting_lost_workers(), Task(''), contextlib.ExitStack() as open_folder:
    objective = make_objective(config)
    dataset = data_of(config)
    suits = dataset.is_table == traits_of(config).draws_rows
    expected = "one of rows for a table, such as 'vectors' in configs/table.py, and one of images for images"
    check('generator', config.generator, expected, suits)
    images = config.batch_size * batches_per_step(objective, config.critic_steps, config.reuse_batch)
    check_memory('`batch_size` times `critic_steps` images', 4 * images * math.prod(dataset.image_shape))
    replicas.check_same(shared_settings(config, dataset))
    with Task('building the model'):
      state = TrainState(config, dataset.image_shape, objective, replicas.scope(), dataset.condition)
    needy = ', '.join(type(term).__name__ for term in objective.terms if term.needs_density)
    expected = f"'adversarial' with generator {config.generator}, which is not invertible and has no likelihood"
    expected += f', and without the term {needy}'
    check('objective', config.objective, expected, state.generator.has_density or not needy)
    folder = None
    if replicas.is_chief:
      starts = config.init_from and not available(pathlib.Path(workdir))
      init = initialize_from_run(config, dataset, state) if starts else None
      open_folder.enter_context(exclusive(workdir))
      folder = open_workdir(workdir, config, dataset, init, command)
      open_folder.enter_context(_forgetting_start(folder, state))
    loop = _Loop(config, objective, dataset, state, replicas, folder, scorer_required)
    sizes = [f'{len(split):,}' for split in (dataset.train, dataset.validation, dataset.test)]
    shape, classes = ' x '.join(map(str, dataset.image_shape)), dataset.num_classes
    what = f'rows of {shape} numbers' if dataset.is_table else f'images of {shape}'
    text = '%s: %s training, %s validation and %s test %s, %s.'
    _LOG.info(text, dataset.name, *sizes, what, f'{classes} classes' if classes else 'without labels')
    while True:
      try:
        return loop.run()
      except _NotFiniteError as error:
        loop.roll_back(error.args)


@contextlib.contextmanager
def _forgetting_start(folder, state):
  """Removes what a training has saved if its first step fails, so that it may start again with another generator."""
  try:
    yield
  except (TrainingDiverged, OSError):  # The second is a full disk, or a worker that is lost.
    raise
  except Exception:  # A part from outside can raise anything. It is raised again below.
    if available(folder) == ['latest'] and not (latest_step(folder) or int(state.step)):
      shutil.rmtree(folder / 'checkpoints', ignore_errors=True)
      (folder / 'metrics.jsonl').unlink(missing_ok=True)
    raise


class _NotFiniteError(Exception):
  """Its arguments name what is not finite."""


class _Loop:
  """The steps and evaluations of a training.

  The chief alone has a folder, a log and checkpoints. The other workers take part in what all replicas compute.
  """

  def __init__(self, config, objective, dataset, state, replicas, folder, scorer_required):
    """Restores the latest checkpoint, or saves the start."""
    self._config, self._objective, self._dataset, self._folder = config, objective, dataset, folder
    self._state, self._replicas, self._log = state, replicas, NoLog()
    self._checkpoints = None
    if folder:
      self._checkpoints = Checkpoints(folder, state.checkpoint(), run_identity(config, dataset.fingerprint))
    resumes, goes_on = self._resume(), int(state.step) < config.steps
    self._train = dataset.train
    if config.labelled:
      self._train = data.hide_labels(dataset.train, config.labelled, dataset.num_classes)
    scores = folder and config.score_samples
    self._scorer = make_scorer(config, dataset, required=scorer_required) if scores else None
    if not resumes:
      self._begin()
    if goes_on:
      self._describe()
    self._evaluator = Evaluator(state.ema, dataset, config, round_trips=_ROUND_TRIPS, distribute=replicas.map)
    self._grids = SampleGrids(self._evaluator, dataset)
    self._train_step = TrainStep(state, objective, config, replicas)
    self._began = None
    self._rollbacks = 0
    self._opened, self._spent = time.perf_counter(), collections.Counter()  # In seconds, of this process alone.

  def _resume(self):
    """Restores the latest checkpoint; returns whether there is one, and rejects a run that has only others."""
    folder, steps, restored = self._folder, self._config.steps, self._restore()
    if restored:
      step = int(self._state.step)
      _LOG.info('%s step %d of %d in %s.', 'Resuming at' if step < steps else 'Already at', step, steps, folder)
    elif folder and (rest := available(folder)):
      said = f'{folder}: has checkpoint {" and ".join(rest)} but none to resume from; use another `workdir`'
      raise UsageError(said, 'workdir')
    return restored

  def _begin(self):
    """Gives all workers the first weights, and saves them: a log or a best checkpoint without these means a loss."""
    if self._folder:
      initialize_from_data(self._state, TrainingImages(self._config, self._dataset, self._train))
    self._replicas.broadcast(self._state.variables)
    self._save('latest')
    if self._folder:
      _LOG.info('A new run in %s.', self._folder)

  def _describe(self):
    """Logs what is trained on which images."""
    config, dataset, state = self._config, self._dataset, self._state
    for line in dataset.condition.describe(dataclasses.replace(dataset, train=self._train)):
      _LOG.info('%s', line)
    if not dataset.condition.has_marginal and (components := traits_of(config).components) > 1:
      setting = f'--config.{short_name(config.generator)}.components'
      _LOG.warning('Samples draw one of %d components independently of the condition; try %s=1.', components, setting)
    for name, part in ((config.generator, state.generator), ('critic', state.critic)):
      if part is not None:
        _LOG.info('%s: %s parameters.', name, f'{sum(v.shape.num_elements() for v in part.trainable_variables):,}')

  def run(self):
    """Trains from the state's step to the last one; returns whether that was reached."""
    config, replicas, start = self._config, self._replicas, int(self._state.step)
    with self._logging():
      if self._began is None:  # A log that is opened again in this process knows some of its seconds.
        self._began = time.monotonic() - self._log.seconds
      self._rollbacks = replicas.from_chief(read_description(self._folder).rollbacks if self._folder else 0)
      self._state.rate_factor.assign(0.5**self._rollbacks)
      self._resume_evaluation(start)
      batches, step = self._batches(start), start
      while step < config.steps:
        step += 1
        # Tracing and compiling may take minutes. Nothing has been done since the last checkpoint.
        metrics = self._step(batches, step)
        with deferred_signals() as received:
          stopped = False
          while not (self._is_evaluated(step) or (stopped := replicas.any(bool(received)))):
            step += 1
            metrics = self._step(batches, step)
          self._check_finite(metrics)
          self._log.sync()  # If a power cut loses records, only those after the checkpoint are made again.
          # Save before the evaluation, so that nothing is lost if a signal or a kill cuts it off.
          self._save('latest')
          if stopped:
            _LOG.info('Stopped at step %d, which is saved; repeat the command to go on.', step)
            replicas.wait_for_all()  # No worker ends before the chief has saved.
        if received:
          return False
        if stopped:
          raise ConnectionError(
            f'another worker was stopped; repeat the command on all workers to go on at step {step}'
          )
        self._evaluate(step)
    replicas.wait_for_all()
    if start < config.steps:
      total = time.perf_counter() - self._opened
      shares = (100 * self._spent[work] / total for work in ('evaluation', 'input'))
      text = 'The training took %.0f seconds, of which evaluations took %.1f %% and waits for images %.1f %%.'
      _LOG.info(text, total, *shares)
    return True

  def _step(self, batches, step):
    metrics = self._advance(batches, step)
    self._log.advance(metrics)
    if self._is_logged(step):
      self._log.record('train', step, {name: float(value) for name, value in metrics.items()}, self._seconds())
      self._check_finite(metrics)
    return metrics

  def _advance(self, batches, step):
    # The gradient's norm is only for steps that are logged or evaluated; a repeated step must do as the first one did.
    looks = self._is_logged(step) or self._is_evaluated(step)
    with self._timed('input'):
      images = next(batches)
    return self._train_step(images, step=step - 1, gradient_norm=looks)

  def _check_finite(self, metrics):
    # The metrics belong to the weights before the step; the weights after it are what would be saved.
    if names := not_finite(metrics, self._state, self._config):
      raise _NotFiniteError(*names)

  def _is_logged(self, step):
    return step % self._config.log_every == 0 or step == self._config.steps

  def _is_evaluated(self, step):
    if step == self._config.steps:
      return True
    # Evaluating a new flow would tell nothing, and only delay the first step.
    return step % self._config.eval_every == 0 and bool(step or self._config.init_from)

  def _evaluate(self, step):
    with self._timed('evaluation'), Task(f'evaluating step {step}'):
      self._measure(step)

  def _measure(self, step):
    metrics = {}
    if likelihood := self._evaluator.likelihood('validation', quick=True):
      metrics = {name: value for name, value in likelihood.record().items() if name != 'n'}
    if has_pictures := not self._dataset.is_table:
      samples = self._evaluator.sample(max(self._config.score_samples, _FEWEST_SAMPLES), Purpose.SCORE, step)
      grid = self._grids.draw()
    if not self._folder:
      return
    if has_pictures:
      metrics |= self._evaluator.score(samples, self._scorer)
    warn_of_wrong_inverse(self._state.ema, metrics, step, self._config.precision)
    if has_pictures:
      self._grids.save(grid, self._folder, step)
      self._log.image('samples', step, grid)
    with deferred_signals():
      for name in self._improves({'step': step} | metrics):
        self._save(name)
      # This comes last: the record marks the evaluation as finished.
      self._log.record('validation', step, metrics, self._seconds())

  def _improves(self, record):
    """Returns the names of the checkpoints that are the best so far, and notes their values in the state."""
    # An untrained generator is not a candidate, and neither is another run's while the critic warms up.
    first = self._config.critic_warmup if self._objective.uses_critic else 0
    if record['step'] <= first:
      return []
    earlier = [r for r in self._log.records if r.get('kind') == 'validation' and first < r['step'] < record['step']]
    return update_best(self._state, record, earlier, self._scorer and self._scorer.selection)

  def _resume_evaluation(self, step):
    """Evaluates a step if its evaluation was cut off; otherwise takes the best values from its record.

    The checkpoint was saved before the evaluation, so that it does not hold them. Missing best checkpoints are saved
    again. A training that went on to more steps may have a record of a step that it would not evaluate now.
    """
    found = [record for record in self._log.records if (record.get('kind'), record['step']) == ('validation', step)]
    if self._replicas.from_chief(bool(found)):
      for name in self._improves(found[-1]) if found else []:
        if name not in available(self._folder):
          self._save(name)
    elif self._is_evaluated(step):
      self._evaluate(step)

  def roll_back(self, names):
    """Goes back to the last checkpoint, with half the learning rates, or raises `TrainingDiverged`.

    Before that it repeats the steps since then, to find the first that fails and what fails in it.
    """
    state, reached = self._state, int(self._state.step)
    _LOG.info('Not finite at step %d: %s. Looking for the cause.', reached, ', '.join(names))
    found, _ = self._repeat(reached)
    step, reason = int(state.step), ', '.join(found or names)
    if self._replicas.count == 1:  # With several replicas we do not look for the first operation that fails.
      _, batches = self._repeat(step - 1)
      reason = explain(state, self._objective, self._config, next(batches)) or reason
    self._restore()
    start = int(state.step)
    if self._config.on_nan == 'stop' or self._rollbacks == _MAX_ROLLBACKS:
      after = f' after {self._rollbacks} rollbacks' if self._rollbacks else ''
      rollback = ", or `on_nan` 'rollback'" if self._config.on_nan == 'stop' else ''
      kept = self._folder or "the chief's folder"
      raise TrainingDiverged(
        f'not finite at step {step}{after}: {reason}; the last good checkpoint, of step {start}, is kept in '
        f'{kept}; a lower `optimizer.learning_rate` may help' + rollback
      )
    if self._folder:  # Count it before the record, which is only for readers.
      count_rollback(self._folder)
    with self._logging():
      self._log.record('rollback', start, {'diverged_at': step, 'reason': reason}, self._seconds())
    _LOG.warning('Back to step %d with half the learning rate; not finite at step %d: %s.', start, step, reason)

  def _repeat(self, last):
    """Repeats the steps since the last checkpoint, up to one that fails; returns what fails, and the next batches."""
    self._restore()
    batches, found = self._batches(int(self._state.step)), []
    while not found and int(self._state.step) < last:
      found = not_finite(self._advance(batches, int(self._state.step) + 1), self._state, self._config)
    return found, batches

  def _restore(self):
    """Gives all workers the chief's latest state; returns whether there is one."""
    restored = bool(self._replicas.from_chief(self._checkpoints is not None and self._checkpoints.restore()))
    if restored:
      self._replicas.broadcast(self._state.variables)
    return restored

  def _save(self, name):
    if self._folder:
      self._checkpoints.save(name)

  @contextlib.contextmanager
  def _logging(self):
    if not self._folder:
      yield
      return
    config, step = self._config, int(self._state.step)
    with contextlib.closing(RunLog(self._folder, step, config.steps, config.batch_size)) as self._log:
      yield

  def _batches(self, start):
    config, dataset = self._config, self._dataset
    images = batches_per_step(self._objective, config.critic_steps, config.reuse_batch) * config.batch_size
    shard = {'shard': self._replicas.worker, 'num_shards': self._replicas.workers}
    order = {'seed': config.seed, 'start': start, 'condition': dataset.condition}
    moved = {'flip': config.flip, 'shift': config.shift}
    return iter(data.training_batches(self._train, dataset.levels, images, **order, **moved, **shard))

  def _seconds(self):
    """How long the run has been trained, including earlier processes."""
    return time.monotonic() - self._began

  @contextlib.contextmanager
  def _timed(self, work):
    began = time.perf_counter()
    yield
    self._spent[work] += time.perf_counter() - began
