"""Measures a generator: likelihood of a split, and samples."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

from flowgan_tf import data
from flowgan_tf.errors import check_memory
from flowgan_tf.flows import Generator
from flowgan_tf.flows.prior import tempered
from flowgan_tf.metrics.batches import map_batches
from flowgan_tf.metrics.likelihood import Likelihood, make_likelihood_fn
from flowgan_tf.replicas import SINGLE, Replicas
from flowgan_tf.runs.seeds import Purpose, stateless_seed

__all__ = ['Evaluator']

_IMAGES_PER_CALL = 500


class Evaluator:
  """Measures one generator repeatedly, with functions that are traced only once."""

  def __init__(
    self,
    generator: Generator,
    dataset: data.Dataset,
    config: config_dict.ConfigDict,
    replicas: Replicas = SINGLE,
    round_trips: int | None = None,
  ):
    """Prepares the measurements.

    Args:
      generator: The generator; its variables may change between calls.
      dataset: Data set whose splits are measured.
      config: A training configuration, of which `seed`, `batch_size` and `jit` are used.
      replicas: The replicas that share the work. Each has a copy of the generator's variables.
      round_trips: Number of images whose round trip is measured with their likelihood. All by default.
    """
    self._generator, self._dataset, self._config = generator, dataset, config
    self._likelihood = None
    self._per_call = _multiple(_IMAGES_PER_CALL, replicas.count)
    if generator.has_density:
      # Large batches use matrix products better; more than there are images to validate would be padding.
      batch_size = max(config.batch_size, 100, min(_IMAGES_PER_CALL, len(dataset.validation.images)))
      self._batch_size = _multiple(batch_size, replicas.count)
      self._likelihood = make_likelihood_fn(
        generator, dataset.levels, self._batch_size, jit=config.jit, round_trips=round_trips, spread=replicas.map
      )
    self._decode = replicas.map(tf.function(generator.decode, jit_compile=config.jit, autograph=False))

  def likelihood(self, split: str) -> Likelihood | None:
    """Measures the likelihood of all images of a split, with a dequantisation that the seed determines.

    Args:
      split: 'train', 'validation' or 'test'.

    Returns:
      The likelihood, or None if the generator has none.
    """
    if self._likelihood is None:
      return None
    images = getattr(self._dataset, split).images
    seed = self._config.seed + Purpose.EVALUATION
    return self._likelihood(data.dequantized_chunks(images, self._dataset.levels, seed, self._batch_size))

  def sample(self, n: int, purpose: Purpose, step: int = 0, temperature: float = 1.0) -> np.ndarray:
    """Draws samples, float `[n, height, width, channels]`.

    Args:
      n: Number of samples.
      purpose: What the samples are for. It determines the noise, together with `step`.
      step: Training step, or another integer that distinguishes draws of one purpose.
      temperature: Factor of the noise, or of the noise around the means of a mixture.

    Raises:
      UsageError: If the samples would not fit into memory.
    """
    check_memory('samples and their noise', 2 * 4 * n * self._generator.event_shape.num_elements())
    seed = stateless_seed(self._config.seed, purpose, step)
    prior = tempered(self._generator.distribution, temperature)
    noise = prior.sample(-(-n // _IMAGES_PER_CALL) * _IMAGES_PER_CALL, seed=seed)
    return map_batches(self._decode, noise.numpy(), self._per_call)[:n]


def _multiple(size, count):
  return -(-size // count) * count
