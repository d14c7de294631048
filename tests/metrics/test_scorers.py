import numpy as np
import pytest
import scipy.linalg

from flowgan_tf import data, metrics
from flowgan_tf.metrics.frechet import feature_statistics
from flowgan_tf.metrics.mmd import kernel_distance
from flowgan_tf.metrics.predictions import Predictions
from flowgan_tf.metrics.reference import Reference
from flowgan_tf.metrics.scorers import Scorer

CERTAIN = np.eye(2)


class Brightness:
  """Sees the mean colour of an image, and whether its upper half is brighter than the lower."""

  name, hash, test_accuracy, label_distribution = 'classifier', '0123456789abcdef', 0.75, np.array([0.5, 0.5])

  def predict(self, images):
    halves = images[:, :2].mean(axis=(1, 2, 3)), images[:, 2:].mean(axis=(1, 2, 3))
    return Predictions(images.mean(axis=(1, 2)).astype(np.float32), CERTAIN[(halves[0] > halves[1]).astype(int)])


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
  scores = Scorer(Brightness(), reference)(images)
  # Certain predictions, half of each class: exp(ln 2) by both formulas.
  assert scores['inception_score'] == pytest.approx(2.0) and scores['mode_score'] == pytest.approx(2.0)
  rest = {'score_samples': 40, 'score_splits': 1, 'reference_images': 60, 'classifier_accuracy': 0.75}
  assert scores | rest | {'scorer': 'classifier', 'scorer_hash': '0123456789abcdef'} == scores
  x, y = images.mean(axis=(1, 2)), reference.features.astype(np.float64)
  a, b = np.cov(x.T), np.cov(y.T)
  frechet = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)
  assert scores['fid'] == pytest.approx(frechet, rel=1e-4)


@pytest.mark.parametrize('splits', [1, 2])
def test_kid_is_the_kernel_distance_to_the_reference(images, reference, splits):
  """There are 10 subsets for each split of the other scores."""
  scores = Scorer(Brightness(), reference)(images, splits)
  features = images.mean(axis=(1, 2)).astype(np.float32)
  expected = kernel_distance(features, reference.features, subsets=10 * splits)
  assert (scores['kid'], scores['kid_std']) == (expected.mean, expected.std)
  assert expected.std > 0 and expected != kernel_distance(features, reference.features, subsets=11 * splits)


def test_splits_are_scored_apart(images, reference):
  """Each of two splits has a single class: Inception 1, MODE exp(ln 2 - infinity). The FID is that of all samples."""
  scorer = Scorer(Brightness(), reference)
  split = scorer(images, splits=2)
  assert (split['inception_score'], split['mode_score'], split['score_splits']) == (pytest.approx(1.0), 0.0, 2)
  assert split['fid'] == scorer(images)['fid']


def test_a_network_that_does_not_know_the_labels(images, reference):
  network = Brightness()
  network.name, network.test_accuracy, network.label_distribution = 'inception_v3', None, None
  scorer = Scorer(network, reference)
  assert scorer.selection == 'inception_score' and Scorer(Brightness(), reference).selection == 'mode_score'
  assert not {'mode_score', 'classifier_accuracy'} & scorer(images).keys()


def test_a_scorer_can_be_built_of_public_names(tmp_path, images):
  splits = [data.Split((256 * images[i::3]).astype(np.uint8), None) for i in range(3)]
  network: metrics.ScoreNetwork = Brightness()
  reference = metrics.load_or_compute_reference(data.Dataset('halves', 256, *splits, None), network, tmp_path)
  assert isinstance(reference, metrics.Reference)
  assert metrics.Scorer(network, reference)(images[::3])['fid'] < 1e-3
