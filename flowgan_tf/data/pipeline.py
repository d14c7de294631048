"""Dequantisation, and the stream of training batches."""

import numpy as np
import tensorflow as tf

from flowgan_tf.data.dataset import Split

__all__ = ['dequantize', 'training_batches']

# float32 has 16 bits left for the fraction of numbers in [128, 256). Noise below 1 - 2**-16 therefore never rounds
# k + u up to k + 1, so that floor(levels * x) gives k back and x stays below 1.
_MAX_NOISE = 1 - 2**-16

# Keep the permutations, the noise and the flips of one (seed, index) independent.
_ORDER, _NOISE, _FLIP = range(3)


def dequantize(images: np.ndarray, levels: int, seed: int) -> np.ndarray:
  """Spreads integer grey levels over the unit interval, `x = (k + u) / levels` with `u ~ U[0, 1)`.

  The noise of an image depends on the seed and on its position in `images` alone, so that the first `m` images are the
  same whether or not others follow.

  Args:
    images: uint8 [n, height, width, channels] in `0 .. levels - 1`.
    levels: number of grey levels, at most 256.
    seed: non-negative seed of the noise.

  Returns:
    float32 [n, height, width, channels] in [0, 1), with `floor(levels * x) == images`.

  #### References

  Uria, Murray, Larochelle. RNADE: The real-valued neural autoregressive density-estimator. NIPS 2013, section 5.
  Theis, van den Oord, Bethge. A note on the evaluation of generative models. ICLR 2016, section 3.1.
  """
  x = np.random.default_rng(seed).random(images.shape, dtype=np.float32)
  x *= np.float32(_MAX_NOISE)
  x += images
  x /= np.float32(levels)
  return x


def training_batches(
  split: Split, levels: int, batch_size: int, seed: int, start: int = 0, flip: bool = False
) -> tf.data.Dataset:
  """Infinite stream of shuffled, dequantised batches, of which any element can be repeated.

  Epoch `e` visits the images in the order of a permutation drawn from (seed, e). Element `i` holds positions
  `i * batch_size .. (i + 1) * batch_size - 1` of the epochs laid end to end, so that every image is seen once in every
  epoch and none is dropped; its noise and flips are drawn from (seed, i). A run that resumes at step `j` with `start=j`
  thus sees what the uninterrupted run would have seen, bit for bit.

  Args:
    split: `Split` to draw from; it may be smaller than a batch.
    levels: number of grey levels, at most 256.
    batch_size: images in an element.
    seed: int64 seed.
    start: index of the first element.
    flip: whether to mirror each image left to right with probability 1/2.

  Returns:
    `tf.data.Dataset` of float32 [batch_size, height, width, channels] in [0, 1), `x = (k + u) / levels` as in
    `dequantize`.

  Raises:
    ValueError: if the split is empty, `batch_size` is not positive or `start` is negative.
  """
  n = len(split)
  if n < 1 or batch_size < 1 or start < 0:
    raise ValueError(
      '`split` must hold an image, `batch_size` be positive and `start` not negative. '
      f'Got: {n} images, batch_size={batch_size}, start={start}.'
    )
  with tf.device('CPU:0'):  # tf.data runs there: an accelerator would have to send the images back for every batch.
    images = tf.constant(split.images)
    order_seed, noise_seed, flip_seed = (tf.constant([seed, salt], tf.int64) for salt in (_ORDER, _NOISE, _FLIP))

  def epoch_order(epoch: tf.Tensor) -> tf.data.Dataset:
    # Sorted random keys. `tf.random.experimental.index_shuffle` would spare the sort, but is far from uniform over the
    # permutations: of the 24 of 4 items, some come up 4.7 times as often as others.
    keys = tf.random.stateless_uniform(
      [n], tf.random.experimental.stateless_fold_in(order_seed, epoch), minval=None, maxval=None, dtype=tf.int32
    )
    return tf.data.Dataset.from_tensor_slices(tf.argsort(keys, stable=True))

  def batch(step: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    grey_levels = tf.gather(images, indices)
    if flip:
      mirrored = tf.random.stateless_uniform(
        [batch_size, 1, 1, 1], tf.random.experimental.stateless_fold_in(flip_seed, step)
      )
      grey_levels = tf.where(mirrored < 0.5, tf.reverse(grey_levels, [2]), grey_levels)
    noise = tf.random.stateless_uniform(
      grey_levels.shape, tf.random.experimental.stateless_fold_in(noise_seed, step), maxval=_MAX_NOISE
    )
    return (tf.cast(grey_levels, tf.float32) + noise) / levels

  first_epoch, offset = divmod(start * batch_size, n)
  epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
  indices = epochs.flat_map(epoch_order).skip(offset).batch(batch_size, drop_remainder=True)
  steps = tf.data.Dataset.range(start, tf.int64.max)
  return (
    tf.data.Dataset.zip(steps, indices)
    .map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    .prefetch(tf.data.AUTOTUNE)
  )
