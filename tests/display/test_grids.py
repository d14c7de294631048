"""Grids of images."""

import numpy as np
import pytest

from flowgan_tf.display.grids import image_grid, neighbor_grid

LINE, PAPER = 110, 255


@pytest.mark.parametrize('channels', [1, 3])
def test_geometry(channels):
  """Five images of 2 x 3 pixels, two in a row, each pixel as 2 x 2."""
  images = np.random.default_rng(0).random((5, 2, 3, channels))
  grid = image_grid(images, columns=2, tile=5)
  height, width = 3 * (4 + 2) + 2, 2 * (6 + 2) + 2
  assert grid.shape == (height, width, channels) and grid.dtype == np.uint8
  unseen = np.ones(grid.shape[:2], bool)
  for i, image in enumerate(images):
    y, x = 2 + (i // 2) * 6, 2 + (i % 2) * 8
    tile = grid[y : y + 4, x : x + 6]
    np.testing.assert_array_equal(tile, np.rint(255 * np.kron(image, np.ones((2, 2, 1)))))
    unseen[y : y + 4, x : x + 6] = False
  assert np.all(grid[unseen] == LINE)
  # By default as many rows as columns, or one fewer; small images are enlarged, and large ones are not shrunk.
  assert image_grid(np.zeros((5, 10, 4, 1))).shape == (2 * 62 + 2, 3 * 26 + 2, 1)
  assert image_grid(np.zeros((1, 70, 80, 3))).shape == (74, 84, 3)


def test_values_outside_of_the_unit_interval():
  values = np.array([0.0, 1.0, -0.5, 1.5, 0.5, np.nan, np.inf, -np.inf, 1e30]).reshape(9, 1, 1, 1)
  greys = image_grid(values, columns=9, tile=1)[2, 2::3, 0]
  np.testing.assert_array_equal(greys, [0, 255, 0, 255, 128, 128, 128, 128, 255])


@pytest.mark.parametrize('channels', [1, 3])
def test_sample_first_then_its_neighbours(channels):
  """Five samples of 32 x 32 pixels, each drawn as 2 x 2, with two neighbours: two columns, of three and two samples."""
  n, k, size, step, gap = 5, 2, 64, 66, 10
  images = np.random.default_rng(0).random((n, 32, 32, channels))
  neighbors = np.random.default_rng(1).random((n, k, 32, 32, channels))
  picture = neighbor_grid(images, neighbors)
  column = (step + 2) + gap + (k * step + 2)
  assert picture.shape == (3 * step + 2, 2 * column + 4 * gap, channels) and picture.dtype == np.uint8
  unseen = np.ones(picture.shape[:2], bool)
  for i in range(n):
    left, y = (i // 3) * (column + 4 * gap), 2 + (i % 3) * step
    starts = [left + 2] + [left + step + 2 + gap + 2 + j * step for j in range(k)]
    for x, image in zip(starts, [images[i], *neighbors[i]], strict=True):
      expected = np.rint(255 * np.kron(image, np.ones((2, 2, 1))))
      np.testing.assert_array_equal(picture[y : y + size, x : x + size], expected)
      unseen[y : y + size, x : x + size] = False
  # Between sample and neighbours, between the columns, and where the sixth sample would be.
  for paper in (picture[:, step + 2 :][:, :gap], picture[:, column:][:, : 4 * gap], picture[2 * step + 2 :, column:]):
    assert np.all(paper == PAPER)
  assert set(np.unique(picture[unseen])) == {LINE, PAPER}


@pytest.mark.parametrize(('n', 'k', 'rows', 'columns'), [(8, 5, 8, 1), (64, 5, 16, 4), (3, 1, 2, 2)])
def test_many_samples_take_several_columns(n, k, rows, columns):
  picture = neighbor_grid(np.zeros((n, 28, 28, 1)), np.zeros((n, k, 28, 28, 1)))
  column = (58 + 2) + 10 + (k * 58 + 2)
  assert picture.shape == (rows * 58 + 2, columns * column + (columns - 1) * 40, 1)
