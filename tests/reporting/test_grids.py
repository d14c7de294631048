import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.reporting.grids import image_grid, save_png

LINE = 110


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


@pytest.mark.parametrize(('n', 'rows', 'columns'), [(1, 1, 1), (2, 1, 2), (4, 2, 2), (5, 2, 3), (64, 8, 8), (65, 8, 9)])
def test_about_as_many_rows_as_columns(n, rows, columns):
  grid = image_grid(np.zeros((n, 10, 4, 1)), tile=10)
  assert grid.shape == (rows * 12 + 2, columns * 6 + 2, 1)


def test_large_images_are_not_shrunk():
  assert image_grid(np.zeros((1, 70, 80, 3))).shape == (74, 84, 3)
  assert image_grid(np.zeros((1, 28, 28, 3))).shape == (60, 60, 3)


@pytest.mark.parametrize(
  ('value', 'grey'),
  [(0.0, 0), (1.0, 255), (-0.5, 0), (1.5, 255), (0.5, 128), (np.nan, 128), (np.inf, 128), (-np.inf, 128), (1e30, 255)],
)
def test_values_outside_of_the_unit_interval(value, grey):
  assert image_grid(np.full((1, 1, 1, 1), value), tile=1)[2, 2, 0] == grey


@pytest.mark.parametrize('channels', [1, 3])
def test_png_reads_back(tmp_path, channels):
  pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels)).astype(np.uint8)
  save_png(pixels, tmp_path / 'grid.png')
  np.testing.assert_array_equal(tf.io.decode_png((tmp_path / 'grid.png').read_bytes()), pixels)
