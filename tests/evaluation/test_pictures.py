"""Grids, and what the pictures of a run show of a flow; test_sample.py tests them on runs."""

import math
import types

import keras
import numpy as np
import pytest

from flowgan_tf import flows
from flowgan_tf.evaluation import pictures
from flowgan_tf.evaluation.pictures import image_grid, neighbor_grid

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


# Pictures of a run.


@pytest.fixture(scope='module')
def run():
  keras.utils.set_random_seed(0)
  flow = flows.nice((4, 4, 1), hidden_units=4, hidden_layers=1)
  for variable in flow.trainable_variables:
    variable.assign_add(np.random.default_rng(0).normal(0, 0.1, variable.shape))
  return types.SimpleNamespace(generator=flow)


@pytest.mark.parametrize('n', [3, 501])  # 501 take two calls.
def test_samples_are_decoded_noise(run, n):
  picture = pictures.samples(run, n, seed=2, temperature=0.5)
  noise = 0.5 * run.generator.distribution.sample(n, seed=[2, 0]).numpy()
  np.testing.assert_allclose(picture.arrays['noise'], noise, rtol=1e-6)
  np.testing.assert_allclose(picture.arrays['images'], run.generator.decode(noise), atol=1e-6)
  np.testing.assert_array_equal(picture.grid, image_grid(picture.arrays['images']))


def test_interpolations_keep_the_variance_of_the_noise(run):
  picture = pictures.interpolations(run, 200, seed=1)
  noise = picture.arrays['noise'].reshape(200, 10, -1)
  np.testing.assert_allclose(noise.std(axis=(0, 2)), math.pi / math.sqrt(3), rtol=0.06)  # That of the logistic.
  np.testing.assert_allclose(picture.arrays['images'], run.generator.decode(picture.arrays['noise']), atol=1e-6)


def test_interpolations_go_from_mean_to_mean():
  flow = flows.nice((4, 4, 1), hidden_units=4, hidden_layers=1, components=3)
  prior = flow.distribution
  prior.means.assign(100.0 * prior.means)
  noise = pictures.interpolations(types.SimpleNamespace(generator=flow), 200, seed=1).arrays['noise']
  noise = noise.reshape(200, 10, 4, 4, 1)
  first, last = np.split(prior.sample_parts(400, seed=[1, 0])[0].numpy(), 2)
  for i in range(10):
    around = noise[:, i] - (first + i / 9 * (last - first))
    np.testing.assert_allclose(around.std(), math.pi / math.sqrt(3), rtol=0.06)
  np.testing.assert_allclose(noise[:, 0], prior.sample(400, seed=[1, 0])[:200], atol=1e-3)
