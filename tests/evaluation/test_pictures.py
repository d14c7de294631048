"""Grids, and what the pictures of a run show of a flow; test_sample.py tests them on runs."""

import math
import types

import keras
import numpy as np
import pytest

from flowgan_tf import data, flows
from flowgan_tf.errors import UsageError
from flowgan_tf.evaluation import pictures
from flowgan_tf.evaluation.pictures import Rows, image_grid, neighbor_grid, rows_of_classes, rows_of_images, rows_of_run
from flowgan_tf.flows.prior import sample_noise

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


# Pictures of a conditional run.


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
  assert np.all(picture[:, step + 2 :][:, :gap] == PAPER)


def test_vectors_are_not_drawn_and_images_of_other_ranges_are_scaled():
  samples, originals = np.zeros((4, 64, 64, 1)), np.ones((2, 64, 64, 1))
  pictured = Rows(np.zeros((2, 5)), np.arange(2), originals).draw(samples, 2)
  np.testing.assert_array_equal(pictured, Rows(np.zeros((2, 64, 64, 2)), np.arange(2), originals).draw(samples, 2))
  assert pictured.shape == (2 * 66 + 2, 2 * 66 + 2 + 10 + 68, 1)
  conditions = np.array([-3.0, 1.0]).reshape(2, 1, 1, 1) * np.ones((2, 64, 64, 1))
  pictured = Rows(conditions, np.arange(2), originals).draw(samples, 2)
  assert np.all(pictured[2:66, 2:66] == 0) and np.all(pictured[68:132, 2:66] == 255)


def test_the_rows_of_many_classes_and_images_are_spread():
  np.testing.assert_array_equal(rows_of_classes(3, 10).conditions, [0, 1, 2])
  np.testing.assert_array_equal(rows_of_classes(100, 10).conditions, [0, 11, 22, 33, 44, 55, 66, 77, 88, 99])
  images = np.random.default_rng(0).integers(0, 17, (50, 4, 6, 1), np.uint8)
  split = data.Split(images, None)
  dataset = data.Dataset('toy', 17, split, split, split, None)
  rows = rows_of_images(data.make_condition('low_resolution:2', dataset), split)
  np.testing.assert_array_equal(rows.indices, [0, 7, 14, 21, 28, 35, 42, 49])
  np.testing.assert_allclose(rows.originals, (images[::7] + 0.5) / 17, rtol=1e-6)
  means = rows.originals.reshape(8, 2, 2, 3, 2, 1).mean(axis=(2, 4))
  np.testing.assert_allclose(rows.conditions, means, rtol=1e-5)
  np.testing.assert_array_equal(rows.each(2)[3], rows.conditions[1])
  np.testing.assert_array_equal(rows.first(9).indices, [*rows.indices, 0])


def conditional(**arguments):
  """A run whose flow heeds its conditions."""
  keras.utils.set_random_seed(0)
  flow = flows.nice((4, 4, 1), hidden_units=4, hidden_layers=1, **arguments)
  for variable in flow.trainable_variables:
    variable.assign_add(np.random.default_rng(0).normal(0, 0.3, variable.shape))
  return types.SimpleNamespace(generator=flow, workdir='runs/x')


@pytest.fixture(scope='module')
def classes():
  return conditional(classes=3, components=6)


def test_each_row_has_the_samples_of_a_class(classes):
  picture = pictures.samples(classes, 5, 2, 0.5, rows_of_run(classes))
  labels = np.repeat(np.arange(3), 5)
  np.testing.assert_array_equal(picture.arrays['labels'], labels)
  noise = sample_noise(classes.generator.distribution, 15, [2, 0], 0.5, labels)
  np.testing.assert_allclose(picture.arrays['noise'], noise, rtol=1e-6)
  images = classes.generator.decode(noise, condition=labels)
  np.testing.assert_allclose(picture.arrays['images'], images, atol=1e-6)
  assert np.abs(images - classes.generator.decode(noise, condition=(labels + 1) % 3)).max() > 0.01
  np.testing.assert_array_equal(picture.grid, image_grid(picture.arrays['images'], columns=5))


def test_a_single_label_or_vector_gives_a_square_grid(classes):
  vectors = conditional(condition_shape=(2,))
  for run, rows, name in (
    (classes, rows_of_run(classes, label=1), 'labels'),
    (vectors, rows_of_run(vectors, vector=[0.5, 1.25]), 'conditions'),
  ):
    picture = pictures.samples(run, 9, seed=2, rows=rows)
    given = picture.arrays[name]
    np.testing.assert_array_equal(given, np.broadcast_to(1 if name == 'labels' else [0.5, 1.25], given.shape))
    images = run.generator.decode(picture.arrays['noise'], condition=given)
    np.testing.assert_allclose(picture.arrays['images'], images, atol=1e-6)
    np.testing.assert_array_equal(picture.grid, image_grid(picture.arrays['images'], columns=3))


def test_both_ends_of_a_row_have_the_same_label(classes):
  picture = pictures.interpolations(classes, 4, seed=2, rows=rows_of_run(classes))
  labels, noise = np.array([0, 1, 2, 0]), picture.arrays['noise'].reshape(4, 10, 4, 4, 1)
  np.testing.assert_array_equal(picture.arrays['labels'], np.repeat(labels, 10))
  ends = sample_noise(classes.generator.distribution, 8, [2, 0], 1.0, np.tile(labels, 2))
  np.testing.assert_allclose(noise[:, 0], ends[:4], atol=1e-5)
  np.testing.assert_allclose(noise[:, 9], ends[4:], atol=1e-5)
  images = classes.generator.decode(picture.arrays['noise'], condition=picture.arrays['labels'])
  np.testing.assert_allclose(picture.arrays['images'], images, atol=1e-6)


def test_conditions_that_a_run_does_not_have_are_refused(run, classes):
  vectors = conditional(condition_shape=(2,))
  run.workdir = 'runs/x'
  assert rows_of_run(run) is None
  for found, given, said in (
    (run, {'label': 1}, r'^`label` must be left out, as runs/x has no labels\. Got: 1\.$'),
    (classes, {'label': 3}, r'^`label` must be from 0 to 2, as runs/x has 3 classes\. Got: 3\.$'),
    (classes, {'vector': [1.0]}, r'^`condition` must be left out, as runs/x is not conditioned on vectors\.'),
    (vectors, {'vector': [1.0]}, r'^`condition` must be 2 finite numbers, as .* Got: \[1\.0\]\.$'),
    (vectors, {'vector': [1.0, math.nan]}, r'^`condition` must be 2 finite numbers'),
    (vectors, {'label': 1}, r'has no labels'),
  ):
    with pytest.raises(UsageError, match=said):
      rows_of_run(found, **given)
