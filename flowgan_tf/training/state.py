"""The state of a training: everything that a checkpoint must hold, in one object."""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf.base.errors import check_memory
from flowgan_tf.data.conditions import NOTHING, Condition
from flowgan_tf.networks import KerasModule
from flowgan_tf.objectives import Objective
from flowgan_tf.runs.run import make_critic, make_generator
from flowgan_tf.training.optimizers import make_adam


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
    condition: Condition = NOTHING,
  ):
    """Builds everything, with initial weights that `config.seed` determines.

    A step may change only variables that are made in `scope`, such as the scope of a strategy.

    Raises:
      UsageError: If a setting of generator or critic is wrong or does not fit the shape of the images.
    """
    with scope or contextlib.nullcontext():
      # Keras' initializers draw from global generators. Training uses no global randomness after this.
      keras.utils.set_random_seed(config.seed)
      dtype = config.precision
      self.generator = make_generator(config, image_shape, dtype, condition.arguments)
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
      self.critic: Any = None
      self.critic_optimizer: Any = None
      if objective.uses_critic:
        seen = condition.network_shape
        critic = make_critic(config, image_shape, dtype, seen)
        self.critic = KerasModule(critic, image_shape, 'critic', condition_shape=seen)
        self.critic_optimizer = make_adam(
          config.critic_optimizer, config.steps, config.critic_steps, self.rate_factor, dtype
        )
        self.critic_optimizer.build(self.critic.trainable_variables)
    # These are outside, because they change between steps.
    self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name='step')
    self.best_nll = tf.Variable(float('inf'), trainable=False, name='best_nll')
    self.best_score = tf.Variable(float('-inf'), trainable=False, name='best_score')

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
