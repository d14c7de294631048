"""Dequantisation and the stream of training batches."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from flowgan_tf.data.conditions import Condition
from flowgan_tf.data.split import Split, StoredImages

# float32 has 16 bits left for the fraction of numbers in [128, 256). Noise below 1 - 2**-16 can therefore never round
# k + u up to k + 1, so that floor(levels * x) is k again and x stays below 1.
_MAX_NOISE = 1 - 2**-16

_VALUES_AT_ONCE = 2**26  # of dequantised images: 256 MiB

# Salts that make the permutations, the noise, the flips and the shifts of one (seed, index) independent.
_ORDER, _NOISE, _FLIP, _SHIFT = range(4)


class Batch(NamedTuple):
  """Images of a training step, and what the generator is given with them."""

  images: tf.Tensor  #: float32 `[n, height, width, channels]` in [0, 1), or rows `[n, d]` of a table.
  condition: tf.Tensor | None = None  #: A condition for each image, `[n, ...]`; None without conditions.


def dequantize(images: np.ndarray | StoredImages, levels: int | None, seed: int | np.random.Generator) -> np.ndarray:
  """Spreads integer grey levels over the unit interval, `x = (k + u) / levels` with `u ~ U[0, 1)`.

  The noise of an image depends only on the seed and on its position in `images`. The first `m` images are therefore the
  same whether or not others follow.

  Args:
    images: Grey levels from 0 to levels - 1, integers `[n, height, width, channels]`.
    levels: Number of grey levels, at most 256. None for the rows of a table, which are returned as float32.
    seed: Non-negative seed of the noise, or a generator that draws it.

  Returns:
    The images in [0, 1), float32 `[n, height, width, channels]`, with `floor(levels * x) == images`.

  Raises:
    ValueError: If `images` are not integers from 0 to `levels - 1`.

  #### References

  Uria, Murray, Larochelle. RNADE: The real-valued neural autoregressive density-estimator. NIPS 2013, section 5.
  Theis, van den Oord, Bethge. A note on the evaluation of generative models. ICLR 2016, section 3.1.
  """
  images = np.asarray(images)
  if levels is None:
    return images.astype(np.float32)
  is_integer = np.issubdtype(images.dtype, np.integer)
  if not is_integer or (images.size and not 0 <= images.min() <= images.max() < levels):
    got = f'{images.min()} to {images.max()}' if is_integer else f'numbers of type {images.dtype}'
    raise ValueError(f'`images` must be integers from 0 to {levels - 1}. Got: {got}.')
  x = np.random.default_rng(seed).random(images.shape, dtype=np.float32)
  x *= np.float32(_MAX_NOISE)
  x += images
  x /= np.float32(levels)
  return x


def bin_centers(images: np.ndarray | StoredImages, levels: int | None) -> np.ndarray:
  """Maps grey levels to the centres of their bins, `(k + 1/2) / levels`; rows of a table stay as they are."""
  grey_levels = np.asarray(images, np.float32)
  return grey_levels if levels is None else (grey_levels + np.float32(0.5)) / np.float32(levels)


def dequantized_chunks(
  images: np.ndarray | StoredImages, levels: int | None, seed: int, batch_size: int
) -> Iterator[np.ndarray]:
  """Dequantises images chunk by chunk: laid end to end, the chunks are `dequantize(images, levels, seed)`, bit for bit.

  Args:
    images: As for `dequantize`. Images in a file are read chunk by chunk.
    levels: As for `dequantize`.
    seed: Non-negative seed of the noise.
    batch_size: Images in a batch. Each chunk but the last has as many whole batches as 256 MiB hold, or one.

  Yields:
    float32 `[chunk, height, width, channels]`.
  """
  rng = np.random.default_rng(seed)
  chunk_size = batch_size * max(1, _VALUES_AT_ONCE // (batch_size * math.prod(images.shape[1:])))
  for start in range(0, len(images), chunk_size):
    yield dequantize(images[start : start + chunk_size], levels, rng)


def training_batches(
  split: Split,
  levels: int | None,
  batch_size: int,
  seed: int,
  start: int = 0,
  flip: bool = False,
  condition: Condition | None = None,
  *,
  shift: int = 0,
  shard: int = 0,
  num_shards: int = 1,
) -> tf.data.Dataset:
  """An infinite stream of shuffled, dequantised batches that can be resumed at any element.

  Epoch `e` visits the images in the order of a permutation drawn from (seed, e). Element `i` holds positions
  `i * batch_size .. (i + 1) * batch_size - 1` of the epochs laid end to end, so that each epoch shows every image once.
  Its noise, flips and shifts are drawn from (seed, i). A run that resumes at step `j` with `start=j` therefore sees
  exactly the batches that the uninterrupted run would have seen, bit for bit. Images in memory and `StoredImages`,
  which are read batch by batch and never kept, give the same batches.

  Args:
    split: The images, which may be fewer than a batch.
    levels: Number of grey levels, at most 256. None for a table, whose rows `[d]` come as they are.
    batch_size: Images in each element, over all workers.
    seed: Seed of 64 bits.
    start: Index of the first element.
    flip: Whether to mirror each image left to right with probability 1/2, and a condition that is an image with it.
    condition: The kind of condition that comes with each image; None for images alone.
    shift: Largest number of pixels by which each image is moved up or down, and left or right. Every move is as likely
      as any other. Pixels at the edge repeat. Conditions that are stored, and not computed from images, stay.
    shard: Number of the worker, from 0 to `num_shards - 1`. It reads and yields rows `shard`, `shard + num_shards`, ...
      of the batch that a single worker would have, bit for bit. So workers also share each part of a batch evenly if
      `num_shards` divides its length, such as the images of one update of a step.
    num_shards: Number of workers, which must divide `batch_size`.

  Returns:
    A `tf.data.Dataset` of `Batch`es of `batch_size / num_shards` images, `x = (k + u) / levels` as in `dequantize`.

  Raises:
    ValueError: If the split is empty, `start` or `shift` is negative, `num_shards` does not divide `batch_size`, or
      there is no such `shard`.
  """
  n = len(split)
  if n < 1 or min(start, shift) < 0 or not 0 <= shard < num_shards or batch_size % num_shards:
    raise ValueError(
      '`split` must hold images, `start` and `shift` must not be negative, `num_shards` must divide `batch_size`, and '
      f'`shard` must be below `num_shards`. Got: {n} images, {start}, {shift}, {num_shards}, {batch_size} and {shard}.'
    )
  image_shape = split.images.shape[1:]
  with tf.device('CPU:0'):  # tf.data runs there, and would fetch images from an accelerator for every batch.
    read = _reader(split.images)
    stored = tf.constant(condition.stored(split)) if condition and not condition.comes_from_image else None
    salts = _ORDER, _NOISE, _FLIP, _SHIFT
    order_seed, noise_seed, flip_seed, shift_seed = (tf.constant([seed, salt], tf.int64) for salt in salts)

  first_epoch, offset = divmod(start * batch_size, n)

  def epoch_order(epoch: tf.Tensor) -> tf.data.Dataset:
    # The order that sorts random keys. `tf.random.experimental.index_shuffle` needs no sort, but is far from uniform:
    # some of the 24 permutations of 4 items come up 4.7 times as often as others.
    keys = tf.random.stateless_uniform(
      [n], tf.random.experimental.stateless_fold_in(order_seed, epoch), minval=None, maxval=None, dtype=tf.int32
    )
    done = tf.where(epoch == first_epoch, offset, 0)  # `skip` would count them one by one.
    return tf.data.Dataset.from_tensor_slices(tf.argsort(keys, stable=True)[done:])

  def uniform(seed: tf.Tensor, step: tf.Tensor, shape: tuple[int, ...], maxval: float = 1.0) -> tf.Tensor:
    step_seed = tf.random.experimental.stateless_fold_in(seed, step)
    return tf.random.stateless_uniform([batch_size, *shape], step_seed, maxval=maxval)[shard::num_shards]

  def batch(step: tf.Tensor, indices: tf.Tensor) -> Batch:
    indices = indices[shard::num_shards]
    grey_levels = read(indices)
    conditions = None if stored is None else tf.gather(stored, indices)
    if flip:
      mirrored = uniform(flip_seed, step, (1, 1, 1)) < 0.5
      grey_levels = tf.where(mirrored, tf.reverse(grey_levels, [2]), grey_levels)
      if conditions is not None and conditions.shape.rank == 4:
        conditions = tf.where(mirrored, tf.reverse(conditions, [2]), conditions)
    if shift:
      moves = tf.cast(tf.floor(uniform(shift_seed, step, (2,), 2 * shift + 1)), tf.int32) - shift
      grey_levels = _moved(grey_levels, moves)
    x = tf.cast(grey_levels, tf.float32)
    if levels is not None:
      x = (x + uniform(noise_seed, step, image_shape, _MAX_NOISE)) / levels
    if condition and condition.comes_from_image:
      conditions = condition.of_grey_levels(grey_levels)
    return Batch(x, conditions)

  epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
  indices = epochs.flat_map(epoch_order).batch(batch_size, drop_remainder=True)
  steps = tf.data.Dataset.range(start, tf.int64.max)
  return (
    tf.data.Dataset.zip(steps, indices)
    .map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    .prefetch(tf.data.AUTOTUNE)
  )


def _reader(images):
  """Returns a function that takes indices `[n]` to grey levels `[n, height, width, channels]`."""
  if isinstance(images, np.ndarray):
    held = tf.constant(images)
    return lambda indices: tf.gather(held, indices)

  def read(indices):
    grey_levels = tf.numpy_function(images.__getitem__, [indices], tf.uint8, stateful=False)
    return tf.ensure_shape(grey_levels, [*indices.shape, *images.shape[1:]])

  return read


def _moved(images, moves):
  """Moves each image by `[down, right]` pixels, ints `[n, 2]`; pixels at the edge repeat."""
  for axis in (1, 2):
    size = images.shape[axis]
    source = tf.clip_by_value(tf.range(size) - moves[:, axis - 1, tf.newaxis], 0, size - 1)
    images = tf.gather(images, source, axis=axis, batch_dims=1)
  return images
