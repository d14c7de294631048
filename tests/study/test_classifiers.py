import dataclasses

import numpy as np
import pytest

from flowgan_tf.base.errors import UsageError
from flowgan_tf.metrics.scores import mode_score
from flowgan_tf.study import Subject
from flowgan_tf.study.classifiers import Classifiers


@pytest.fixture
def subject(subject):
  """The run with samples that are its test images in random order, so that it is known what they should score."""
  other = Subject(subject.run)
  other.samples = lambda n, seed: other.images('test')[np.resize(shuffled(other), n)]
  return other


def shuffled(subject):
  return np.random.default_rng(0).permutation(len(subject.dataset.test))


@pytest.mark.slow
def test_longer_training_makes_a_classifier_certain(subject):
  numbers, _ = Classifiers().measure(subject, Classifiers.Settings(samples=20, epochs=40))
  rows = Classifiers().records(numbers)
  assert list(rows) == ['10 epochs', '20 epochs', '40 epochs']
  for own in rows.values():
    assert own['mode_score'] == pytest.approx(own['real_mode_score'])  # The samples are the real images.
    assert own['n'] == 20
  # Which half of an image is bright is easily told.
  assert rows['40 epochs']['accuracy'] == 1
  dataset = subject.dataset
  frequencies = np.bincount(dataset.train.labels) / len(dataset.train)
  certain = mode_score(np.eye(2)[dataset.test.labels[shuffled(subject)]], frequencies, 10).mean
  assert rows['10 epochs']['mode_score'] != pytest.approx(certain, rel=1e-3)
  assert rows['40 epochs']['mode_score'] == pytest.approx(certain, rel=0.02)


def test_grey_images_score_1_and_more_than_there_are_real_ones_have_no_counterpart(subject):
  subject.samples = lambda n, seed: np.full((n, *subject.dataset.image_shape), 0.5)
  numbers, _ = Classifiers().measure(subject, Classifiers.Settings(samples=21, epochs=1))
  [(name, own)] = numbers['classifiers'].items()
  assert name == '1 epoch' and own['inception_score'] == pytest.approx(1) and own['mode_score'] <= 1 + 1e-6
  assert 'real_mode_score' not in own  # Scores of fewer images are lower.


@pytest.mark.parametrize(
  ('relabel', 'said'),
  [
    (lambda labels: None, 'has no labels to train classifiers with'),
    (np.zeros_like, 'has a class without training images'),
  ],
)
def test_labels_that_do_not_suffice_are_rejected(subject, relabel, said):
  dataset = subject.dataset
  train = dataclasses.replace(dataset.train, labels=relabel(dataset.train.labels))
  with pytest.raises(UsageError, match=said):
    Classifiers().check(Classifiers.Settings(), subject.run.config, dataclasses.replace(dataset, train=train))


def test_the_accuracy_is_of_the_test_labels(subject):
  """If these are the wrong way round, what was right is wrong."""
  found = []
  for flipped in (False, True):
    test = subject.dataset.test
    labels = 1 - test.labels if flipped else test.labels
    subject.dataset = dataclasses.replace(subject.dataset, test=dataclasses.replace(test, labels=labels))
    numbers, _ = Classifiers().measure(subject, Classifiers.Settings(samples=20, epochs=4))
    found.append(numbers['classifiers']['4 epochs']['accuracy'])
  assert found[0] > 0.6 and sum(found) == pytest.approx(1)
