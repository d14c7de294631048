"""Training steps on several replicas: each works on its share of the batch, and gradients are means over replicas."""

from __future__ import annotations

import dataclasses
import functools
import logging

import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf.objectives import Objective
from flowgan_tf.replicas import Replicas, gather, mean, share
from flowgan_tf.training.state import TrainState
from flowgan_tf.training.step import TrainStep, graph

__all__ = ['ReplicatedStep', 'make_step']

_LOG = logging.getLogger(__name__)


def make_step(state: TrainState, objective: Objective, config: config_dict.ConfigDict, replicas: Replicas) -> TrainStep:
  """Returns the training step of one or several replicas."""
  if replicas.count == 1:
    return TrainStep(state, objective, config)
  return ReplicatedStep(state, objective, config, replicas)


class ReplicatedStep(TrainStep):
  """Makes the steps of `TrainStep` on all replicas of a strategy.

  Every replica draws the noise of the whole batch from the same seeds, and takes its share. So the numbers are those of
  one device, but for rounding and for batch norms, which see one share each.
  """

  # Keras' optimizers exchange their counter, which TensorFlow refuses in a function of its own.
  _compiles_updates = False

  def __init__(self, state: TrainState, objective: Objective, config: config_dict.ConfigDict, replicas: Replicas):
    """Prepares the steps.

    Args:
      state: State that the steps update, made in the scope of the replicas.
      objective: Objective that they minimise.
      config: A training configuration.
      replicas: The replicas.
    """
    super().__init__(state, _over_replicas(objective), config)
    self._replicas = replicas
    self._batch_size //= replicas.count
    self._average = graph(functools.partial(replicas.run, self._average))
    # What no optimizer updates but each pass in training: the running statistics of batch norms.
    fixed = {id(variable) for variable in state.generator.distribution.variables}
    self._running = [v for v in state.generator.non_trainable_variables if id(v) not in fixed]
    _LOG.info('%s: %d replicas share each batch.', config.strategy, replicas.count)
    if self._running:
      _LOG.info('Batch norms see the share of one replica each, so that numbers depend on the number of replicas.')

  def update(self, images: tf.Tensor, *pattern) -> dict[str, tf.Tensor]:
    """Makes the updates of a step on every replica, from the images of this worker."""
    return self._replicas.run(lambda images: self._update_share(images, *pattern), images)

  def _update_share(self, images, *pattern):
    batches = images.shape[0] * self._replicas.workers // self.config.batch_size
    metrics = super().update(share(images, batches, of_worker=True), *pattern)
    if self._running:  # Each replica has moved them by its own share.
      for variable, value in zip(self._running, mean([tf.convert_to_tensor(v) for v in self._running]), strict=True):
        variable.assign(value)
    return mean(metrics)

  def _noise(self, batches, seed):
    return share(super()._noise(batches, seed), batches)

  def _gradients(self, tape, loss, variables):
    return mean(super()._gradients(tape, loss, variables))


def _over_replicas(objective: Objective) -> Objective:
  """Returns the objective whose divergence sees the critic's outputs on the images of all replicas.

  For means over images that would change nothing, but the relativistic critic compares each image with each sample.
  """
  divergence = objective.divergence
  if not divergence.relativistic:
    return objective

  def over_all(loss):
    return lambda real, fake: loss(gather(real), gather(fake))

  losses = {name: over_all(getattr(divergence, name)) for name in ('critic_loss', 'generator_loss', 'value')}
  return dataclasses.replace(objective, divergence=dataclasses.replace(divergence, **losses))
