"""Adam as one fused operation per variable, and its learning rates."""

import keras
import tensorflow as tf
from ml_collections import config_dict


class FusedAdam(keras.optimizers.Adam):
  """`keras.optimizers.Adam` with TensorFlow's fused kernel.

  ```none
  m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2
  w = w - r sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + e)
  ```

  The update, the state and the checkpoints are the same. Keras makes about ten passes over the memory of a variable and
  the kernel makes one. Without XLA the passes take most of the optimizer's time in a step of the paper's NICE.
  """

  rate_factor: float | tf.Variable = 1.0  # of the learning rate; a variable may change between steps

  def _all_reduce_sum_gradients(self, grads_and_vars):
    # Under a strategy, Keras would clip the gradients of each device and then sum them. Ours are the mean already.
    return grads_and_vars

  def _backend_update_step(self, grads, trainable_variables, learning_rate):
    self._scalars = {}  # The same numbers for all variables: tracing takes longer if each has its own.
    super()._backend_update_step(grads, trainable_variables, learning_rate)

  def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
    """Updates one variable; called by `apply`."""
    index, dtype = self._get_variable_index(variable), variable.dtype
    if dtype not in self._scalars:
      step = tf.cast(self.iterations + 1, dtype)
      self._scalars[dtype] = {
        'beta1_power': tf.pow(tf.constant(self.beta_1, dtype), step),
        'beta2_power': tf.pow(tf.constant(self.beta_2, dtype), step),
        'lr': tf.cast(learning_rate, dtype) * tf.cast(self.rate_factor, dtype),
        'beta1': tf.constant(self.beta_1, dtype),
        'beta2': tf.constant(self.beta_2, dtype),
        'epsilon': tf.constant(self.epsilon, dtype),
      }
    tf.raw_ops.ResourceApplyAdam(
      var=variable.handle,
      m=self._momentums[index].value.handle,
      v=self._velocities[index].value.handle,
      grad=tf.cast(gradient, dtype),
      **self._scalars[dtype],
    )


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
  """A learning rate that rises linearly to the rate of another schedule: `rate(t) min(1, (t + 1) / steps)`.

  Keras has a warm-up only in `CosineDecay`, where it comes before the decay and starts at a rate of 0.
  """

  def __init__(self, rate: float | keras.optimizers.schedules.LearningRateSchedule, steps: int):
    self.rate, self.steps = rate, steps

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    rate = self.rate(step) if callable(self.rate) else self.rate
    return rate * tf.minimum(1.0, (tf.cast(step, tf.float32) + 1.0) / self.steps)


def make_adam(
  settings: config_dict.ConfigDict, steps: int, updates_per_step: int, rate_factor: tf.Variable, precision: str
) -> keras.Optimizer:
  """Returns Adam with a schedule that counts training steps rather than updates, and with loss scaling for float16.

  `settings` are `config.optimizer` or `config.critic_optimizer`; `steps` is the number of steps that make updates.
  """
  rate = settings.learning_rate
  if settings.schedule == 'cosine':
    rate = keras.optimizers.schedules.CosineDecay(rate, steps * updates_per_step)
  elif settings.schedule == 'exponential':
    rate = keras.optimizers.schedules.ExponentialDecay(rate, updates_per_step, settings.decay_rate)
  if settings.warmup_steps:
    rate = Warmup(rate, settings.warmup_steps * updates_per_step)
  adam = FusedAdam(rate, settings.beta_1, settings.beta_2, global_clipnorm=settings.clip_norm or None)
  adam.rate_factor = rate_factor
  if precision == 'mixed_float16':
    # The default scale of 2**15 overflows in a flow's first steps, which would then be skipped.
    return keras.optimizers.LossScaleOptimizer(adam, initial_scale=2.0**12)
  return adam
