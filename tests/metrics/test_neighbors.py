import numpy as np
import pytest
from scipy.spatial.distance import cdist

from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import StoredImages, dequantize
from flowgan_tf.metrics import neighbors
from flowgan_tf.metrics.neighbors import nearest_neighbors


def grey_levels(m: int, levels: int = 256, shape=(4, 3, 2), seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, levels, (m, *shape)).astype(np.uint8)


@pytest.mark.parametrize(('block', 'levels'), [(7, 17), (40, 256), (10_000, 17)])
def test_is_scipys_distance_over_the_root_of_the_pixels(monkeypatch, block, levels):
  """This holds also if the training images are searched in blocks, some of them smaller than k."""
  monkeypatch.setattr(neighbors, '_BLOCK', block)
  training = grey_levels(101, levels)
  images = np.random.default_rng(1).random((20, 4, 3, 2)).astype(np.float32)
  found = nearest_neighbors(images, training, levels, k=9)
  distances = cdist(images.reshape(20, -1), (training.reshape(101, -1) + 0.5) / levels) / np.sqrt(24)
  np.testing.assert_array_equal(found.indices, np.argsort(distances, axis=1)[:, :9])
  np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :9], rtol=1e-5)
  assert np.issubdtype(found.indices.dtype, np.integer)


@pytest.mark.parametrize(('offset', 'dtype'), [(0, np.float32), (0, np.float64), (1e-5, np.float64)])
def test_copies_are_found_and_small_distances_keep_their_digits(offset, dtype):
  """||a||^2 + ||b||^2 - 2 ab in float32 would be off by about 1e-4, a million times the square of the offset."""
  training = grey_levels(300, shape=(32, 32, 3))
  found = nearest_neighbors(((training[[250, 3]] + 0.5) / 256 + offset).astype(dtype), training, 256)
  np.testing.assert_array_equal(found.indices[:, 0], [250, 3])
  np.testing.assert_allclose(found.distances[:, 0], offset, rtol=1e-9, atol=1e-12)
  assert np.all(found.distances[:, 1:] > 0.3)


def test_a_dequantised_training_image_is_a_standard_deviation_of_the_noise_away():
  training = grey_levels(50, shape=(32, 32, 3))
  found = nearest_neighbors(dequantize(training, 256, seed=0), training, 256, k=1)
  np.testing.assert_array_equal(found.indices[:, 0], np.arange(50))
  np.testing.assert_allclose(found.distances, 1 / (np.sqrt(12) * 256), rtol=0.05)


def test_duplicates_come_in_the_order_of_the_training_images(monkeypatch):
  monkeypatch.setattr(neighbors, '_BLOCK', 4)
  training = grey_levels(9)
  training[[5, 8]] = training[2]
  found = nearest_neighbors(((training[2:3] + 0.5) / 256).astype(np.float32), training, 256, k=4)
  np.testing.assert_array_equal(found.indices[0, :3], [2, 5, 8])
  assert found.distances[0, 3] > 0.1


IMAGES = np.zeros((2, 4, 3, 2))


@pytest.mark.parametrize(
  ('samples', 'training', 'k', 'message'),
  [
    (IMAGES.astype(np.uint8), grey_levels(9), 5, '`images` must be floats .* Got: uint8'),
    (np.zeros((2, 3, 4, 2)), grey_levels(9), 5, r'`training` must .* \[m, 3, 4, 2\].* Got: .* \(9, 4, 3, 2\)'),
    (IMAGES, IMAGES, 2, '`training` must be uint8 .* Got: float64'),
    (IMAGES, grey_levels(9), 10, '`k` must be an integer from 1 to 9. Got: 10'),
  ],
)
def test_rejects_what_would_find_other_images(samples, training, k, message):
  with pytest.raises(UsageError, match=message):
    nearest_neighbors(samples, training, 256, k)


def test_images_in_a_file_are_searched_block_by_block(tmp_path, monkeypatch):
  training = grey_levels(101, shape=(4, 2, 3))
  np.save(tmp_path / 'training.npy', training)
  images = np.random.default_rng(1).random((20, 4, 2, 3)).astype(np.float32)
  expected = nearest_neighbors(images, training, 256)
  monkeypatch.setattr(neighbors, '_BLOCK_VALUES', 7 * 24)
  monkeypatch.setattr(StoredImages, '__array__', None)
  found = nearest_neighbors(images, StoredImages(tmp_path / 'training.npy'), 256)
  np.testing.assert_array_equal(found.indices, expected.indices)
  np.testing.assert_array_equal(found.distances, expected.distances)
