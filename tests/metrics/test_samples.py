"""Scores of samples, and the reference behind them."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from flowgan_tf import data
from flowgan_tf.metrics import samples
from flowgan_tf.metrics.samples import Reference, Scorer, load_reference, score_samples
from flowgan_tf.metrics.scores import feature_statistics, kernel_distance
from flowgan_tf.metrics.variety import prdc
from tests.metrics.colours import Colours

LEVELS = 256


@pytest.fixture
def images():
  images = np.random.default_rng(0).uniform(0, 0.1, (40, 4, 4, 3))
  images[:20, :2] += 0.5
  images[20:, 2:] += 0.5
  return images


@pytest.fixture
def reference():
  features = np.random.default_rng(1).normal(0.3, 0.02, (60, 3)).astype(np.float32)
  return Reference(feature_statistics(features), features)


def test_scores_by_hand(images, reference):
  scores = Scorer(Colours(), reference)(images)
  # Certain predictions, half of each class: exp(ln 2) by both formulas.
  assert scores['inception_score'] == pytest.approx(2.0) and scores['mode_score'] == pytest.approx(2.0)
  rest = {'score_samples': 40, 'score_splits': 1, 'reference_images': 60, 'classifier_accuracy': 0.75}
  assert scores | rest | {'scorer': 'classifier', 'scorer_hash': '0123456789abcdef'} == scores
  x, y = images.mean(axis=(1, 2)), reference.features.astype(np.float64)
  a, b = np.cov(x.T), np.cov(y.T)
  frechet = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)
  assert scores['fid'] == pytest.approx(frechet, rel=1e-4)


def test_splits_are_scored_apart(images, reference):
  """Each of two splits has a single class: Inception 1, MODE exp(ln 2 - infinity). FID and KID are of all samples."""
  scorer, features = Scorer(Colours(), reference), images.mean(axis=(1, 2)).astype(np.float32)
  whole, split = scorer(images), scorer(images, splits=2)
  assert (split['inception_score'], split['mode_score'], split['score_splits']) == (pytest.approx(1.0), 0.0, 2)
  assert split['fid'] == whole['fid'] and split['kid'] != whole['kid']
  for scores, subsets in ((whole, 10), (split, 20)):
    assert (scores['kid'], scores['kid_std']) == kernel_distance(features, reference.features, subsets=subsets)


def test_a_network_that_does_not_know_the_labels(images, reference):
  scorer = Scorer(Colours(name='inception_v3', test_accuracy=None, label_distribution=None), reference)
  assert scorer.selection == 'inception_score' and Scorer(Colours(), reference).selection == 'mode_score'
  assert not {'mode_score', 'classifier_accuracy'} & scorer(images).keys()


def test_labels_that_were_asked_for(images, reference):
  """The upper half is brighter for label 1. An FID within classes needs features of each class."""
  labels = np.repeat([1, 0], 20)
  found = Scorer(Colours(), reference)(images, labels=labels)
  assert (found['label_share'], found['label_shares']) == (1.0, [1.0, 1.0]) and 'class_fid' not in found
  assert Scorer(Colours(), reference)(images, labels=1 - labels)['label_share'] == 0.0
  assert not [name for name in Scorer(Colours(), reference)(images) if 'label' in name]
  of_classes = reference._replace(class_features=(reference.features, reference.features))
  assert 'class_fid' not in Scorer(Colours(), of_classes)(np.repeat(images, 3, axis=0), labels=np.repeat(labels, 3))
  found = Scorer(Colours(), of_classes, thorough=True)(np.repeat(images, 3, axis=0), labels=np.repeat(labels, 3))
  assert (found['class_fid_samples'], found['class_fid_references']) == (60, 60) and found['worst_class_fid'] > 0
  # A network that does not know the labels needs another one for them.
  blind = Colours(name='inception_v3', label_distribution=None)
  assert 'label_share' not in Scorer(blind, reference)(images, labels=labels)
  found = Scorer(blind, reference, Colours())(images, labels=labels)
  assert (found['label_share'], found['labeller_accuracy']) == (1.0, 0.75)


def test_variety_and_copies_are_measured_if_the_scorer_is_thorough(images, reference, monkeypatch):
  """Against as many training images. Of the 40 samples 30 are nearer than any of 99 held-out images."""
  x = images.mean(axis=(1, 2)).astype(np.float32)
  distances = np.sort(np.linalg.norm(x[:, np.newaxis] - reference.features, axis=2).min(axis=1))
  reference = reference._replace(held_out_distances=np.full(99, distances[29:31].mean()))
  found = Scorer(Colours(), reference, thorough=True)(images)
  expected = prdc(x, reference.features[:40], 5)._asdict() | {'prdc_images': 40}
  expected |= {'near_copies': 0.75, 'copied_from': 60, 'held_out_images': 99}
  assert found | expected == found and 0.06 < found['near_copies_error'] < 0.08
  assert not expected.keys() & Scorer(Colours(), reference)(images).keys()
  monkeypatch.setattr(samples, '_MOST_OF_PRDC', 20)
  assert Scorer(Colours(), reference, thorough=True)(images)['recall'] == prdc(x[:20], reference.features[:20]).recall
  few = Reference(reference.statistics, reference.features[:5], held_out_distances=np.ones(98))
  assert not expected.keys() & Scorer(Colours(), few, thorough=True)(images).keys()


# The reference.


def colours(name='colours', seed=0, train=40):
  rng = np.random.default_rng(seed)
  splits = (data.Split(rng.integers(0, LEVELS, (n, 4, 5, 3)).astype(np.uint8), None) for n in (train, 7, 9))
  return data.Dataset(name, LEVELS, *splits, None)


@pytest.mark.parametrize(('values', 'chunks'), [(10_000, [40, 9]), (1000, [16, 16, 8, 9])])  # 60 values in an image
def test_reference_is_of_the_training_images_in_order_with_noise_of_their_own(tmp_path, monkeypatch, values, chunks):
  """All features make the statistics. Some are kept; they must not be of the first class of a sorted folder."""
  monkeypatch.setattr(samples, '_CHUNK_VALUES', values)
  monkeypatch.setattr(samples, '_KEPT_FEATURES', 6)
  dataset, network = colours(), Colours()
  reference = load_reference(dataset, network, tmp_path)
  assert [len(images) for images in network.seen] == chunks
  images = np.concatenate(network.seen)
  both = np.concatenate([dataset.train.images, dataset.test.images])
  np.testing.assert_array_equal(np.floor(LEVELS * images), both)
  noise = (LEVELS * images % 1).reshape(49, -1)
  assert len(np.unique(noise[:, :4], axis=0)) == 49 and scipy.stats.kstest(noise.ravel(), 'uniform').pvalue > 1e-3
  features, held_out = np.split(images.mean(axis=(1, 2), dtype=np.float64), [40])
  distances = np.abs(features[:, np.newaxis] - reference.features).max(axis=2)
  kept = distances.argmin(axis=0)
  assert distances.min(axis=0).max() < 1e-6 and len(set(kept)) == 6 and kept.max() > 20
  np.testing.assert_allclose(reference.statistics.mean, features.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(reference.statistics.covariance, np.cov(features, rowvar=False), rtol=1e-4, atol=1e-9)
  nearest = np.linalg.norm(held_out[:, np.newaxis] - reference.features, axis=2).min(axis=1)
  np.testing.assert_allclose(reference.held_out_distances, nearest, rtol=1e-4)
  assert (reference.features.dtype, reference.statistics.n) == (np.float32, 40)
  assert Scorer(network, reference)(data.dequantize(dataset.train.images, LEVELS, 5))['fid'] < 1e-3


@pytest.mark.parametrize(('most', 'kept'), [(30, 100), (100, 20), (100, 100)])
def test_reference_by_class(tmp_path, monkeypatch, most, kept):
  """The same features as without classes, from the same file."""
  monkeypatch.setattr(samples, '_KEPT_FEATURES', kept)
  monkeypatch.setattr(samples, '_MOST_IMAGES', most)
  plain = colours()
  train = dataclasses.replace(plain.train, labels=np.arange(40) % 3)
  dataset, network = dataclasses.replace(plain, train=train, num_classes=3), Colours()
  reference = load_reference(dataset, network, tmp_path)
  by_class = load_reference(dataset, network, tmp_path, by_class=True)
  np.testing.assert_array_equal(by_class.features, reference.features)
  assert sum(map(len, by_class.class_features)) == len(by_class.features) == min(most, kept, 40)
  for label, features in enumerate(by_class.class_features):
    colours_of_class = train.images[train.labels == label].mean(axis=(1, 2)) / LEVELS
    distances = np.abs(features[:, np.newaxis] - colours_of_class).max(axis=2).min(axis=1)
    assert distances.max() < 1 / LEVELS  # Half a level on average is the noise.
  assert len(network.seen) == 2 and len(list(tmp_path.iterdir())) == 1 and reference.class_features == ()


def test_of_very_many_images_a_random_part_counts(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(samples, '_MOST_IMAGES', 30)
  dataset, network = colours(), Colours()
  with caplog.at_level('INFO', logger='flowgan_tf.metrics'):
    reference = load_reference(dataset, network, tmp_path)
  assert caplog.messages == ['Computing classifier features of 30 of the 40 train images of colours.']
  assert reference.statistics.n == 30 and '-train30-' in next(tmp_path.iterdir()).name
  images, _ = network.seen  # The others are test images.
  seen = [image.tobytes() for image in np.floor(LEVELS * images).astype(np.uint8)]
  found = {[image.tobytes() for image in dataset.train.images].index(image) for image in seen}
  assert len(found) == 30 and max(found) > 30


def test_each_network_and_data_set_has_a_file_which_the_second_call_reads(tmp_path):
  network, dataset = Colours(), colours(name='../my data/v1.0')
  first, second = (load_reference(dataset, network, tmp_path) for _ in range(2))
  assert len(network.seen) == 2
  [path] = tmp_path.iterdir()
  assert path.name == f'reference--my-data-v1-0-train-{dataset.fingerprint[:12]}-classifier-{network.hash}-v3.npz'
  arrays = [(*reference.statistics, reference.features, reference.held_out_distances) for reference in (first, second)]
  for array, same in zip(*arrays, strict=True):
    np.testing.assert_array_equal(array, same)
  assert (second.features.dtype, type(second.statistics.n)) == (np.float32, int)
  variants = [(colours(), '01'), (colours(), '23'), (colours(name='others'), '01'), (colours(seed=1), '01')]
  for number, (other, hash_) in enumerate(variants, 2):
    load_reference(other, Colours(hash=hash_), tmp_path)
    assert len(list(tmp_path.iterdir())) == number


# Samples.


def scorer(images, splits=1):
  """Stands for a `Scorer`."""
  return {'mode_score': float(images.mean()), 'score_splits': splits}


def test_health_by_hand_stands_beside_the_scores():
  """Three samples of 2 x 1 pixels, with population standard deviations sqrt(1/6) and sqrt(0.06)."""
  images = np.array([[0.0, 0.2], [0.5, 0.5], [1.0, 0.8]]).reshape(3, 2, 1, 1)
  std = (np.sqrt(1 / 6) + np.sqrt(0.06)) / 2
  health = {'saturated': pytest.approx(2 / 6), 'non_finite': 0.0, 'sample_std': pytest.approx(std)}
  assert score_samples(images, None) == health
  assert score_samples(images, scorer, splits=2) == health | {'mode_score': pytest.approx(0.5), 'score_splits': 2}


@pytest.mark.parametrize(('value', 'saturated'), [(-3, 1), (5e-7, 1), (2e-6, 0), (1 - 2e-6, 0), (1 - 5e-7, 1), (7, 1)])
def test_saturation_is_at_and_beyond_the_borders(value, saturated):
  assert score_samples(np.full((2, 2, 2, 1), float(value)), None)['saturated'] == saturated


def test_non_finite_pixels_are_counted_do_not_spread_and_prevent_scores():
  images = np.full((4, 2, 2, 1), 0.5)
  images[0, 0, 0, 0], images[2, 1, 1, 0] = np.nan, np.inf
  assert score_samples(images, scorer) == {'saturated': 0.0, 'non_finite': 2 / 16, 'sample_std': 0.0}


def test_of_many_test_images_those_held_out_are_drawn_at_random(tmp_path, monkeypatch):
  """The first ones of a sorted folder would be of one class."""
  monkeypatch.setattr(samples, '_HELD_OUT', 5)
  dataset, network = colours(), Colours()
  reference = load_reference(dataset, network, tmp_path)
  seen = np.floor(LEVELS * network.seen[-1])
  position = (seen[:, np.newaxis] == dataset.test.images).all(axis=(2, 3, 4)).argmax(axis=1)
  assert len(set(position)) == len(reference.held_out_distances) == 5 and max(position) > 4
