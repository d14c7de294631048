import dataclasses
from unittest import mock

import numpy as np
import pytest

from flowgan_tf.errors import UsageError
from flowgan_tf.metrics.scores import mode_score
from flowgan_tf.study.classifiers import Classifiers
from flowgan_tf.study.subject import Subject


@pytest.fixture
def subject(subject):
  """The run with samples that are its test images, so that it is known what they should score."""
  other = Subject(subject.run)
  other.samples = lambda n, seed: np.resize(other.images('test'), (n, *other.dataset.image_shape))
  return other


def test_longer_training_makes_a_classifier_certain(subject):
  settings = Classifiers.Settings(samples=20, epochs=40)
  numbers, _ = Classifiers().measure(subject, settings)
  rows = Classifiers().records(numbers)
  assert list(rows) == ['10 epochs', '20 epochs', '40 epochs']
  for own in rows.values():
    assert own['mode_score'] == pytest.approx(own['real_mode_score'])  # The samples are the real images.
    assert own['n'] == 20
  # Which half of an image is bright is easily told.
  assert rows['40 epochs']['accuracy'] == 1
  dataset = subject.dataset
  frequencies = np.bincount(dataset.train.labels) / len(dataset.train)
  certain = mode_score(np.eye(2)[dataset.test.labels], frequencies, 10).mean
  assert rows['10 epochs']['mode_score'] != pytest.approx(certain, rel=1e-3)
  assert rows['40 epochs']['mode_score'] == pytest.approx(certain, rel=0.02)


def test_images_that_tell_nothing_score_1(subject):
  grey = np.full((20, *subject.dataset.image_shape), 0.5)
  with mock.patch.object(subject, 'samples', return_value=grey):
    numbers, _ = Classifiers().measure(subject, Classifiers.Settings(samples=20, epochs=4))
  for own in numbers['classifiers'].values():
    assert own['inception_score'] == pytest.approx(1)
    assert own['mode_score'] <= 1 + 1e-6


def test_a_single_epoch_has_one_row(subject):
  numbers, _ = Classifiers().measure(subject, Classifiers.Settings(samples=20, epochs=1))
  assert list(numbers['classifiers']) == ['1 epoch']
  assert len(Classifiers().lines(numbers)) == 4


def test_real_images_are_scored_only_if_there_are_as_many(subject):
  numbers, _ = Classifiers().measure(subject, Classifiers.Settings(samples=21, epochs=1))
  assert 'real_mode_score' not in numbers['classifiers']['1 epoch']


def test_without_labels_there_are_no_classifiers(subject):
  dataset = subject.dataset
  with pytest.raises(UsageError, match='has no labels to train classifiers with'):
    unlabelled = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, labels=None))
    Classifiers().check(Classifiers.Settings(), subject.run.config, unlabelled)


def test_a_class_without_images_is_refused(subject):
  train = dataclasses.replace(subject.dataset.train, labels=np.zeros_like(subject.dataset.train.labels))
  with pytest.raises(UsageError, match='has a class without training images'):
    Classifiers().check(Classifiers.Settings(), subject.run.config, dataclasses.replace(subject.dataset, train=train))
