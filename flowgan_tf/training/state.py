"""The state of a training: everything that a checkpoint must hold, in one object, and how it starts."""

import contextlib
import logging
import math
import os
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf.data import Condition, Dataset, Split, dequantize, training_batches
from flowgan_tf.errors import UsageError, check_memory
from flowgan_tf.flows import MixturePrior, fit_histograms, initialize_prior, standardize
from flowgan_tf.flows.histograms import histogram_logits
from flowgan_tf.networks import KerasModule
from flowgan_tf.objectives import Objective
from flowgan_tf.progress import Task
from flowgan_tf.runs.checkpoints import restore_critic
from flowgan_tf.runs.config import settings, used
from flowgan_tf.runs.run import load_run, make_critic, make_generator
from flowgan_tf.runs.seeds import Purpose
from flowgan_tf.training.optimizers import make_adam

_LOG = logging.getLogger(__name__)

_CLUSTERED = 10_000  # images, or all if there are fewer
_VALUES = 2**26  # of images in memory as floats, at most
_PER_BATCH = 1000  # images that are counted in histograms


class TrainState:
  """Generator, averaged generator, critic, optimizers, step and best values.

  `ema` is the generator with averaged weights, which is evaluated, sampled and exported; if weights are not averaged,
  it is `generator` itself. `critic` and `critic_optimizer` are None if the objective does not use them. `rate_factor`
  multiplies both learning rates; checkpoints do not hold it, because the run counts its rollbacks. `step` counts the
  finished steps, and with the seed it is also the position in the data. `best_nll` is in nats.
  """

  def __init__(
    self,
    config: config_dict.ConfigDict,
    image_shape: Sequence[int],
    objective: Objective,
    scope: contextlib.AbstractContextManager | None = None,
    condition: Condition | None = None,
  ):
    """Builds everything, with initial weights that `config.seed` determines.

    A step may change only variables that are made in `scope`, such as the scope of a strategy. With a `condition`,
    generator and critic are conditional.

    Raises:
      UsageError: If a setting of generator or critic is wrong or does not fit the shape of the images.
    """
    with scope or contextlib.nullcontext():
      self._build(config, image_shape, objective, condition)
    # These are outside, because they change between steps.
    self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name='step')
    self.best_nll = tf.Variable(float('inf'), trainable=False, name='best_nll')
    self.best_score = tf.Variable(float('-inf'), trainable=False, name='best_score')

  def _build(self, config, image_shape, objective, condition):
    # Keras' initializers draw from global generators. Training uses no global randomness after this.
    keras.utils.set_random_seed(config.seed)
    dtype = config.precision
    self.generator = make_generator(config, image_shape, dtype, condition.arguments if condition else {})
    count = sum(variable.shape.num_elements() for variable in self.generator.trainable_variables)
    check_memory('weights, their average and the moments of Adam', 4 * 4 * count)
    self.ema = self.generator.with_dtype(dtype) if config.ema_decay else self.generator
    if config.recompute:
      for part in self.generator.submodules:
        if isinstance(part, KerasModule):
          part.recompute = True
    self.rate_factor = tf.Variable(1.0, trainable=False, name='rate_factor')
    steps = config.steps - (config.critic_warmup if objective.uses_critic else 0)
    self.optimizer = make_adam(config.optimizer, steps, 1, self.rate_factor, dtype)
    self.optimizer.build(self.generator.trainable_variables)
    self.critic = self.critic_optimizer = None
    if objective.uses_critic:
      seen = condition and condition.network_shape
      critic = make_critic(config, image_shape, dtype, seen)
      self.critic = KerasModule(critic, image_shape, 'critic', condition_shape=seen)
      self.critic_optimizer = make_adam(
        config.critic_optimizer, config.steps, config.critic_steps, self.rate_factor, dtype
      )
      self.critic_optimizer.build(self.critic.trainable_variables)

  def _parts(self):
    # The variables of an optimizer are numbered, since their names depend on what the process has built before.
    parts = {
      'generator': self.generator,
      'ema': self.ema,
      'optimizer': [v.value for v in self.optimizer.variables],
      'step': self.step,
      'best_nll': self.best_nll,
      'best_score': self.best_score,
    }
    if self.critic is not None:
      parts |= {'critic': self.critic, 'critic_optimizer': [v.value for v in self.critic_optimizer.variables]}
    return parts

  @property
  def variables(self) -> list[tf.Variable]:
    """Everything that a checkpoint holds."""
    parts = [part.variables if isinstance(part, tf.Module) else part for part in self._parts().values()]
    return list({id(variable): variable for variable in tf.nest.flatten(parts)}.values())

  def checkpoint(self) -> tf.train.Checkpoint:
    """Returns a checkpoint of the whole state."""
    return tf.train.Checkpoint(**self._parts())


