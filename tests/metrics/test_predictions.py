"""Both networks behind the scores offer what the scores need."""

import inspect

import keras
import numpy as np
import pytest

from flowgan_tf.metrics.classifier import Classifier
from flowgan_tf.metrics.inception import Inception
from flowgan_tf.metrics.predictions import Predictions, ScoreNetwork

CLASSES = 4


def classifier() -> ScoreNetwork:
  images = keras.Input((6, 6, 3))
  features = keras.layers.Dense(5, name='features')(keras.layers.Flatten()(images))
  model = keras.Model(images, keras.layers.Dense(CLASSES)(features))
  return Classifier(model, CLASSES, 0.5, '0123456789abcdef', np.full(CLASSES, 1 / CLASSES))


def inception() -> ScoreNetwork:
  images = keras.Input((299, 299, 3))
  features = keras.layers.GlobalAveragePooling2D()(images)
  return Inception(keras.Model(images, [features, keras.layers.Dense(CLASSES)(features)]))


@pytest.mark.parametrize('build', [classifier, inception])
def test_a_network_has_all_that_the_scores_ask_for(build):
  network = build()
  for attribute in ScoreNetwork.__annotations__:
    assert hasattr(network, attribute)
  parameters = [inspect.signature(kind.predict).parameters for kind in (type(network), ScoreNetwork)]
  assert list(parameters[0]) == list(parameters[1])
  assert len(network.hash) == 16 and int(network.hash, 16) >= 0
  # The MODE score and the accuracy go together: either the network knows the data set's classes, or it does not.
  assert (network.label_distribution is None) == (network.test_accuracy is None)


@pytest.mark.parametrize('build', [classifier, inception])
def test_predictions_have_the_documented_types(build):
  images = np.random.default_rng(0).random((3, 6, 6, 3))
  predictions = build().predict(images)
  assert isinstance(predictions, Predictions)
  assert predictions.features.dtype == np.float32 and predictions.features.ndim == 2
  assert (predictions.probabilities.dtype, predictions.probabilities.shape) == (np.float64, (3, CLASSES))
  np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, rtol=1e-12)
