"""One training step: updates of the critic, one update of the generator, and one of the averaged weights."""

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf.base.progress import Task
from flowgan_tf.bijectors import BatchNormalization
from flowgan_tf.data import Batch
from flowgan_tf.devices.cores import in_parts
from flowgan_tf.devices.replicas import SINGLE, Replicas, gather, mean, share
from flowgan_tf.networks.adapter import KerasModule
from flowgan_tf.objectives import Drawn, Objective, Seen, Term
from flowgan_tf.objectives.term import own_numbers
from flowgan_tf.runs.seeds import Purpose, stateless_seed
from flowgan_tf.training.state import TrainState

_LOG = logging.getLogger(__name__)

_AVERAGED_AT_FIRST = 100  # steps


def batches_per_step(objective: Objective, critic_steps: int, reuse_batch: bool) -> int:
  """Returns the number of batches of real images per step: one for the likelihood, and one for each critic update."""
  if not objective.uses_critic or reuse_batch:
    return 1
  return critic_steps + objective.uses_likelihood


def as_graph(function: Callable, **settings: Any) -> tf.types.experimental.PolymorphicFunction:
  """Returns a function as a `tf.function`.

  Tracing takes longer with AutoGraph, which nothing here needs. TensorFlow warns of a function that it traces five
  times, and knows it by its code. It counts a partial function as new, as each run's step is.
  """
  return tf.function(functools.partial(function), autograph=False, **settings)


