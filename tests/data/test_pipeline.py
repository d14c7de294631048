"""Dequantisation against SciPy's tests of distributions, and the stream of training batches."""

import itertools
import types
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from flowgan_tf.data import (
  Split,
  StoredImages,
  conditions,
  dequantize,
  dequantized_chunks,
  pipeline,
  training_batches,
)


def numbered(n: int, shape: tuple[int, int, int] = (2, 3, 1)) -> Split:
  """Images with their own number in every pixel, which shows what images a batch holds."""
  images = np.broadcast_to(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1), (n, *shape)).copy()
  return Split(images, None)


def take(dataset: tf.data.Dataset, count: int) -> list[np.ndarray]:
  return [batch.images.numpy() for batch in dataset.take(count)]


def members(batches: list[np.ndarray], levels: int = 256) -> np.ndarray:
  """Numbers of the images of `numbered`, in the order in which they come."""
  return np.floor(np.concatenate(batches).astype(np.float64) * levels).astype(int)[:, 0, 0, 0]


@pytest.fixture
def stored(tmp_path) -> Callable[[Split], Split]:
  def store(split: Split) -> Split:
    np.save(tmp_path / 'images.npy', split.images)
    return Split(StoredImages(tmp_path / 'images.npy'), None)

  return store


@pytest.mark.parametrize('levels', [17, 256])
def test_no_noise_rounds_to_the_next_level(monkeypatch, levels):
  """Without the bound on the noise, one draw in 2**16 would reach 1.0 in float32."""
  for noise in (0, 1 - 2**-24):
    draws = types.SimpleNamespace(random=lambda shape, dtype, noise=noise: np.full(shape, noise, dtype))
    monkeypatch.setattr(np.random, 'default_rng', lambda seed, draws=draws: draws)
    images = np.arange(levels, dtype=np.uint8).reshape(1, 1, levels, 1)
    x = dequantize(images, levels, seed=0)
    assert x.dtype == np.float32 and x.max() < 1
    np.testing.assert_array_equal(np.floor(x * np.float32(levels)), images)


def test_what_has_no_grey_levels_is_not_dequantised():
  for images, got in (([[0.5]], 'numbers of type float64'), ([[0, 17]], '0 to 17'), ([[-1, 3]], '-1 to 3')):
    with pytest.raises(ValueError, match=rf'^`images` must be integers from 0 to 16\. Got: {got}\.$'):
      dequantize(images, 17, 0)


def test_dequantisation_noise_is_uniform_and_depends_on_seed_and_position_alone():
  images = np.full((100, 10, 10, 1), 7, np.uint8)
  x = dequantize(images, 17, seed=3)
  assert stats.kstest(x.astype(np.float64).ravel() * 17 - 7, 'uniform').pvalue > 1e-3
  np.testing.assert_array_equal(dequantize(images[:4], 17, seed=3), x[:4])
  assert not np.array_equal(x, dequantize(images, 17, seed=2))


def test_the_centre_of_a_bin_is_the_mean_of_what_is_dequantised_there():
  images = np.repeat(np.arange(17, dtype=np.uint8), 100).reshape(1, 17, 100, 1)
  spread = dequantize(images, 17, seed=0).astype(np.float64)
  centers = pipeline.bin_centers(images, 17)
  np.testing.assert_allclose(spread.mean(axis=2), centers[:, :, 0], atol=5 / 17 / np.sqrt(12 * 100))
  np.testing.assert_allclose(centers.max() + centers.min(), 1, rtol=1e-6)
  np.testing.assert_array_equal(pipeline.bin_centers(np.float32([[-0.3, 2]]), None), np.float32([[-0.3, 2]]))