def start_from_data(
  config: config_dict.ConfigDict,
  train: Split,
  levels: int | None,
  state: TrainState,
  condition: Condition | None = None,
  given: np.ndarray | None = None,
) -> None:
  """Sets what a new generator takes from training images, in the averaged generator too.

  The probabilities of the classes become their shares of the labels that are `given`, by default all labels, and the
  means of a mixture prior become the centres of clusters. If the generator has classes, only images with labels count.
  A flow of vectors gets the mean and the standard deviation of each column of a table, and a flow with `histogram_bins`
  the histogram of each pixel. A generator from another run, `config.init_from`, keeps the means of its prior, and what
  it has for columns and pixels.

  Raises:
    UsageError: If there are fewer training images than components, the flow has batch norms between its couplings, or a
      column of a table is constant.
  """
  prior = state.generator.distribution
  if condition and condition.classes:
    labels = train.labels if given is None else given
    counts = np.bincount(labels[labels >= 0], minlength=condition.classes)
    for part in (state.generator, state.ema):
      part.class_probs.assign(counts / counts.sum())
  if levels is None and not config.init_from:
    for part in (state.generator, state.ema):
      try:
        standardize(part, train.images)
      except UsageError as error:
        raise UsageError(f'{config.dataset}: {error}') from error
  if config.init_from:
    return
  order = np.random.default_rng((config.seed, Purpose.PRIOR)).permutation(len(train))
  held = max(1, _VALUES // prior.event_shape.num_elements())
  if histograms := histogram_logits(state.generator):
    # As training sees them: some are mirrored or moved.
    moved, size = {'flip': config.flip, 'shift': config.shift}, min(len(train), _PER_BATCH, held)
    batches = training_batches(train, levels, size, config.seed, **moved)
    images = [batch.images.numpy() for batch in batches.take(math.ceil(min(held, len(train)) / size))]
    fit_histograms(state.generator, np.concatenate(images)[: len(train)])  # Each image counts at most once.
    for average, fitted in zip(histogram_logits(state.ema), histograms, strict=True):
      average.histograms.assign(fitted.histograms)
  if not isinstance(prior, MixturePrior):
    return
  if prior.classes:
    order = order[train.labels[order] >= 0]
  most = max(prior.num_components, min(_CLUSTERED, held))
  chosen = order[:most]
  for label in range(prior.classes or 0):  # A rare class needs as many as it has components.
    rows = order[train.labels[order] == label][: prior.components_per_class]
    chosen = np.union1d(chosen, rows)
  chosen = np.sort(chosen)
  images = dequantize(train.images[chosen], levels, config.seed + Purpose.PRIOR)
  _LOG.info('The means of the prior start in %d clusters of %s images.', prior.num_components, f'{len(images):,}')
  try:
    with Task(f'finding {prior.num_components} clusters'):
      initialize_prior(state.generator, images, config.seed, train.labels[chosen] if prior.classes else None)
  except ValueError as error:
    raise UsageError(f'`{config.generator}.components` {prior.num_components} does not fit: {error}') from error
  for average, variable in zip(state.ema.distribution.variables, prior.variables, strict=True):
    average.assign(variable)


def start_from_run(config: config_dict.ConfigDict, dataset: Dataset, state: TrainState) -> dict:
  """Gives a training the averaged weights from checkpoint `config.init_checkpoint` of the run `config.init_from`.

  With `config.init_critic`, the training also gets the critic from there. Returns where they come from, for `init` in
  `config.json`: the run's folder, checkpoint, step, data and settings.

  Raises:
    UsageError: If there is no such run, it has another generator, only the new training has `pseudo_labels`, or the run
      has no critic, or another one, for `init_critic`.
  """
  path = config.init_from
  try:
    run = load_run(path, config.init_checkpoint)
  except UsageError as error:
    raise UsageError(f'`init_from`: {error}', 'init_from') from error
  found = _generator_of(run.config, run.image_shape, run.generator)
  wanted = _generator_of(config, dataset.image_shape, state.generator)
  _check_same(path, 'generator', found, wanted)
  if config.init_critic and state.critic is not None:
    if run.config.objective == 'mle':
      raise UsageError(f'`init_critic` must be False to start from a run without a critic. Got: {path}.', 'init_critic')
    _check_same(path, 'critic for `init_critic`', _critic_of(run.config), _critic_of(config))
  if config.pseudo_labels and not run.config.pseudo_labels:  # Without them, images have moved to other components.
    raise UsageError(
      f'`init_from` must be a run with `pseudo_labels`, as the new one has them. Got: {path}.', 'init_from'
    )
  for part in (state.generator, state.ema):
    for variable, source in zip(part.variables, run.generator.variables, strict=True):
      variable.assign(tf.cast(source, variable.dtype))
  what = 'The generator starts'
  if config.init_critic and state.critic is not None:
    restore_critic(run.workdir, state.critic, run.identity)
    what = 'Generator and critic start'
  _LOG.info('%s from %s, checkpoint %s, step %d.', what, path, run.checkpoint, run.step)
  return {
    'run': os.fspath(path),
    'checkpoint': run.checkpoint,
    'step': run.step,
    'data': run.fingerprint,
    'config': settings(used(run.config)),
  }


def _check_same(path, kind, found, wanted):
  if name := next((name for name, value in wanted.items() if found.get(name) != value), None):
    raise UsageError(
      f'`init_from` must be a run with the same {kind}. Got: {path}, whose {name} is {found[name]!r} instead of '
      f'{wanted[name]!r}.',
      'init_from',
    )


def _block(config, kind):
  """Returns the name and the settings of the generator or the critic."""
  name = config[kind]
  return {kind: name} | {key: value for key, value in settings(config).items() if key.startswith(f'{name}.')}


def _critic_of(config):
  return {**_block(config, 'critic'), 'divergence': config.divergence}


def _generator_of(config, image_shape, generator):
  condition = {
    'condition': config.condition,
    'classes': generator.classes,
    'condition_shape': generator.condition_shape,
  }
  return {'image_shape': tuple(image_shape), **condition, **_block(config, 'generator')}
