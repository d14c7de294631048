"""Overfitting, measured by an independent critic: are samples closer to training images than to validation images?

A generator without a density has no validation likelihood, and the critic that it was trained against has seen the
training images too. Danihelka et al. train a new critic to approximate the Wasserstein distance between the validation
images and the samples of a finished generator.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from flowgan_tf import data, objectives, runs
from flowgan_tf.base.errors import check
from flowgan_tf.base.lazy import keras, tf
from flowgan_tf.base.progress import Task
from flowgan_tf.display.tables import Column
from flowgan_tf.metrics import arrays
from flowgan_tf.objectives.critic import mean_output
from flowgan_tf.runs import seeds
from flowgan_tf.study.analysis import Analysis, Settings, Subject, setting

if TYPE_CHECKING:
  from flowgan_tf import data


# They give the training of the critic and the measurement different samples.
_TRAINING, _MEASUREMENT = range(2)


def critic_distances(
  sample: Callable[[int, tf.Tensor], tf.Tensor],
  train: np.ndarray | data.StoredImages,
  validation: np.ndarray | data.StoredImages,
  levels: int,
  critic: keras.Model,
  steps: int,
  batch_size: int,
  seed: int,
  learning_rate: float = 1e-4,
) -> dict[str, float]:
  """Trains a critic to tell validation images from samples, and measures the distance of the samples to either split.

  ```none
  f = argmax_f  E_validation[f] - E_samples[f] - 10 E[(||grad f|| - 1)^2]       over one half of the validation images
  gap = mean f(the other half) - mean f(training images)
  ```

  The critic sees training images only through the samples. If these repeat training images, it learns to rate them
  lower than validation images, and the gap is positive. If the samples depend on neither split, training images and the
  other half are exchangeable for the critic, and the expected gap is 0. It must not be measured on images that it was
  trained on, because its own overfitting would look like a gap.

  A critic with few steps finds no gap for any generator. A generator that is far from all images, or has collapsed, has
  a large distance and may have no gap.

  Args:
    sample: Function `(n, seed) -> images [n, height, width, channels]` in [0, 1], such as `flow.sample`. The seed is
      stateless, an integer tensor of shape `[2]`. It must be TensorFlow code, as it becomes part of a `tf.function`.
    train: Images that the generator was trained on, uint8 `[n_train, height, width, channels]`.
    validation: Images of the same distribution that the generator has not seen, uint8
      `[n_validation, height, width, channels]`.
    levels: Number of grey levels.
    critic: A new critic, such as `objectives.dcgan_critic(image_shape, ...)`. It is trained in place.
    steps: Number of updates of the critic, each with fresh samples.
    batch_size: Images in each update.
    seed: Non-negative seed of the division of the validation images, of their order, of the noise and of the samples.
    learning_rate: Learning rate of Adam, whose betas are 0.5 and 0.9.

  Returns:
    `train`, `validation` and `gap`: the distances of the samples to the training images and to the validation images
    that the critic was not trained on, and the difference of the two, in units of the Euclidean distance between images
    in [0, 1]. `train_standard_error` and so on: their standard errors, with the critic held fixed. `n`: how many images
    of each kind were measured. `steps`.

  Raises:
    UsageError: If there are fewer than two validation images.
    ValueError: If the critic's outputs are not finite.

  #### References

  [1]: Ivo Danihelka, Balaji Lakshminarayanan, Benigno Uria, Daan Wierstra, Peter Dayan. Comparison of Maximum
       Likelihood and GAN-based training of Real NVPs. 2017. https://arxiv.org/abs/1705.05263
  [2]: Ishaan Gulrajani et al. Improved Training of Wasserstein GANs. NIPS 2017. https://arxiv.org/abs/1704.00028
  """
  check('validation', len(validation), 'at least 2 images', len(validation) >= 2)
  rng = np.random.default_rng(seed)
  seen, unseen = np.array_split(rng.permutation(len(validation)), 2)
  n = min(len(unseen), len(train))
  adversary = objectives.make('adversarial', divergence='wasserstein').adversary
  optimizer = keras.optimizers.Adam(learning_rate, beta_1=0.5, beta_2=0.9)
  optimizer.build(critic.trainable_variables)

  # This does not use XLA, whose convolution gradients are many times slower on a CPU.
  @tf.function(autograph=False)
  def update(real, step):
    noise_seed = _seed(seed, _TRAINING, step)
    fake = tf.cast(sample(batch_size, noise_seed), tf.float32)
    penalty_seed = tf.random.experimental.stateless_fold_in(noise_seed, 1)
    with tf.GradientTape() as tape:
      loss, _ = adversary.critic_loss(critic, real, fake, penalty_seed)
    optimizer.apply(tape.gradient(loss, critic.trainable_variables), critic.trainable_variables)

  batches = data.training_batches(data.Split(validation[seen], None), levels, batch_size, seed).take(steps)
  with Task('training the critic', steps, unit='steps', images=batch_size) as task:
    for step, batch in enumerate(batches):
      update(batch.images, tf.constant(step))
      task.advance()

  outputs_of = tf.function(lambda images: mean_output(critic(images, training=False)), autograph=False)
  sample_for = tf.function(sample, autograph=False)

  def outputs(images):
    return arrays.map_batches(outputs_of, images, batch_size).astype(np.float64)

  # Only whole batches are sampled, because a smaller last one would be traced again.
  samples = np.concatenate(
    [sample_for(batch_size, _seed(seed, _MEASUREMENT, i)).numpy() for i in range(-(-n // batch_size))]
  )
  of_samples = outputs(samples[:n].astype(np.float32))
  of_train = outputs(data.dequantize(train[np.sort(rng.permutation(len(train))[:n])], levels, seed))
  of_validation = outputs(data.dequantize(validation[unseen[:n]], levels, seed + 1))
  if not np.isfinite([of_samples, of_train, of_validation]).all():
    raise ValueError("the critic's outputs must be finite. Got: NaN or infinity.")
  pairs = {'train': (of_train, of_samples), 'validation': (of_validation, of_samples), 'gap': (of_validation, of_train)}
  found = {}
  for name, (a, b) in pairs.items():
    found[name] = float(a.mean() - b.mean())
    found[f'{name}_standard_error'] = math.hypot(arrays.standard_error(a), arrays.standard_error(b))
  return found | {'steps': steps, 'n': n}


def _seed(seed: int, purpose: int, step: int | tf.Tensor) -> tf.Tensor:
  return seeds.stateless_seed(seed, seeds.Purpose.ANALYSIS, purpose, step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndependentCriticSettings(Settings):
  critic_steps: int = setting(2000, 'Updates of the independent critic.', 1, 10**6)


class IndependentCritic(Analysis):
  """How much closer samples are to training than to validation images (Danihelka et al. 2017)."""

  name = 'independent_critic'
  title = 'Independent critic'
  description = (
    'overfitting: how much closer samples are to training than to validation images, for a critic trained anew '
    '(Danihelka et al. 2017)'
  )
  caption = (
    'Distance of samples from images, as measured by an independent critic (Danihelka et al. 2017); a gap more than '
    'two standard errors above 0 indicates overfitting'
  )
  needs_marginal = 'samples that are given conditions of images resemble these images'
  Settings = IndependentCriticSettings
  columns = tuple(
    Column(header, key, '.4f', f'{key}_standard_error')
    for header, key in (('training − samples', 'train'), ('validation − samples', 'validation'), ('gap', 'gap'))
  )
  details = (Column('images', 'n', ','), Column('updates of the critic', 'steps', ','))

  def measure(self, subject: Subject, settings: IndependentCriticSettings) -> tuple[dict, dict[str, np.ndarray]]:
    config, dataset = subject.run.config, subject.dataset
    assert dataset.levels is not None
    keras.utils.set_random_seed(settings.seed)  # It decides the initial weights.
    critic = runs.run.make_critic(config, dataset.image_shape)
    found = critic_distances(
      subject.sample,
      dataset.train.images if subject.label is None else subject.split('train').images,
      subject.split('validation').images,
      dataset.levels,
      critic,
      settings.critic_steps,
      config.batch_size,
      settings.seed,
    )
    return found, {}
