"""What the pictures of a run show of a flow; test_sample.py tests them on runs."""

import dataclasses
import math
import types

import keras
import numpy as np
import pytest

from flowgan_tf import data, flows
from flowgan_tf.base.errors import UsageError
from flowgan_tf.display.grids import image_grid
from flowgan_tf.evaluation import pictures
from flowgan_tf.evaluation.rows import PLAIN, rows_of_run
from flowgan_tf.flows.prior import tempered


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


def test_samples_that_are_not_finite_are_counted(run, caplog):
  wide = types.SimpleNamespace(generator=run.generator.copy(), workdir='runs/wide')
  weight = run.generator.trainable_variables[0]
  before = weight.numpy()
  weight.assign(np.full(weight.shape, np.nan))
  pictures.samples(wide, 3, seed=2)
  weight.assign(before)
  assert 'runs/wide: 3 of 3 samples are not finite numbers.' in caplog.text


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
  noise = tempered(classes.generator.distribution, 0.5).sample(15, seed=[2, 0], label=labels)
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
  ends = classes.generator.distribution.sample(8, seed=[2, 0], label=np.tile(labels, 2))
  np.testing.assert_allclose(noise[:, 0], ends[:4], atol=1e-5)
  np.testing.assert_allclose(noise[:, 9], ends[4:], atol=1e-5)
  images = classes.generator.decode(picture.arrays['noise'], condition=picture.arrays['labels'])
  np.testing.assert_allclose(picture.arrays['images'], images, atol=1e-6)


def labelled_split(seed, n=30):
  rng = np.random.default_rng(seed)
  return data.Split(rng.integers(0, 17, (n, 4, 4, 1), np.uint8), rng.integers(0, 3, n))


def test_neighbours_of_a_class_are_of_that_class_and_so_are_the_test_images(classes, monkeypatch):
  train, test = labelled_split(0), labelled_split(1)
  dataset = data.Dataset('toy', 17, train, test, test, 3, condition_kind='label')
  monkeypatch.setattr(pictures, 'load_data', lambda run: dataset)
  picture = pictures.neighbors(classes, 4, seed=2, rows=rows_of_run(classes, label=1))
  training, own = (train.images[train.labels == 1] + 0.5) / 17, test.images[test.labels == 1]
  images, positions = np.clip(picture.arrays['images'], 0, 1), np.flatnonzero(train.labels == 1)

  def distances(first):
    return np.sqrt(np.mean((first[:, np.newaxis] - training) ** 2, axis=(2, 3, 4)))

  order = np.argsort(distances(images), axis=1)[:, :5]
  np.testing.assert_array_equal(picture.arrays['neighbor_indices'], positions[order])
  of_samples = np.median(distances(images).min(axis=1))
  of_test = np.median(distances(data.dequantize(own, 17, 2)).min(axis=1))
  assert f': {of_samples:.4f} for samples, {of_test:.4f} for {len(own)} test images of class 1 ' in picture.note


def test_rows_of_conditions_are_those_of_test_images(monkeypatch):
  vectors = conditional(condition_shape=(2,))
  splits = [dataclasses.replace(labelled_split(i), conditions=np.full((30, 2), i, np.float32)) for i in range(3)]
  dataset = data.Dataset('toy', 17, *splits, None, condition_kind='vector')
  monkeypatch.setattr('flowgan_tf.evaluation.rows.load_data', lambda run: dataset)
  found = rows_of_run(vectors)
  np.testing.assert_array_equal(found.conditions, np.full((8, 2), 2))
  np.testing.assert_allclose(found.originals, (splits[2].images[found.indices] + 0.5) / 17, rtol=1e-6)


def test_conditions_that_a_run_does_not_have_are_rejected(run, classes):
  vectors = conditional(condition_shape=(2,))
  run.workdir = 'runs/x'
  assert rows_of_run(run) == PLAIN and PLAIN.number == 1
  for found, given, said in (
    (run, {'label': 1}, r'^`label` must be left out, as runs/x has no labels\. Got: 1\.$'),
    (classes, {'label': 3}, r'^`label` must be an integer from 0 to 2\. Got: 3\.$'),
    (classes, {'vector': [1.0]}, r'^`condition` must be left out, as runs/x is not conditioned on vectors\.'),
    (vectors, {'vector': [1.0]}, r'^`condition` must be 2 finite numbers, as .* Got: \[1\.0\]\.$'),
    (vectors, {'vector': [1.0, math.nan]}, r'^`condition` must be 2 finite numbers'),
    (vectors, {'label': 1}, r'has no labels'),
  ):
    with pytest.raises(UsageError, match=said):
      rows_of_run(found, **given)
