import errno
import os

import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.evaluation.grids import image_grid, neighbor_grid, save_png

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


@pytest.mark.parametrize(('n', 'rows', 'columns'), [(1, 1, 1), (2, 1, 2), (4, 2, 2), (5, 2, 3), (64, 8, 8), (65, 8, 9)])
def test_about_as_many_rows_as_columns(n, rows, columns):
  grid = image_grid(np.zeros((n, 10, 4, 1)), tile=10)
  assert grid.shape == (rows * 12 + 2, columns * 6 + 2, 1)


def test_large_images_are_not_shrunk():
  assert image_grid(np.zeros((1, 70, 80, 3))).shape == (74, 84, 3)
  assert image_grid(np.zeros((1, 28, 28, 3))).shape == (60, 60, 3)


def test_cifar_images_are_enlarged():
  assert image_grid(np.zeros((64, 32, 32, 3))).shape == (8 * 66 + 2, 8 * 66 + 2, 3)


@pytest.mark.parametrize(
  ('value', 'grey'),
  [(0.0, 0), (1.0, 255), (-0.5, 0), (1.5, 255), (0.5, 128), (np.nan, 128), (np.inf, 128), (-np.inf, 128), (1e30, 255)],
)
def test_values_outside_of_the_unit_interval(value, grey):
  assert image_grid(np.full((1, 1, 1, 1), value), tile=1)[2, 2, 0] == grey


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


@pytest.mark.parametrize(
  ('n', 'k', 'rows', 'columns'), [(1, 5, 1, 1), (4, 5, 4, 1), (8, 5, 8, 1), (16, 5, 8, 2), (64, 5, 16, 4), (3, 1, 2, 2)]
)
def test_many_samples_take_several_columns(n, k, rows, columns):
  picture = neighbor_grid(np.zeros((n, 28, 28, 1)), np.zeros((n, k, 28, 28, 1)))
  column = (58 + 2) + 10 + (k * 58 + 2)
  assert picture.shape == (rows * 58 + 2, columns * column + (columns - 1) * 40, 1)


def test_neighbours_that_are_not_of_the_samples():
  for shape in [(3, 5, 4, 4, 1), (2, 5, 4, 4, 3), (2, 4, 4, 1)]:
    with pytest.raises(ValueError, match=r'`neighbors` must have shape .*Got: '):
      neighbor_grid(np.zeros((2, 4, 4, 1)), np.zeros(shape))


@pytest.mark.parametrize('channels', [1, 3])
def test_png_reads_back(tmp_path, channels):
  pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels)).astype(np.uint8)
  save_png(pixels, tmp_path / 'grid.png')
  np.testing.assert_array_equal(tf.io.decode_png((tmp_path / 'grid.png').read_bytes()), pixels)


def test_a_png_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
  pixels = np.zeros((5, 7, 1), np.uint8)
  save_png(pixels, tmp_path / 'grid.png')
  kept = (tmp_path / 'grid.png').read_bytes()

  def fail(*paths):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(UsageError, match=r'grid\.png: cannot be written \(No space left on device\)$'):
    save_png(pixels + 1, tmp_path / 'grid.png')
  assert [path.name for path in tmp_path.iterdir()] == ['grid.png'] and (tmp_path / 'grid.png').read_bytes() == kept
  with pytest.raises(UsageError, match=r'nowhere/grid\.png: cannot be written'):
    save_png(pixels, tmp_path / 'nowhere' / 'grid.png')
