"""Overfitting of a generator, seen by an independent critic: samples come closer to training images than to others.

A generator without density has no validation likelihood, and the critic it was trained against has seen the training
images too. Danihelka et al. train a new critic to approximate the Wasserstein distance between the validation images
and the samples of a finished generator.

#### References

[1]: Ivo Danihelka, Balaji Lakshminarayanan, Benigno Uria, Daan Wierstra, Peter Dayan. Comparison of Maximum Likelihood
     and GAN-based training of Real NVPs. 2017. https://arxiv.org/abs/1705.05263
[2]: Ishaan Gulrajani et al. Improved Training of Wasserstein GANs. NIPS 2017. https://arxiv.org/abs/1704.00028
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tqdm

from flowgan_tf import objectives
from flowgan_tf.data import Split, dequantize, training_batches
from flowgan_tf.metrics.standard_errors import standard_error

__all__ = ['CriticGap', 'critic_gap']

# Keep the samples of training and of the measurement apart.
_TRAINING, _MEASUREMENT = range(2)


class CriticGap(NamedTuple):
  """Approximate Wasserstein distances of samples, as one independent critic sees them.

  Distances are in units of the Euclidean distance between images in [0, 1]. Standard errors are over images and
  samples, the critic being given.

  Attributes:
    train: `mean f(training images) - mean f(samples)`.
    train_standard_error: Of `train`.
    validation: `mean f(validation images) - mean f(samples)`, of validation images the critic was not trained on.
    validation_standard_error: Of `validation`.
    gap: `validation - train`; 0 in expectation if training and validation images are the same to the generator.
    gap_standard_error: Of `gap`.
    steps: Updates of the critic.
    n: Number of training images, of validation images and of samples, each, that were measured.
  """

  train: float
  train_standard_error: float
  validation: float
  validation_standard_error: float
  gap: float
  gap_standard_error: float
  steps: int
  n: int


def critic_gap(
  sample: Callable[[int, tf.Tensor], tf.Tensor],
  train: np.ndarray,
  validation: np.ndarray,
  levels: int,
  critic: keras.Model,
  steps: int,
  batch_size: int,
  seed: int,
  learning_rate: float = 1e-4,
) -> CriticGap:
  """Trains a critic between validation images and samples, and measures how far samples are from either split.

  ```none
  f = argmax_f  E_validation[f] - E_samples[f] - 10 E[(||grad f|| - 1)^2]       over one half of the validation images
  gap = mean f(the other half) - mean f(training images)
  ```

  The critic never sees a training image but through the samples: where these repeat training images, it learns to
  rate them low, below validation images, and the gap is positive. It would be blind if it were trained on the training
  images instead, as those and their copies are the same; and measured on images it was trained on, it would find a gap
  for every generator, its own overfitting. On the other half, training and validation images of one distribution are
  exchangeable to a critic of fresh samples, whatever it has learned: the expected gap then is exactly 0.

  What the gap can show grows with `steps`: a critic that is hardly trained finds no gap anywhere. A generator far from
  all images, or one that collapsed, has a large distance and may have no gap.

  Args:
    sample: `(n, seed) -> images [n, height, width, channels]` in [0, 1], with a stateless seed, an int tensor of shape
      `[2]`, such as `flow.sample`. TensorFlow code: it becomes part of a `tf.function`.
    train: uint8 `[n_train, height, width, channels]`, what the generator was trained on.
    validation: uint8 `[n_validation, height, width, channels]`, of the same distribution; the generator has not seen
      them.
    levels: Number of grey levels.
    critic: A new critic, such as `networks.dcgan_critic(image_shape, ...)`. It is trained in place.
    steps: Updates of the critic, each with fresh samples.
    batch_size: Images of an update.
    seed: Non-negative, of the division of the validation images, the order, the noise and the samples.
    learning_rate: Of Adam, whose betas are 0.5 and 0.9.

  Raises:
    ValueError: If there are fewer than 2 training or 4 validation images, or their shapes differ.

  #### Examples

  ```python
  critic = fg.networks.dcgan_critic(dataset.image_shape, channels=(64, 128, 256))
  measured = critic_gap(
    flow.sample, dataset.train.images, dataset.validation.images, dataset.levels, critic, 5000, 64, seed=0
  )
  measured.gap / measured.gap_standard_error
  ```
  """
  if len(train) < 2 or len(validation) < 4 or train.shape[1:] != validation.shape[1:]:
    raise ValueError(
      '`train` must hold at least 2 images and `validation` at least 4, of one shape. '
      f'Got: {train.shape} and {validation.shape}.'
    )
  rng = np.random.default_rng(seed)
  seen, unseen = np.array_split(rng.permutation(len(validation)), 2)
  n = min(len(unseen), len(train))
  _train_critic(critic, sample, validation[seen], levels, steps, batch_size, seed, learning_rate)

  outputs_of = tf.function(lambda images: critic(images, training=False)[:, 0], reduce_retracing=True)
  sample_for = tf.function(sample)

  def outputs(images):
    batches = [outputs_of(tf.constant(images[i : i + batch_size])) for i in range(0, n, batch_size)]
    return np.concatenate(batches).astype(np.float64)

  # Samples of whole batches, or the last one would be traced anew.
  samples = np.concatenate(
    [sample_for(batch_size, _seed(seed, _MEASUREMENT, i)).numpy() for i in range(-(-n // batch_size))]
  )
  of_samples = outputs(samples[:n].astype(np.float32))
  of_train = outputs(dequantize(train[np.sort(rng.permutation(len(train))[:n])], levels, seed))
  of_validation = outputs(dequantize(validation[unseen[:n]], levels, seed + 1))
  results = [
    (a.mean() - b.mean(), math.hypot(standard_error(a), standard_error(b)))
    for a, b in ((of_train, of_samples), (of_validation, of_samples), (of_validation, of_train))
  ]
  return CriticGap(*(float(x) for pair in results for x in pair), steps=steps, n=n)


def _train_critic(critic, sample, validation, levels, steps, batch_size, seed, learning_rate):
  objective = objectives.make('adversarial', divergence='wasserstein')
  optimizer = keras.optimizers.Adam(learning_rate, beta_1=0.5, beta_2=0.9)
  optimizer.build(critic.trainable_variables)

  # No XLA: convolution gradients on a CPU would be many times slower.
  @tf.function
  def update(real, step):
    noise_seed = _seed(seed, _TRAINING, step)
    fake = tf.cast(sample(batch_size, noise_seed), tf.float32)
    penalty_seed = tf.random.experimental.stateless_fold_in(noise_seed, 1)
    with tf.GradientTape() as tape:
      loss, _ = objective.critic_loss(critic, real, fake, penalty_seed)
    optimizer.apply(tape.gradient(loss, critic.trainable_variables), critic.trainable_variables)

  batches = training_batches(Split(validation, None), levels, batch_size, seed).take(steps)
  bar = tqdm.tqdm(batches, 'critic', steps, unit='step', dynamic_ncols=True, disable=not sys.stderr.isatty())
  for step, real in enumerate(bar):
    update(real, tf.constant(step))


def _seed(seed: int, purpose: int, step: int | tf.Tensor) -> tf.Tensor:
  return tf.random.experimental.stateless_fold_in(tf.constant([seed, purpose]), step)
