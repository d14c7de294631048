"""One training step, as one graph."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf.objectives import Objective
from flowgan_tf.replicas import gather, mean, share
from flowgan_tf.runs.seeds import Purpose, stateless_seed
from flowgan_tf.training.state import TrainState

__all__ = ['batches_per_step', 'make_train_step']

_AVERAGED_AT_FIRST = 100  # steps


def batches_per_step(objective: Objective, critic_steps: int, reuse_batch: bool) -> int:
  """Returns the number of batches of real images per step: one for the likelihood, and one for each critic step."""
  if not objective.uses_critic or reuse_batch:
    return 1
  return critic_steps + objective.uses_likelihood


def make_train_step(
  state: TrainState,
  objective: Objective,
  config: config_dict.ConfigDict,
  inspect: Callable[[dict[str, tf.Tensor], list[tf.Tensor], list[tf.Variable]], None] | None = None,
) -> Callable[..., dict[str, tf.Tensor]]:
  """Builds the training step.

  A step makes `critic_steps` updates of the critic against a fixed generator, and one update of the generator. The fake
  images of all critic updates are sampled in one pass. If there is one critic update a step and it sees the same noise
  as the generator's (`reuse_batch`), they are those of the generator's own pass. The first `critic_warmup` steps train
  the critic alone.

  The averaged weights are updated after each of the first 100 steps, and then after each `ema_every`-th step, with the
  product of the decays of the steps since the last update:

  ```none
  average_t = p average_(t-k) + (1 - p) weights_t,   p = d_(t-k+1) ... d_t,   d_t = min(ema_decay, (1 + t) / (10 + t))
  ```

  A lazy penalty is part of the loss of each `penalty_interval`-th critic update. As that makes no updates of its own,
  Adam's constants stay as they are, unlike in Karras et al. 2020.

  Args:
    state: State that the step updates.
    objective: Objective that the step minimises.
    config: A training configuration.
    inspect: Called before each update with the objective's metrics, the gradients and their variables.

  Returns:
    A function of images `[batches_per_step * batch_size, height, width, channels]` (of several workers each passes its
    share), of `step`, the number of steps before this one, which is read from the state if it is None, and of
    `gradient_norm`, whether that is among the metrics. It returns float32 scalars: the objective's metrics (those of
    the last critic update), the generator's `gradient_norm` and its `learning_rate`.
  """
  replicas = state.replicas
  if replicas.count > 1:
    objective = _over_replicas(objective)
  critic_steps = config.critic_steps
  batch_size = config.batch_size // replicas.count  # of this replica
  fake_batches = 1 if config.reuse_batch else critic_steps
  shares_fakes = config.reuse_batch and critic_steps == 1
  running = state.running_statistics
  # Running statistics follow only one path, that of the likelihood if there is one: the two paths see different
  # activations, and statistics that mix both made hybrid training collapse.
  sample_in_training = not objective.uses_likelihood
  graph_of = functools.partial(tf.function, autograph=False)  # Tracing takes longer with it, and nothing here needs it.
  # XLA makes dense flows and Adam faster, but convolution gradients on a CPU many times slower: with a critic,
  # generator and optimizers are compiled on their own and the critic stays outside; without one, the whole step is.
  whole = config.jit and not objective.uses_critic and replicas.count == 1
  # Then nothing is nested: XLA would recompile a function inside a compiled function at every call.
  compiled = (lambda function: function) if whole else functools.partial(graph_of, jit_compile=config.jit)
  # On several replicas, Keras' optimizers exchange their counter, which TensorFlow refuses in a function of its own.
  updating = compiled if replicas.count == 1 else (lambda function: function)

  @compiled
  def log_prob(images):
    labels = {}
    if config.pseudo_labels:
      labels['component'] = state.generator.distribution.nearest_prototype(images)
    return state.generator.log_prob(images, training=True, **labels)

  @compiled
  def decode(noise):
    return state.generator.decode(noise, training=sample_in_training)

  def sample(batches, seed):
    # Not compiled: on a CPU, XLA draws random numbers twenty times slower than TensorFlow does.
    noise = state.generator.distribution.sample(batches * config.batch_size, seed=seed)
    return decode(share(noise, batches))

  @updating
  def update_generator(gradients):
    state.optimizer.apply(gradients, state.generator.trainable_variables)

  @updating
  def update_critic(gradients):
    state.critic_optimizer.apply(gradients, state.critic.trainable_variables)

  def train_critic(real, penalized, fake=None):
    noise_seed = stateless_seed(config.seed, Purpose.CRITIC, state.step)
    if fake is None:
      fake = sample(fake_batches, noise_seed)
    real, fake = tf.split(real, real.shape[0] // batch_size), tf.split(fake, fake_batches)
    metrics = {}
    for i in range(critic_steps):
      penalty_seed = tf.random.experimental.stateless_fold_in(noise_seed, i + 1)
      with tf.GradientTape() as tape:
        loss, found = objective.critic_loss(
          state.critic, real[i % len(real)], fake[i % len(fake)], penalty_seed, penalized[i]
        )
        metrics |= found
        scaled = state.critic_optimizer.scale_loss(loss)
      gradients = mean(tape.gradient(scaled, state.critic.trainable_variables))
      if inspect:
        inspect(found, gradients, state.critic.trainable_variables)
      update_critic(gradients)
    return metrics

  def train_generator(real, penalized, gradient_norm):
    purpose = Purpose.CRITIC if config.reuse_batch else Purpose.GENERATOR
    noise_seed = stateless_seed(config.seed, purpose, state.step)
    variables = state.generator.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(variables)
      nll = fake_outputs = real_outputs = None
      if objective.uses_likelihood:
        nll = -tf.reduce_mean(log_prob(real))
      if objective.uses_critic:
        fake = sample(1, noise_seed)
        if shares_fakes:
          with tape.stop_recording():
            critic_metrics = train_critic(real, penalized, fake)
        fake_outputs = state.critic(fake)
        if objective.divergence.relativistic:
          real_outputs = state.critic(real)
      progress = tf.cast(state.step, tf.float32) / config.steps
      loss, metrics = objective.generator_loss(nll, fake_outputs, real_outputs, progress)
      scaled = state.optimizer.scale_loss(loss)
    # Those of a mixture's means come from a gather, in parts whose norm is not that of their sum.
    gradients = mean([tf.convert_to_tensor(gradient) for gradient in tape.gradient(scaled, variables)])
    if inspect:
      inspect(metrics, gradients, variables)
    if gradient_norm:  # A pass over memory that only the log needs.
      # The scale is not scaled / loss, which is NaN for a loss of 0. It is read before the update, which may change it.
      metrics['gradient_norm'] = tf.linalg.global_norm(gradients) / state.optimizer.scale_loss(1.0)
    metrics['learning_rate'] = tf.convert_to_tensor(state.optimizer.learning_rate) * state.rate_factor
    update_generator(gradients)
    return critic_metrics | metrics if objective.uses_critic and shares_fakes else metrics

  def update_average(decay):
    for average, variable in zip(state.ema.trainable_variables, state.generator.trainable_variables, strict=True):
      average.assign_sub((1.0 - decay) * (average - variable))
    for copy, variable in zip(state.ema.non_trainable_variables, state.generator.non_trainable_variables, strict=True):
      copy.assign(variable)

  def one_step(images, penalized, trains_generator, gradient_norm):
    images = share(images, images.shape[0] * replicas.workers // config.batch_size, of_worker=True)
    metrics = {}
    if objective.uses_critic and not (trains_generator and shares_fakes):
      metrics |= train_critic(images if config.reuse_batch else images[: critic_steps * batch_size], penalized)
    if trains_generator:
      metrics |= train_generator(images[-batch_size:], penalized, gradient_norm)
    if replicas.count > 1 and running:
      # Each replica has moved those of its batch norms by its own share of the batch; without a likelihood, also in
      # steps that train the critic alone.
      for variable, value in zip(running, mean([tf.convert_to_tensor(v) for v in running]), strict=True):
        variable.assign(value)
    return mean(metrics)

  def on_replicas(images, **pattern):
    metrics = replicas.run(functools.partial(one_step, **pattern), images)
    state.step.assign_add(1)
    return metrics

  # One for each pattern: in one graph, a penalty that is left out would be computed all the same. They are partial
  # functions because TensorFlow warns of a function that it traces five times, and does not see that these are one.
  @functools.cache
  def graph(**pattern):
    return graph_of(functools.partial(on_replicas, **pattern), jit_compile=whole)

  # These are only sums and products: one pass over memory with XLA instead of three, on any device.
  average = graph_of(functools.partial(update_average), jit_compile=True)
  if replicas.count > 1:
    average = graph_of(functools.partial(replicas.run, average))

  def train_step(images, step=None, gradient_norm=True):
    if step is None:
      with tf.init_scope():  # The number, also where this is part of another graph, such as in `benchmarks`.
        step = int(state.step.numpy())
    penalized, trains_generator = (), True
    if objective.uses_critic:
      updates = range(step * critic_steps, (step + 1) * critic_steps)
      penalized = tuple(number % objective.penalty_interval == 0 for number in updates)
      trains_generator = step >= config.critic_warmup
    metrics = graph(penalized=penalized, trains_generator=trains_generator, gradient_norm=gradient_norm)(images)
    if trains_generator and state.ema is not state.generator and (averaged := _averaged_steps(step, config.ema_every)):
      decays = (min(config.ema_decay, (1 + t) / (10 + t)) for t in averaged)
      average(tf.constant(math.prod(decays), tf.float32))
    return metrics

  return train_step


def _averaged_steps(step, every):
  """The steps since the last update of the averaged weights; none if there is no update after this step."""
  # At first in each step: short trainings have an average, too, and it is warmed up to more than `every` steps.
  if step < _AVERAGED_AT_FIRST:
    return range(step, step + 1)
  if (step + 1) % every:
    return range(0)
  return range(max(step + 1 - every, _AVERAGED_AT_FIRST), step + 1)


def _over_replicas(objective: Objective) -> Objective:
  """The objective whose divergence sees the critic's outputs on the images of all replicas.

  For means over images that would change nothing, but the relativistic critic compares each image with each sample.
  """
  divergence = objective.divergence
  if not divergence.relativistic:
    return objective

  def over_all(loss):
    return lambda real, fake: loss(gather(real), gather(fake))

  losses = {name: over_all(getattr(divergence, name)) for name in ('critic_loss', 'generator_loss', 'value')}
  return dataclasses.replace(objective, divergence=dataclasses.replace(divergence, **losses))
