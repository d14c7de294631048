"""One training step: updates of the critic, one update of the generator, and one of the averaged weights."""

import contextlib
import functools
import logging
import math
from collections.abc import Sequence

import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf.bijectors import BatchNormalization
from flowgan_tf.cores import in_parts
from flowgan_tf.data import Batch
from flowgan_tf.data.conditions import reduce_images
from flowgan_tf.flows.histograms import histogram_logits, pixel_logit
from flowgan_tf.flows.prior import sample_noise
from flowgan_tf.networks.adapter import KerasModule
from flowgan_tf.objectives import Objective
from flowgan_tf.progress import Task
from flowgan_tf.replicas import SINGLE, Replicas, gather, mean, share
from flowgan_tf.runs.seeds import Purpose, stateless_seed
from flowgan_tf.training.state import TrainState

_LOG = logging.getLogger(__name__)

_AVERAGED_AT_FIRST = 100  # steps


def batches_per_step(objective: Objective, critic_steps: int, reuse_batch: bool) -> int:
  """Returns the number of batches of real images per step: one for the likelihood, and one for each critic update."""
  if not objective.uses_critic or reuse_batch:
    return 1
  return critic_steps + objective.uses_likelihood


def graph(function, **settings) -> tf.types.experimental.PolymorphicFunction:
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

  `transport_weight` adds the cost of the transport from noise to samples to the generator's loss; see `Objective`.

  `class_weight` adds a term to the generator's loss: `class_weight` times the mean of `-log p(y | x)` over the labelled
  images of the batch, where p(y | x) is the softmax of `log p(x, y) / class_temperature`. With the setting `labelled`,
  some images have no label, and -1 stands in its place. These images contribute `log p(x)` to the likelihood, and the
  others contribute `log p(x | y)`.

  `consistency_weight` adds another term if the condition is computed from the image, as a low resolution is:

  ```none
  consistency_weight mean (reduce(G(z, c)) - c)^2,   the mean over samples and over the numbers of a condition
  ```

  Pixels that are hidden count as zeros on both sides.

  On several replicas, each draws the noise of the whole batch from the same seeds, and works on its share of images and
  noise. Gradients, metrics and running statistics are means over replicas. So the numbers are the same as on one
  device, except for rounding and for batch norms, which see one share each.

  On a CPU, several cores may compute parts of the batch; see `flowgan_tf.cores`. This does not apply to what XLA
  compiles, to flows with batch norms, and to NICE, whose parts would each read 23 million weights.
  """

  def __init__(
    self, state: TrainState, objective: Objective, config: config_dict.ConfigDict, replicas: Replicas = SINGLE
  ):
    """Prepares the steps; nothing is traced or compiled yet. The state must have been made in the replicas' scope."""
    self.state, self.objective, self.config, self._replicas = state, objective, config, replicas
    self._batch_size = config.batch_size // replicas.count
    self._shares_samples = config.reuse_batch and config.critic_steps == 1
    self._graphs = {}
    self._always_computes_norm = objective.uses_critic or config.optimizer.clip_norm > 0
    alone = replicas.count == 1
    generator = state.generator
    if objective.uses_transport:
      self._image_of_noise = pixel_logit(generator).inverse
    for logit in histogram_logits(generator):
      logit.surrogate_gradients = objective.uses_critic
    # Each pass in training updates the running statistics of batch norms, and no optimizer does.
    parts = [part for part in generator.submodules if isinstance(part, KerasModule | BatchNormalization)]
    running = [variable for part in parts for variable in part.non_trainable_variables]
    divided = alone and not running and not config.jit and config.generator != 'nice'
    self._in_parts = in_parts if divided else lambda function: function
    self._log_probs, self._decode_each = self._in_parts(self._log_probs), self._in_parts(self._decode_each)
    # XLA makes dense flows and Adam faster, but convolution gradients on a CPU many times slower: with a critic,
    # generator and optimizers are compiled on their own and the critic stays outside; without one, the whole step is.
    # On several replicas, Keras' optimizers exchange their counter, which TensorFlow refuses in a separate function.
    self._compiles_all = config.jit and alone and not objective.uses_critic

    def compiled(function):
      # Compiled functions are not nested: XLA would recompile a function inside a compiled function at every call.
      return function if self._compiles_all else graph(function, jit_compile=config.jit)

    self._nll, self._decode = compiled(self._nll), compiled(self._decode)
    if alone:
      self._apply_to_critic = compiled(self._apply_to_critic)
      self._apply_to_generator = compiled(self._apply_to_generator)
    # These are only sums and products: one pass over memory with XLA instead of three, on any device.
    self._average = graph(functools.partial(replicas.run, graph(self.update_average, jit_compile=True)))
    self._running = [] if alone else running
    if not alone:
      _LOG.info('%s: %d replicas share each batch.', config.strategy, replicas.count)
    if self._running:
      _LOG.info('Batch norms see the share of one replica each, so that numbers depend on the number of replicas.')

  def __call__(
    self, batch: Batch | tf.Tensor, step: int | None = None, gradient_norm: bool = True
  ) -> dict[str, tf.Tensor]:
    """Makes one step.

    Args:
      batch: `batches_per_step * batch_size` real images with their conditions, or this worker's share of them; or
        images alone.
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
    penalized, trains_generator = (), True
    if self.objective.uses_critic:
      updates = range(step * config.critic_steps, (step + 1) * config.critic_steps)
      penalized = tuple(number % self.objective.penalty_interval == 0 for number in updates)
      trains_generator = step >= config.critic_warmup
    # One graph for each pattern: in a common one, a penalty that is left out would be computed all the same. A critic
    # makes several, each of which takes long to compile; without the norm they would be twice as many. The optimizer
    # computes the norm anyway if it limits it.
    pattern = penalized, trains_generator, gradient_norm or self._always_computes_norm
    waiting = contextlib.nullcontext()
    if pattern not in self._graphs:
      self._graphs[pattern] = graph(lambda batch: self._step(batch, *pattern), jit_compile=self._compiles_all)
      waiting = Task('compiling the training step')
    with waiting:
      metrics = self._graphs[pattern](batch if isinstance(batch, Batch) else Batch(batch))
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
    config, batch_size, metrics = self.config, self._batch_size, {}
    batches = batches_per_step(self.objective, config.critic_steps, config.reuse_batch)
    images, condition = (None if part is None else share(part, batches, of_worker=True) for part in batch)
    if self.objective.uses_critic and not (trains_generator and self._shares_samples):
      batches = 1 if config.reuse_batch else config.critic_steps
      first = slice(None) if config.reuse_batch else slice(config.critic_steps * batch_size)
      of_critic = None if condition is None else condition[first]
      fake = self._decode(self._noise(batches, Purpose.CRITIC, of_critic), of_critic)
      metrics |= self.update_critic(images[first], fake, penalized, of_critic)
    if trains_generator:
      last = slice(-batch_size, None)
      of_generator = None if condition is None else condition[last]
      metrics |= self.update_generator(images[last], penalized, gradient_norm, of_generator)
    if self._running:  # Each replica has moved them by its own share.
      for variable, value in zip(self._running, mean([tf.convert_to_tensor(v) for v in self._running]), strict=True):
        variable.assign(value)
    return mean(metrics)

  def update_critic(
    self, real: tf.Tensor, fake: tf.Tensor, penalized: Sequence[bool], condition: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Makes the critic's updates of a step; images and samples are one batch, or one for each update, end to end.

    An image and the sample in the same place have the same condition.
    """
    state, metrics = self.state, {}
    noise_seed = stateless_seed(self.config.seed, Purpose.CRITIC, state.step)
    real, fake = (tf.split(images, images.shape[0] // self._batch_size) for images in (real, fake))
    conditions = [None] if condition is None else tf.split(condition, len(real))
    for i, with_penalty in enumerate(penalized):
      penalty_seed = tf.random.experimental.stateless_fold_in(noise_seed, i + 1)
      with tf.GradientTape() as tape:
        loss, found = self.objective.critic_loss(
          self._critic(conditions[i % len(conditions)]),
          real[i % len(real)],
          fake[i % len(fake)],
          penalty_seed,
          with_penalty,
        )
        scaled = state.critic_optimizer.scale_loss(loss)
      gradients = self._gradients(tape, scaled, state.critic.trainable_variables)
      self.inspect(found, gradients, state.critic.trainable_variables)
      self._apply_to_critic(gradients)
      metrics |= found
    return metrics

  def update_generator(
    self, real: tf.Tensor, penalized: Sequence[bool], gradient_norm: bool, condition: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Makes the generator's update, and the critic's from the same samples if the two share them."""
    state, objective, metrics = self.state, self.objective, {}
    variables = state.generator.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(variables)
      nll = fake_outputs = real_outputs = transport = None
      of_labels = ()
      if objective.uses_likelihood:
        nll, of_labels = self._nll(real, condition)
      if objective.uses_critic:
        noise = self._noise(1, Purpose.CRITIC if self.config.reuse_batch else Purpose.GENERATOR, condition)
        fake = self._decode(noise, condition)
        if objective.uses_transport:
          goal = tf.stop_gradient(self._image_of_noise(noise))  # Networks of histograms would move it.
          transport = tf.reduce_mean(tf.math.squared_difference(fake, goal))
        if self._shares_samples:
          with tape.stop_recording():
            metrics |= self.update_critic(real, fake, penalized, condition)
        critic = self._critic(condition)
        fake_outputs = critic(fake)
        if objective.divergence.relativistic:
          real_outputs = critic(real)
      progress = tf.cast(state.step, tf.float32) / self.config.steps
      loss, found = objective.generator_loss(nll, fake_outputs, real_outputs, progress, transport)
      if of_labels:
        surprise, count = of_labels  # The mean is over the labelled images of all replicas.
        found['class_loss'] = surprise / tf.maximum(mean([count])[0], 1e-6)
        found['loss'] = loss = loss + self.config.class_weight * found['class_loss']
      if objective.uses_critic and self.config.consistency_weight:
        again = reduce_images(fake, self.config.condition)
        found['consistency_loss'] = tf.reduce_mean(tf.math.squared_difference(again, condition))
        found['loss'] = loss = loss + self.config.consistency_weight * found['consistency_loss']
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

  def update_average(self, decay: tf.Tensor) -> None:
    """Moves the averaged weights to `decay average + (1 - decay) weights`; copies running statistics."""
    ema, generator = self.state.ema, self.state.generator
    for average, variable in zip(ema.trainable_variables, generator.trainable_variables, strict=True):
      average.assign_sub((1.0 - decay) * (average - variable))
    for copy, variable in zip(ema.non_trainable_variables, generator.non_trainable_variables, strict=True):
      copy.assign(variable)

  def _critic(self, condition):
    """Returns the critic as a function of images; networks see a label as a one-hot vector."""
    critic = self.state.critic
    if condition is not None and condition.dtype.is_integer:
      condition = tf.one_hot(condition, critic.condition_shape[0])
    given = [] if condition is None else [condition]
    of_each = self._in_parts(lambda images, *given: critic(images, condition=given[0] if given else None))
    return lambda images: of_each(images, *given)

  def _nll(self, images, condition):
    """Mean negative log-likelihood in nats per image; with labels, the sum of -log p(y | x) and the number of them.

    An image without a label has the label -1.
    """
    given = [] if condition is None else [condition]
    log_prob, *surprise = self._log_probs(images, *given)
    if not surprise:
      return -tf.reduce_mean(log_prob), ()
    count = tf.math.count_nonzero(condition >= 0, dtype=log_prob.dtype)
    return -tf.reduce_mean(log_prob), (tf.reduce_sum(surprise[0]), count)

  def _log_probs(self, images, condition=None):
    """Returns what each image contributes to the likelihood and, if labels count beside it, its -log p(y | x)."""
    generator, config = self.state.generator, self.config
    # What an image without a label gets from the first class is not used.
    label = tf.maximum(condition, 0) if config.labelled else condition
    keywords = {'condition': label}
    if config.pseudo_labels:
      prior = generator.distribution
      keywords['component'] = prior.nearest_prototype(images, label if prior.classes else None)
    if not (config.labelled or config.class_weight):
      return (generator.log_prob(images, training=True, **keywords),)
    known = condition >= 0
    # If the networks do not see the label, TFP's cache has the noise of both from one pass.
    joint = generator.class_log_probs(images, training=True)
    log_prob, marginal = generator.log_prob(images, training=True, **keywords), tf.reduce_logsumexp(joint, axis=-1)
    tempered = joint / config.class_temperature
    of_class = tf.gather(tempered, label, batch_dims=1)
    surprise = tf.where(known, tf.reduce_logsumexp(tempered, axis=-1) - of_class, 0.0)
    return tf.where(known, log_prob, marginal), surprise

  def _noise(self, batches, purpose, condition):
    # This is not compiled: on a CPU, XLA draws random numbers twenty times slower than TensorFlow does.
    seed = stateless_seed(self.config.seed, purpose, self.state.step)
    label = None if condition is None else gather(condition)
    prior = self.state.generator.distribution
    return share(sample_noise(prior, batches * self.config.batch_size, seed, label=label), batches)

  def _decode(self, noise, condition):
    return self._decode_each(noise, *([] if condition is None else [condition]))

  def _decode_each(self, noise, condition=None):
    # Running statistics follow only one path, the likelihood's if there is one: the two paths see different
    # activations, and statistics that mix both made hybrid training collapse.
    training = not self.objective.uses_likelihood
    return self.state.generator.decode(noise, training=training, condition=condition)

  def _apply_to_critic(self, gradients):
    self.state.critic_optimizer.apply(gradients, self.state.critic.trainable_variables)

  def _apply_to_generator(self, gradients):
    self.state.optimizer.apply(gradients, self.state.generator.trainable_variables)

  def _gradients(self, tape, loss, variables):
    # The gradient of a mixture's means comes from a gather, in parts whose norm is not the norm of their sum.
    return mean([g if g is None else tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)])

  def inspect(self, metrics: dict, gradients: Sequence, variables: Sequence) -> None:
    """Called before each update with what led to it; `explain` puts its own function here."""


def _averaged_steps(step, every):
  """The steps since the last update of the averaged weights; empty without an update after this step."""
  # At first, average at every step: short trainings need it, too, and it is warmed up to more than `every` steps.
  if step < _AVERAGED_AT_FIRST:
    return range(step, step + 1)
  if (step + 1) % every:
    return range(0)
  return range(max(step + 1 - every, _AVERAGED_AT_FIRST), step + 1)
