"""The state of a training: everything that a checkpoint must hold, in one object."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf.errors import check_memory
from flowgan_tf.flows import Generator
from flowgan_tf.networks import KerasModule
from flowgan_tf.objectives import Objective
from flowgan_tf.replicas import SINGLE, Replicas
from flowgan_tf.runs.run import make_critic, make_generator
from flowgan_tf.training.optimizers import FusedAdam, Warmup

__all__ = ['TrainState']


class TrainState:
  """Generator, averaged generator, critic, optimizers, step and best values.

  Attributes:
    replicas: The replicas that make the steps.
    generator: The generator being trained.
    ema: The generator with averaged weights, which is evaluated, sampled and exported; `generator` itself if weights
      are not averaged.
    critic: The critic as a `KerasModule`, or None if the objective does not use one.
    optimizer: Optimizer of the generator.
    critic_optimizer: Optimizer of the critic, or None.
    rate_factor: Factor of both learning rates. It is no part of the checkpoint, as the run counts its rollbacks.
    step: Number of finished steps; with the seed it is also the position in the data.
    best_nll: Lowest validation NLL so far, in nats.
    best_score: Highest score so far.
  """

  def __init__(
    self,
    config: config_dict.ConfigDict,
    image_shape: Sequence[int],
    objective: Objective,
    replicas: Replicas = SINGLE,
  ):
    """Builds everything, with initial weights that `config.seed` determines.

    Args:
      config: A training configuration.
      image_shape: `(height, width, channels)`.
      objective: The objective, which determines whether there is a critic.
      replicas: The replicas that make the steps; each has a copy of all that they change.

    Raises:
      UsageError: If a setting of generator or critic is wrong or does not fit the shape of the images.
    """
    self.replicas = replicas
    with replicas.scope():
      self._build(config, image_shape, objective)
    # Not copied: they change between the steps.
    self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name='step')
    self.best_nll = tf.Variable(float('inf'), trainable=False, name='best_nll')
    self.best_score = tf.Variable(float('-inf'), trainable=False, name='best_score')

  def _build(self, config, image_shape, objective):
    # Keras' initializers draw from global generators. Training uses no global randomness after this.
    keras.utils.set_random_seed(config.seed)
    dtype = config.precision
    self.generator = make_generator(config, image_shape, dtype)
    count = sum(variable.shape.num_elements() for variable in self.generator.trainable_variables)
    check_memory('weights, their average and the moments of Adam', 4 * 4 * count)
    self.ema = self.generator.with_dtype(dtype) if config.ema_decay else self.generator
    if config.recompute:
      for part in self.generator.submodules:
        if isinstance(part, KerasModule):
          part.recompute = True
    self.rate_factor = tf.Variable(1.0, trainable=False, name='rate_factor')
    self.optimizer = _adam(
      config.optimizer, config, 1, self.rate_factor, idle_steps=config.critic_warmup if objective.uses_critic else 0
    )
    self.optimizer.build(self.generator.trainable_variables)
    self.critic = self.critic_optimizer = None
    if objective.uses_critic:
      self.critic = KerasModule(make_critic(config, image_shape, dtype), image_shape, name='critic')
      self.critic_optimizer = _adam(config.critic_optimizer, config, config.critic_steps, self.rate_factor)
      self.critic_optimizer.build(self.critic.trainable_variables)

  def start_from(self, generator: Generator) -> None:
    """Takes the weights of another generator with the same variables.

    Raises:
      ValueError: If their number or a shape is another.
    """
    for part in (self.generator, self.ema):
      for variable, source in zip(part.variables, generator.variables, strict=True):
        variable.assign(tf.cast(source, variable.dtype))

  @property
  def running_statistics(self) -> list[tf.Variable]:
    """Variables of the generator that no optimizer updates but each pass in training: those of batch norms."""
    fixed = {id(variable) for variable in self.generator.distribution.variables}
    return [variable for variable in self.generator.non_trainable_variables if id(variable) not in fixed]

  @property
  def variables(self) -> list[tf.Variable]:
    """Everything that a checkpoint holds."""
    found = [*self.generator.variables, *_numbered(self.optimizer), self.step, self.best_nll, self.best_score]
    if self.ema is not self.generator:
      found += self.ema.variables
    if self.critic is not None:
      found += [*self.critic.variables, *_numbered(self.critic_optimizer)]
    return found

  def checkpoint(self) -> tf.train.Checkpoint:
    """A checkpoint of the whole state."""
    parts = {
      'generator': self.generator,
      'ema': self.ema,
      'optimizer': _numbered(self.optimizer),
      'step': self.step,
      'best_nll': self.best_nll,
      'best_score': self.best_score,
    }
    if self.critic is not None:
      parts |= {'critic': self.critic, 'critic_optimizer': _numbered(self.critic_optimizer)}
    return tf.train.Checkpoint(**parts)


def _numbered(optimizer: keras.Optimizer) -> list[tf.Variable]:
  """The variables of an optimizer as a list, since their names depend on what the process has built before."""
  return [v.value for v in optimizer.variables]


def _adam(
  c: config_dict.ConfigDict,
  config: config_dict.ConfigDict,
  updates_per_step: int,
  rate_factor: tf.Variable,
  idle_steps: int = 0,
) -> keras.Optimizer:
  """Adam, with a schedule that counts training steps rather than updates, and with loss scaling for float16."""
  updates = (config.steps - idle_steps) * updates_per_step
  learning_rate = {
    'constant': lambda: c.learning_rate,
    'cosine': lambda: keras.optimizers.schedules.CosineDecay(c.learning_rate, updates),
    'exponential': lambda: keras.optimizers.schedules.ExponentialDecay(c.learning_rate, updates_per_step, c.decay_rate),
  }[c.schedule]()
  if c.warmup_steps:
    learning_rate = Warmup(learning_rate, c.warmup_steps * updates_per_step)
  adam = FusedAdam(learning_rate, c.beta_1, c.beta_2, global_clipnorm=c.clip_norm or None)
  adam.rate_factor = rate_factor
  if config.precision == 'mixed_float16':
    # The default scale of 2**15 overflows in the first steps of a flow, which would be skipped.
    return keras.optimizers.LossScaleOptimizer(adam, initial_scale=2.0**12)
  return adam
