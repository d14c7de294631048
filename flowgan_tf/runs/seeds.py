"""Stateless randomness: every draw is determined by (seed, purpose, step)."""

from __future__ import annotations

import enum

from flowgan_tf.base.lazy import tf


class Purpose(enum.IntEnum):
  """What a draw is for; two purposes never share a stream."""

  CRITIC = 1  # noise of the critic's fake images, and the gradient penalty's interpolation
  GENERATOR = 2  # noise of the generator's step
  GRID = 3  # the fixed noise of the sample grids
  SCORE = 4  # samples behind a score
  EVALUATION = 5  # dequantisation of validation and test images
  ANALYSIS = 6  # samples and noise vectors of an analysis of the finished run
  PRIOR = 7  # images whose clusters are the first means of a mixture prior


def stateless_seed(seed: int, purpose: Purpose, step: int | tf.Tensor = 0, *further: int | tf.Tensor) -> tf.Tensor:
  """Returns a stateless seed, an int32 tensor of shape `[2]`, so that a resumed run repeats an uninterrupted one.

  `step` is the training step, or another integer that distinguishes draws of one purpose, as `further` ones do.
  """
  found = tf.convert_to_tensor([seed, int(purpose)])
  for each in (step, *further):
    found = tf.random.experimental.stateless_fold_in(found, tf.cast(each, tf.int32))
  return found
