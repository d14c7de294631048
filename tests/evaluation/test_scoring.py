import dataclasses
import types

import numpy as np
import pytest

from flowgan_tf import data
from flowgan_tf.errors import UsageError
from flowgan_tf.evaluation import scoring
from flowgan_tf.evaluation.scoring import make_scorer, score_samples
from tests.tiny import write_images


@pytest.fixture
def networks(monkeypatch):
  """The cache folder of each classifier that was asked for, none of which is trained."""
  asked = []

  def load_or_train(dataset, folder):
    asked.append(folder)
    return types.SimpleNamespace(label_distribution=None)

  monkeypatch.setattr(scoring.classifiers, 'load_or_train', load_or_train)
  monkeypatch.setattr(scoring, 'load_or_compute', lambda *_: None)
  return asked


def test_a_classifier_needs_labels(config, tmp_path):
  unlabelled = data.load(write_images(tmp_path / 'unlabelled.npz'))
  assert make_scorer(config, unlabelled) is None
  with pytest.raises(UsageError, match=r"^`scorer` must be 'inception'.* has no labels.* Got: 'classifier'\.$"):
    make_scorer(config, unlabelled, required=True)


def test_too_few_images_are_refused_before_a_classifier_is_trained(config, tmp_path, networks):
  """Of 3 images one is for training, of 4 two; a covariance takes two."""
  few = data.load(write_images(tmp_path / 'three.npz', count=3, labels=True))
  few = dataclasses.replace(few, train=data.Split(few.train.images, np.zeros(1, np.int64)), num_classes=1)
  assert len(few.train) == 1
  with pytest.raises(UsageError, match=r'must have at least 2 training images .* Got: 1\.$'):
    make_scorer(config, few)
  assert not networks
  two = data.Split(np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int64))
  make_scorer(config, dataclasses.replace(few, train=two))
  assert len(networks) == 1


def test_a_label_that_is_never_seen_is_refused(config, tmp_path):
  path = tmp_path / 'from_one.npz'
  np.savez(path, images=np.zeros((30, 4, 4), np.uint8), labels=np.arange(30) % 2 + 1)
  with pytest.raises(UsageError, match=r'must have training images of each label from 0 to 2.* Got: none of 0\.$'):
    make_scorer(config, data.load(str(path)))


def test_the_cache_is_in_the_home_by_default(config, dataset, tmp_path, monkeypatch, networks):
  monkeypatch.setenv('HOME', str(tmp_path))
  make_scorer(config, dataset)
  assert networks == [tmp_path / '.cache' / 'flowgan_tf']


def test_a_cache_that_cannot_be_written_is_said_before_the_work(config, dataset, tmp_path, caplog, networks):
  (tmp_path / 'file').touch()
  config = config.copy_and_resolve_references()
  config.cache_dir = str(tmp_path / 'file' / 'cache')
  with caplog.at_level('WARNING', logger='flowgan_tf'):
    assert make_scorer(config, dataset) is not None
  [message] = [record.getMessage() for record in caplog.records]
  assert message.startswith(f'{config.cache_dir}: cannot be written') and '\n' not in message
  assert len(networks) == 1


def scorer(images, splits=1):
  """Stands for a `Scorer`."""
  return {'mode_score': float(images.mean()), 'score_samples': len(images), 'score_splits': splits}


def test_scores_stand_beside_the_health_of_the_samples():
  images = np.full((20, 4, 4, 1), 0.2)
  images[:10, :2] = 0.7
  assert score_samples(images, scorer, splits=2) == {
    'saturated': 0.0,
    'non_finite': 0.0,
    'sample_std': pytest.approx(0.125),
    'mode_score': pytest.approx(0.325),
    'score_samples': 20,
    'score_splits': 2,
  }


def test_samples_that_blew_up_have_no_score():
  images = np.full((20, 4, 4, 1), 0.2)
  images[0, 0, 0] = np.nan
  scores = score_samples(images, scorer)
  assert scores.keys() == {'saturated', 'non_finite', 'sample_std'}
  assert scores['non_finite'] == pytest.approx(1 / 320)


def test_without_a_scorer_there_is_health_alone():
  scores = score_samples(np.full((4, 4, 4, 1), 0.2), None)
  assert scores.keys() == {'saturated', 'non_finite', 'sample_std'}
