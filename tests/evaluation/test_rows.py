"""The rows of pictures, each with a condition of its own."""

import types

import numpy as np
import pytest
from PIL import Image

from flowgan_tf import data
from flowgan_tf.base.errors import UsageError
from flowgan_tf.evaluation.rows import Rows, row_of_file, rows_of


def test_condition_samples_and_original_lie_side_by_side():
  """Two rows of grey images of 32 x 32 pixels, each drawn as 2 x 2, for colour conditions of 8 x 16."""
  rng = np.random.default_rng(0)
  samples, originals, conditions = rng.random((6, 32, 32, 1)), rng.random((2, 32, 32, 1)), rng.random((2, 8, 16, 3))
  picture = Rows(conditions, np.arange(2), originals).draw(samples, 3)
  size, step, gap = 64, 66, 10
  assert picture.shape == (2 * step + 2, (step + 2) + gap + (3 * step + 2) + gap + (step + 2), 3)
  starts = [2, *(step + 2 + gap + 2 + i * step for i in range(3)), 4 * step + 4 + 2 * gap + 2]
  for row in range(2):
    # Each pixel of the condition covers 4 x 2 pixels of an image.
    enlarged = np.kron(conditions[row], np.ones((4, 2, 1)))
    for x, image in zip(starts, [enlarged, *samples[3 * row : 3 * row + 3], originals[row]], strict=True):
      tile = picture[2 + row * step :][:size, x : x + size]
      np.testing.assert_array_equal(
        tile, np.broadcast_to(np.rint(255 * np.kron(image, np.ones((2, 2, 1)))), tile.shape)
      )
  assert np.all(picture[:, step + 2 :][:, :gap] == 255)


def test_vectors_are_not_drawn_and_images_of_other_ranges_are_scaled():
  samples, originals = np.zeros((4, 64, 64, 1)), np.ones((2, 64, 64, 1))
  pictured = Rows(np.zeros((2, 5)), np.arange(2), originals).draw(samples, 2)
  np.testing.assert_array_equal(pictured, Rows(np.zeros((2, 64, 64, 2)), np.arange(2), originals).draw(samples, 2))
  assert pictured.shape == (2 * 66 + 2, 2 * 66 + 2 + 10 + 68, 1)
  conditions = np.array([-3.0, 1.0]).reshape(2, 1, 1, 1) * np.ones((2, 64, 64, 1))
  pictured = Rows(conditions, np.arange(2), originals).draw(samples, 2)
  assert np.all(pictured[2:66, 2:66] == 0) and np.all(pictured[68:132, 2:66] == 255)


def test_the_rows_of_many_classes_and_images_are_spread():
  for classes, expected in ((3, [0, 1, 2]), (100, [0, 11, 22, 33, 44, 55, 66, 77, 88, 99])):
    split = data.Split(np.zeros((classes, 4, 6, 1)), np.arange(classes))
    dataset = data.Dataset('toy', 17, split, split, split, classes, condition_kind='label')
    np.testing.assert_array_equal(rows_of(dataset, 'test', 10).conditions, expected)
  images = np.random.default_rng(0).integers(0, 17, (50, 4, 6, 1), np.uint8)
  split = data.Split(images, None)
  rows = rows_of(data.Dataset('toy', 17, split, split, split, None, condition_kind='low_resolution:2'), 'test', 10)
  np.testing.assert_array_equal(rows.indices, [0, 7, 14, 21, 28, 35, 42, 49])
  np.testing.assert_allclose(rows.originals, (images[::7] + 0.5) / 17, rtol=1e-6)
  means = rows.originals.reshape(8, 2, 2, 3, 2, 1).mean(axis=(2, 4))
  np.testing.assert_allclose(rows.conditions, means, rtol=1e-5)
  np.testing.assert_array_equal(rows.each(2).conditions[3], rows.conditions[1])
  np.testing.assert_array_equal(rows.first(9).indices, [*rows.indices, 0])


@pytest.mark.parametrize(('kind', 'shape'), [('mask:half', (4, 6, 1)), ('low_resolution:2', (2, 3, 1))])
def test_a_file_is_a_condition(kind, shape, tmp_path, monkeypatch):
  """A small image stays as it is, and of a whole one the lower half does not count."""
  monkeypatch.setattr(
    'flowgan_tf.evaluation.rows.read_description', lambda _: types.SimpleNamespace(data={'levels': 17})
  )
  grey = np.random.default_rng(0).integers(0, 17, shape, np.uint8)
  Image.fromarray(np.rint(grey[..., 0] * (255 / 16)).astype(np.uint8)).save(tmp_path / 'my.png')
  run = types.SimpleNamespace(
    workdir='runs/x',
    image_shape=(4, 6, 1),
    config=types.SimpleNamespace(condition=kind),
    generator=types.SimpleNamespace(condition_shape=shape),
  )
  expected = (grey[np.newaxis] + 0.5) / 17
  if kind == 'mask:half':
    expected[:, 2:] = 0
  rows = row_of_file(run, str(tmp_path / 'my.png'))
  np.testing.assert_allclose(rows.conditions, expected, rtol=1e-6)
  assert rows.originals is None
  run.config.condition = 'vector'
  with pytest.raises(
    UsageError, match=r'^`condition` must be left out, as runs/x is not conditioned on parts of images'
  ):
    row_of_file(run, str(tmp_path / 'my.png'))