@pytest.mark.parametrize(('batch_size', 'values', 'chunk_size'), [(1, 1, 1), (2, 17, 4), (1, 999, 9)])
def test_chunks_are_the_whole(stored, monkeypatch, batch_size, values, chunk_size):
  """Also after an odd number of values, of which NumPy draws two at a time."""
  split = Split(np.random.default_rng(0).integers(0, 256, (9, 1, 3, 1), np.uint8), None)
  monkeypatch.setattr(pipeline, '_VALUES_AT_ONCE', values)
  for images in (split.images, stored(split).images):
    chunks = list(dequantized_chunks(images, 256, 5, batch_size))
    assert [len(chunk) for chunk in chunks] == [min(chunk_size, 9 - start) for start in range(0, 9, chunk_size)]
    np.testing.assert_array_equal(np.concatenate(chunks), dequantize(split.images, 256, 5))


@pytest.mark.parametrize('batch_size', [3, 25])
def test_every_epoch_holds_every_image_once(batch_size):
  n, epochs = 10, 5
  batches = take(training_batches(numbered(n), 256, batch_size, seed=4), -(-n * epochs // batch_size))
  assert all(batch.shape == (batch_size, 2, 3, 1) and batch.dtype == np.float32 for batch in batches)
  order = members(batches)[: n * epochs].reshape(epochs, n)
  np.testing.assert_array_equal(np.sort(order, axis=1), np.broadcast_to(np.arange(n), (epochs, n)))
  assert len(np.unique(order, axis=0)) > 1


@pytest.mark.parametrize(('batch_size', 'flip', 'shift'), [(3, False, 0), (25, True, 2)])
def test_resumed_stream_equals_the_uninterrupted_one(stored, batch_size, flip, shift):
  """Images in a file give the same batches."""
  split = Split(np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8), None)
  moved = {'flip': flip, 'shift': shift}
  whole = take(training_batches(split, 256, batch_size, seed=8, **moved), 12)
  for start in (0, 1, 7):
    for resumed in (split, stored(split)):
      batches = take(training_batches(resumed, 256, batch_size, seed=8, start=start, **moved), 12 - start)
      np.testing.assert_array_equal(np.stack(batches), np.stack(whole[start:]))


def test_far_start_repeats_and_computes_nothing_before_it():
  """A hundred million epochs on: computing what comes before would take days."""
  split, far = numbered(10), 10**8
  first = take(training_batches(split, 256, 10, seed=1, start=far), 3)
  second = take(training_batches(split, 256, 10, seed=1, start=far + 1), 2)
  np.testing.assert_array_equal(np.stack(first[1:]), np.stack(second))
  np.testing.assert_array_equal(np.sort(members(first[:1])), np.arange(10))


def test_seeds_differ_and_repeat():
  """Seeds beyond 32 bits must not be cut down to 32."""
  first, same, *others = (take(training_batches(numbered(50), 256, 50, seed), 1) for seed in (2, 2, 3, 2 + 2**32))
  np.testing.assert_array_equal(first, same)
  for other in others:
    assert not np.array_equal(members(first), members(other))


def test_order_is_uniform_over_permutations():
  n, epochs = 4, 6_000
  order = members(take(training_batches(numbered(n, (1, 1, 1)), 256, n * 100, seed=5), epochs // 100)).reshape(
    epochs, n
  )
  counts = [np.all(order == permutation, axis=1).sum() for permutation in itertools.permutations(range(n))]
  assert sum(counts) == epochs
  assert stats.chisquare(counts).pvalue > 1e-3


def test_training_noise_is_uniform_and_fresh_and_images_stay_below_one():
  """Without the bound on the noise, about 8 of a million draws at level 255 would be rounded up to 1.0."""
  split = Split(np.full((10, 100, 100, 1), 255, np.uint8), None)
  batch, second = take(training_batches(split, 256, 100, seed=0), 2)
  assert 1 - 2**-15 < batch.max() < 1
  for noise in (batch[0], second[0]):
    assert stats.kstest(noise.astype(np.float64).ravel() * 256 - 255, 'uniform').pvalue > 1e-3
  assert stats.pearsonr(batch[0].ravel(), second[0].ravel()).pvalue > 1e-3


def test_flips_mirror_half_of_the_images_and_nothing_else():
  image = np.arange(12, dtype=np.uint8).reshape(1, 2, 3, 2)
  split = Split(np.repeat(image, 400, axis=0), None)
  (batch,) = take(training_batches(split, 256, 400, seed=7, flip=True), 1)
  k = np.floor(batch * 256).astype(np.uint8)
  is_plain, is_mirrored = (np.all(k == kind, axis=(1, 2, 3)) for kind in (image, image[:, :, ::-1]))
  assert np.all(is_plain ^ is_mirrored)
  assert stats.binomtest(int(is_mirrored.sum()), 400).pvalue > 1e-3
  (unflipped,) = take(training_batches(split, 17, 400, seed=7), 1)
  np.testing.assert_array_equal(np.floor(unflipped * 17), split.images)


def test_shifts_move_images_by_whole_pixels_with_equal_probability():
  image = np.arange(1, 21, dtype=np.uint8).reshape(1, 4, 5, 1)
  split = Split(np.repeat(image, 900, axis=0), None)
  condition = conditions.UpperHalf('mask:half', 256, (4, 5, 1), shape=(4, 5, 1))
  batch, given = next(training_batches(split, 256, 900, 7, condition=condition, shift=1).as_numpy_iterator())
  k = np.floor(batch * 256).astype(np.uint8)
  np.testing.assert_allclose(given[:, :2] * 256, k[:, :2] + 0.5, rtol=1e-5)  # The condition is computed afterwards.
  around = np.pad(image[0], ((1, 1), (1, 1), (0, 0)), mode='edge')
  moved = [around[1 - y : 5 - y, 1 - x : 6 - x] for y in (-1, 0, 1) for x in (-1, 0, 1)]
  counts = [int(np.all(k == expected, axis=(1, 2, 3)).sum()) for expected in moved]
  assert sum(counts) == 900 and stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize('order', ['C', 'F'])
def test_images_in_a_file_are_read_without_parsing_its_header_again(tmp_path, monkeypatch, order):
  images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 3), np.uint8)
  np.save(tmp_path / 'images.npy', np.asarray(images, order=order))
  stored = StoredImages(tmp_path / 'images.npy')
  monkeypatch.setattr('ast.literal_eval', None)
  np.testing.assert_array_equal(stored[[3, 0]], images[[3, 0]])
  np.testing.assert_array_equal(np.asarray(stored), images)


