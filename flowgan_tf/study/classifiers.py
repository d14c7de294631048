"""The analysis `classifiers`: scores of the same samples by other classifiers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import config_dict

from flowgan_tf import metrics
from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.lazy import keras, lazy_import
from flowgan_tf.display.tables import Column
from flowgan_tf.study.analysis import Analysis, Subject, setting
from flowgan_tf.study.kde import KdeSettings

if TYPE_CHECKING:
  from flowgan_tf import data

special = lazy_import('scipy.special')

_SPLITS = 10
_HIDDEN_UNITS = (512, 512)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifiersSettings(KdeSettings):
  epochs: int = setting(20, 'Epochs of the last classifier.', 1, 1000)


class Classifiers(Analysis):
  """MODE and Inception score of the same samples by perceptrons that have been trained for longer and longer.

  Both scores measure how certain a classifier is. A network that is trained until it is certain of everything gives
  high scores to images that another one doubts, so that scores by different classifiers cannot be compared. Here a
  perceptron with two hidden layers of 512 units (Adam, batches of 128, no regularisation) scores the samples after a
  quarter, after half and after all of its epochs. It also scores as many real test images, if there are enough.

  #### References

  Barratt, Sharma. A Note on the Inception Score. ICML 2018 workshop on Theoretical Foundations and Applications of Deep
  Generative Models. https://arxiv.org/abs/1801.01973
  """

  name = 'classifiers'
  title = 'Scores by other classifiers'
  description = (
    'MODE and Inception score of the same samples by perceptrons trained for longer and longer, beside the scores of '
    'real images (Barratt and Sharma 2018)'
  )
  caption = 'Scores of the same samples by perceptrons that have been trained for longer and longer'
  Settings = ClassifiersSettings
  columns = (
    Column('MODE score', 'mode_score', '.2f', 'mode_score_std'),
    Column('Inception score', 'inception_score', '.2f', 'inception_score_std'),
    Column('MODE score of real images', 'real_mode_score', '.2f', 'real_mode_score_std'),
    Column('test accuracy', 'accuracy', '.1%'),
  )
  details = (Column('samples', 'n', ','),)

  def measure(self, subject: Subject, settings: ClassifiersSettings) -> tuple[dict, dict[str, np.ndarray]]:
    self.check(settings, subject.run.config, subject.dataset)
    if subject.label is not None:
      raise UsageError(f'{subject.run.workdir}: classifiers compares all classes, and has no result for one label')
    samples = np.clip(subject.samples(settings.samples, settings.seed), 0, 1)
    images, labels = subject.images('train'), subject.split('train').labels
    tests, test_labels = subject.images('test'), subject.split('test').labels
    counts = _counts(subject.dataset)
    frequencies = counts / counts.sum()
    keras.utils.set_random_seed(settings.seed)
    hidden = [keras.layers.Dense(units, activation='relu') for units in _HIDDEN_UNITS]
    logits = keras.layers.Dense(len(frequencies))
    classifier = keras.Sequential([keras.Input(images.shape[1:]), keras.layers.Flatten(), *hidden, logits])
    classifier.compile('adam', keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    # In the order of the file, each split may have one class.
    order = np.random.default_rng(settings.seed).permutation(len(tests))[: len(samples)]
    numbers, done = {}, 0
    for epochs in sorted({-(-settings.epochs // 4), -(-settings.epochs // 2), settings.epochs}):
      classifier.fit(images, labels, batch_size=128, initial_epoch=done, epochs=epochs, verbose=0)
      done = epochs
      of_samples, of_tests = _probabilities(classifier, samples), _probabilities(classifier, tests)
      found = {
        'mode_score': metrics.mode_score(of_samples, frequencies, _SPLITS),
        'inception_score': metrics.inception_score(of_samples, _SPLITS),
      }
      if len(tests) >= len(samples):  # A score of fewer images is lower.
        found['real_mode_score'] = metrics.mode_score(of_tests[order], frequencies, _SPLITS)
      record = {'accuracy': np.mean(of_tests.argmax(axis=1) == test_labels), 'n': len(samples)}
      for name, score in found.items():
        record |= {name: score.mean, f'{name}_std': score.std}
      numbers[f'{epochs} epoch{"s" if epochs > 1 else ""}'] = record
    return {'classifiers': numbers}, {}

  def check(self, settings: ClassifiersSettings, config: config_dict.ConfigDict, dataset: data.Dataset) -> None:
    if dataset.train.labels is None:
      raise UsageError(f'{dataset.name}: has no labels to train classifiers with')
    if not _counts(dataset).all():
      raise UsageError(f'{dataset.name}: has a class without training images, for which there is no MODE score')

  def records(self, record: dict) -> dict[str, dict]:
    return record['classifiers']


def _counts(dataset: data.Dataset) -> np.ndarray:
  return np.bincount(np.asarray(dataset.train.labels), minlength=dataset.num_classes or 0)


def _probabilities(classifier: keras.Model, images: np.ndarray) -> np.ndarray:
  return special.softmax(classifier.predict(images, batch_size=500, verbose=0).astype(np.float64), axis=1)