class TrainStep:
  """Makes training steps.

  A step makes `critic_steps` updates of the critic against a fixed generator, and one update of the generator:

  ```none
  for k = 1, ..., critic_steps:
    critic    <- Adam(grad of the objective's critic loss at real images x_k and samples G(z_k))
  generator   <- Adam(grad of the adversarial loss at G(z) - lambda mean log p(x))
  average     <- d average + (1 - d) generator,   d = min(ema_decay, (1 + t) / (10 + t))
  ```

  All samples of the critic's updates come from one pass of the generator. If there is one critic update per step and it
  sees the same noise as the generator's update (`reuse_batch`), they come from the generator's own pass. The first
  `critic_warmup` steps train the critic alone.

  The average is updated after each of the first 100 steps, and then after each `ema_every`-th step, with the product of
  the decays of the steps since its last update. Keras' own average (`use_ema`) has one decay for all steps.

  A lazy penalty is part of the loss of each `penalty_interval`-th critic update. It makes no updates of its own, so
  that Adam's constants stay as they are, unlike in Karras et al. 2020.

  The generator minimises a sum of terms; see `flowgan_tf.objectives.TERMS`. A step draws what they need once: numbers
  of each image, such as its density, noise and samples, and the critic's outputs.

  On several replicas, each draws the noise of the whole batch from the same seeds, and works on its share of images and
  noise. Gradients, metrics and running statistics are means over replicas. So the numbers are the same as on one
  device, except for rounding and for batch norms, which see one share each.

  On a CPU, several cores may compute parts of the batch; see `flowgan_tf.devices`. This does not apply to what XLA
  compiles, to flows with batch norms, and to generators that are `computed_whole`.
  """

  def __init__(
    self,
    state: TrainState,
    objective: Objective,
    config: config_dict.ConfigDict,
    replicas: Replicas = SINGLE,
    inspect: Callable[[dict, Sequence, Sequence], object] = lambda *_: None,
  ):
    """Prepares the steps; nothing is traced or compiled yet.

    Args:
      state: What is trained, made in the scope of the replicas.
      objective: The loss.
      config: Settings of the training.
      replicas: The devices that share each batch.
      inspect: Called before each update with its metrics, gradients and variables.
    """
    self.state, self.objective, self.config, self._replicas, self.inspect = state, objective, config, replicas, inspect
    self._batch_size = config.batch_size // replicas.count
    self._shares_samples = config.reuse_batch and config.critic_steps == 1
    self._graphs: dict[tuple, Callable] = {}
    self._always_computes_norm = objective.uses_critic or config.optimizer.clip_norm > 0
    self._alone = replicas.count == 1
    generator = state.generator
    self._needs_means = any(type(term).of_images is not Term.of_images for term in objective.terms)
    self._draws_samples = any(term.needs_samples for term in objective.terms)
    self._needs_real_outputs = any(term.needs_real_outputs for term in objective.terms)
    generator.train_on_samples(self._draws_samples)
    # Each pass in training updates the running statistics of batch norms, and no optimizer does.
    parts = [part for part in generator.submodules if isinstance(part, KerasModule | BatchNormalization)]
    running = [variable for part in parts for variable in part.non_trainable_variables]
    self._divides = self._alone and not running and not config.jit and not generator.traits.computed_whole
    # XLA makes dense flows and Adam faster, but convolution gradients on a CPU many times slower: with a critic,
    # generator and optimizers are compiled on their own and the critic stays outside; without one, the whole step is.
    self._compiles_all = config.jit and self._alone and not objective.uses_critic
    # A mean has no meaning for integers, such as the seeds of a dropout, which all replicas move alike.
    self._running = [] if self._alone else [variable for variable in running if variable.dtype.is_floating]
    if not self._alone:
      _LOG.info('%s: %d replicas share each batch.', config.strategy, replicas.count)
    if self._running:
      _LOG.info("Each batch norm uses only its replica's share, so results depend on the number of replicas.")

  def _in_parts(self, function):
    """Returns a function that maps tensors `[n, ...]`, each entry by itself, as one that divides them among cores."""
    return in_parts(function) if self._divides else function

  def _compiled(self, function):
    """Returns a function as a graph of its own, which XLA compiles with `jit`."""
    # Compiled functions are not nested: XLA would recompile a function inside a compiled function at every call.
    return function if self._compiles_all else as_graph(function, jit_compile=self.config.jit)

  def __call__(
    self, batch: Batch | tf.Tensor, step: int | None = None, gradient_norm: bool = True
  ) -> dict[str, tf.Tensor]:
    """Makes one step.

    Args:
      batch: `batches_per_step * batch_size` real images with what they give, or this worker's share of them; or images
        alone.
      step: Number of steps before this one; None reads it from the state.
      gradient_norm: Whether `gradient_norm` is among the metrics. It takes a pass over memory. It always is with a
        critic or a `clip_norm`.

    Returns:
      Float32 scalars: the objective's metrics, of the last critic update where they belong to the critic, and the
      generator's `gradient_norm` and `learning_rate`.
    """
    config, state = self.config, self.state
    if step is None:
      with tf.init_scope():  # The number, also where this is part of another graph, such as in `benchmarks`.
        step = int(state.step.numpy())
    penalized: tuple[bool, ...] = ()
    trains_generator = True
    if self.objective.adversary is not None:
      updates = range(step * config.critic_steps, (step + 1) * config.critic_steps)
      penalized = tuple(number % self.objective.adversary.settings.penalty_interval == 0 for number in updates)
      trains_generator = step >= config.critic_warmup
    # One graph for each pattern: in a common one, a penalty that is left out would be computed all the same. A critic
    # makes several, each of which takes long to compile; without the norm they would be twice as many. The optimizer
    # computes the norm anyway if it limits it.
    pattern = penalized, trains_generator, gradient_norm or self._always_computes_norm
    waiting: contextlib.AbstractContextManager = contextlib.nullcontext()
    if pattern not in self._graphs:
      self._graphs[pattern] = as_graph(lambda batch: self._step(batch, *pattern), jit_compile=self._compiles_all)
      waiting = Task('compiling the training step')
    with waiting:
      metrics = self._graphs[pattern](Batch(*batch) if isinstance(batch, tuple) else Batch(batch))
    if trains_generator and state.ema is not state.generator and (averaged := _averaged_steps(step, config.ema_every)):
      decays = (min(config.ema_decay, (1 + t) / (10 + t)) for t in averaged)
      self._average(tf.constant(math.prod(decays), tf.float32))
    return metrics

  def _step(self, batch, *pattern):
    metrics = self._replicas.run(lambda batch: self.update(batch, *pattern), batch)
    self.state.step.assign_add(1)
    return metrics

  def update(
    self, batch: Batch, penalized: Sequence[bool], trains_generator: bool, gradient_norm: bool
  ) -> dict[str, tf.Tensor]:
    """Makes the updates of critic and generator on one replica, from the images of its worker; returns their metrics.

    `penalized` says for each critic update whether the gradient penalty is part of its loss.
    """
    config, batch_size = self.config, self._batch_size
    metrics: dict[str, tf.Tensor] = {}
    batches = batches_per_step(self.objective, config.critic_steps, config.reuse_batch)
    batch = _map(lambda part: share(part, batches, of_worker=True), batch)
    if self.objective.uses_critic and not (trains_generator and self._shares_samples):
      first = slice(None) if config.reuse_batch else slice(config.critic_steps * batch_size)
      of_critic = _map(lambda part: part[first], batch)
      _, fake = self._draw(Purpose.CRITIC, of_critic)
      metrics |= self.update_critic(of_critic, fake, penalized)
    if trains_generator:
      last = _map(lambda part: part[-batch_size:], batch)
      metrics |= self.update_generator(last, penalized, gradient_norm)
    if self._running:  # Each replica has moved them by its own share.
      for variable, value in zip(self._running, mean([tf.convert_to_tensor(v) for v in self._running]), strict=True):
        variable.assign(value)
    return mean(metrics)

  def update_critic(self, batch: Batch, fake: tf.Tensor, penalized: Sequence[bool]) -> dict[str, tf.Tensor]:
    """Makes the critic's updates of a step; images and samples are one batch, or one for each update, end to end."""
    state, adversary = self.state, self.objective.adversary
    assert adversary is not None
    metrics: dict[str, tf.Tensor] = {}
    noise_seed = stateless_seed(self.config.seed, Purpose.CRITIC, state.step)
    parts = batch.images.shape[0] // self._batch_size
    batches = [_map(lambda part, i=i: tf.split(part, parts)[i], batch) for i in range(parts)]
    fake = tf.split(fake, fake.shape[0] // self._batch_size)
    for i, with_penalty in enumerate(penalized):
      penalty_seed = tf.random.experimental.stateless_fold_in(noise_seed, i + 1)
      real = batches[i % len(batches)]
      with tf.GradientTape() as tape:
        critic = self._critic_given(real)
        loss, found = adversary.critic_loss(critic, real.images, fake[i % len(fake)], penalty_seed, with_penalty)
        scaled = state.critic_optimizer.scale_loss(loss)
      gradients = self._gradients(tape, scaled, state.critic.trainable_variables)
      self.inspect(found, gradients, state.critic.trainable_variables)
      self._apply_to_critic(gradients)
      metrics |= found
    return metrics

  def update_generator(self, batch: Batch, penalized: Sequence[bool], gradient_norm: bool) -> dict[str, tf.Tensor]:
    """Makes the generator's update, and the critic's from the same samples if the two share them."""
    state = self.state
    metrics: dict[str, tf.Tensor] = {}
    variables = state.generator.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(variables)
      drawn: dict[str, Any] = {'generator': state.generator, 'images': batch.images, 'condition': batch.condition}
      if self._needs_means:
        drawn['means'] = self._means(*batch)
      if self._draws_samples:
        purpose = Purpose.CRITIC if self.config.reuse_batch else Purpose.GENERATOR
        drawn['noise'], drawn['samples'] = self._draw(purpose, batch)
      if self.objective.uses_critic:
        if self._shares_samples:
          with tape.stop_recording():
            metrics |= self.update_critic(batch, drawn['samples'], penalized)
        critic = self._critic_given(batch)
        drawn['fake_outputs'] = critic(drawn['samples'])
        if self._needs_real_outputs:
          drawn['real_outputs'] = critic(batch.images)
      progress = tf.cast(state.step, tf.float32) / self.config.steps
      loss, found = self.objective.generator_loss(Drawn(progress=progress, **drawn))
      scaled = state.optimizer.scale_loss(loss)
    gradients = self._gradients(tape, scaled, variables)
    self.inspect(found, gradients, variables)
    metrics |= found
    if gradient_norm:
      # The scale is not scaled / loss, which is NaN for a loss of 0. It is read before the update, which may change it.
      metrics['gradient_norm'] = tf.linalg.global_norm(gradients) / state.optimizer.scale_loss(1.0)
    metrics['learning_rate'] = tf.convert_to_tensor(state.optimizer.learning_rate) * state.rate_factor
    self._apply_to_generator(gradients)
    return metrics

  @functools.cached_property
  def _average(self):
    """Moves the averaged weights to `decay average + (1 - decay) weights`; copies running statistics."""
    ema, generator = self.state.ema, self.state.generator

    def update(decay):
      rate = 1.0 - decay
      for average, variable in zip(ema.trainable_variables, generator.trainable_variables, strict=True):
        average.assign_sub(rate * (average - variable))
      for copy, variable in zip(ema.non_trainable_variables, generator.non_trainable_variables, strict=True):
        copy.assign(variable)

    # These are only sums and products: one pass over memory with XLA instead of three, on any device.
    return as_graph(functools.partial(self._replicas.run, as_graph(update, jit_compile=True)))

  @functools.cached_property
  def _critic(self):
    """Maps images, and what networks see of their conditions, to the outputs of the critic."""
    return self._in_parts(lambda images, seen: self.state.critic(images, condition=seen))

  def _critic_given(self, batch):
    """Returns the critic as a function of images that come with what the batch gives."""
    seen = self.state.generator.seen_by_networks(batch.condition)

    def critic(images):
      batches = images.shape[0] // batch.images.shape[0]  # Two if images and samples come together.
      return self._critic(images, None if seen is None else tf.concat([seen] * batches, axis=0))

    return critic

  @functools.cached_property
  def _means(self):
    """Maps images and conditions to the means over a batch of what the terms compute of each image."""
    generator, terms = self.state.generator, self.objective.terms

    def numbers(images, condition):
      seen, found = Seen(generator, images, condition), {}
      for term in terms:
        found |= own_numbers(term, 'of_images', term.of_images(seen), images.shape[:1], found)
      return found

    of_images = self._in_parts(numbers)
    return self._compiled(lambda *batch: {name: tf.reduce_mean(values) for name, values in of_images(*batch).items()})

  def _draw(self, purpose, batch):
    """Returns noise, and samples of the generator that is given what the images of a batch come with."""
    # The noise is not compiled: on a CPU, XLA draws random numbers twenty times slower than TensorFlow does.
    batches = batch.images.shape[0] // self._batch_size
    n, seed = batches * self.config.batch_size, stateless_seed(self.config.seed, purpose, self.state.step)
    of_all = _map(gather, batch._replace(images=None)).condition
    noise = share(self.state.generator.given(of_all).sample_noise(n, seed), batches)
    return noise, self._decode(noise, batch.condition)

  @functools.cached_property
  def _decode(self):
    """Maps noise and conditions to samples of the generator."""
    # Running statistics follow only one path, the likelihood's if there is one: the two paths see different
    # activations, and statistics that mix both spoil the likelihood.
    generator = self.state.generator
    training = self.config.mixed_statistics or not self.objective.uses_likelihood
    return self._compiled(self._in_parts(lambda noise, given: generator.given(given).decode(noise, training=training)))

  @functools.cached_property
  def _apply_to_critic(self):
    return self._apply_of(self.state.critic_optimizer, self.state.critic.trainable_variables)

  @functools.cached_property
  def _apply_to_generator(self):
    return self._apply_of(self.state.optimizer, self.state.generator.trainable_variables)

  def _apply_of(self, optimizer, variables):
    """Returns a function of gradients that makes the update of an optimizer."""

    def apply(gradients):
      optimizer.apply(gradients, variables)

    # On several replicas, Keras' optimizers exchange their counter, which TensorFlow rejects in a separate function.
    return self._compiled(apply) if self._alone else apply

  def _gradients(self, tape, loss, variables):
    # The gradient of a mixture's means comes from a gather, in parts whose norm is not the norm of their sum.
    return mean([g if g is None else tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)])


def _averaged_steps(step, every):
  """The steps since the last update of the averaged weights; empty without an update after this step."""
  # At first, average at every step: short trainings need it, too, and it is warmed up to more than `every` steps.
  if step < _AVERAGED_AT_FIRST:
    return range(step, step + 1)
  if (step + 1) % every:
    return range(0)
  return range(max(step + 1 - every, _AVERAGED_AT_FIRST), step + 1)


def _map(function, batch):
  """Applies a function of tensors to the parts of a batch."""
  return Batch(*(None if part is None else function(part) for part in batch))