@pytest.mark.parametrize(('in_file', 'num_shards', 'flip'), [(False, 1, True), (False, 3, True), (True, 2, False)])
def test_workers_share_the_batch_of_a_single_one(stored, monkeypatch, in_file, num_shards, flip):
  split = Split(np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8), None)
  whole = np.stack(take(training_batches(split, 256, 12, seed=8, start=3, flip=flip), 5))
  split, read = stored(split) if in_file else split, set()
  original = StoredImages.__getitem__
  monkeypatch.setattr(StoredImages, '__getitem__', lambda self, index: read.add(len(index)) or original(self, index))
  shares = [
    np.stack(take(training_batches(split, 256, 12, 8, 3, flip, shard=shard, num_shards=num_shards), 5))
    for shard in range(num_shards)
  ]
  together = np.stack(shares, axis=2)  # [step, row of the share, shard, ...]
  np.testing.assert_array_equal(together.reshape(whole.shape), whole)
  assert read == ({12 // num_shards} if in_file else set())  # A worker reads its own share alone.


def test_impossible_shares_starts_and_shifts_are_rejected():
  of_six = {'num_shards': 4}, {'shard': 2, 'num_shards': 2}, {'start': -1}, {'shift': -1}
  for n, wrong in (*((6, wrong) for wrong in of_six), (0, {})):
    with pytest.raises(ValueError, match='`num_shards` must divide `batch_size`'):
      training_batches(numbered(n), 256, 6, seed=0, **wrong)
