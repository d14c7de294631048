"""The state of a training: everything that a checkpoint must hold, in one object."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import keras
import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf.errors import check_memory
from flowgan_tf.flows import Generator
from flowgan_tf.networks import KerasModule
from flowgan_tf.objectives import Objective
from flowgan_tf.runs.run import make_critic, make_generator
from flowgan_tf.training.optimizers import make_adam

__all__ = ['TrainState']


class TrainState:
  """Generator, averaged generator, critic, optimizers, step and best values.

  Attributes:
    generator: The generator being trained.
    ema: The generator with averaged weights, which is evaluated, sampled and exported; `generator` itself if weights
      are not averaged.
    critic: The critic as a `KerasModule`, or None if the objective does not use one.
    optimizer: Optimizer of the generator.
    critic_optimizer: Optimizer of the critic, or None.
    rate_factor: Factor of both learning rates. It is not part of the checkpoint, as the run counts its rollbacks.
    step: Number of finished steps; with the seed it is also the position in the data.
    best_nll: Lowest validation NLL so far, in nats.
    best_score: Highest score so far.
  """

  def __init__(
    self,
    config: config_dict.ConfigDict,
    image_shape: Sequence[int],
    objective: Objective,
    scope: contextlib.AbstractContextManager | None = None,
  ):
    """Builds everything, with initial weights that `config.seed` determines.

    Args:
      config: A training configuration.
      image_shape: `(height, width, channels)`.
      objective: The objective, which determines whether there is a critic.
      scope: Context in which the variables are made that a step changes, such as the scope of a strategy.

    Raises:
      UsageError: If a setting of generator or critic is wrong or does not fit the shape of the images.
    """
    with scope or contextlib.nullcontext():
      self._build(config, image_shape, objective)
    # Outside, as they change between the steps.
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
    steps = config.steps - (config.critic_warmup if objective.uses_critic else 0)
    self.optimizer = make_adam(config.optimizer, steps, 1, self.rate_factor, dtype)
    self.optimizer.build(self.generator.trainable_variables)
    self.critic = self.critic_optimizer = None
    if objective.uses_critic:
      self.critic = KerasModule(make_critic(config, image_shape, dtype), image_shape, name='critic')
      self.critic_optimizer = make_adam(
        config.critic_optimizer, config.steps, config.critic_steps, self.rate_factor, dtype
      )
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
