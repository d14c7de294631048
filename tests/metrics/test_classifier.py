"""The classifier behind the scores. What it learns of digits takes a minute, and is among the slow tests."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.base.errors import UsageError
from flowgan_tf.metrics import classifier as classifier_module
from flowgan_tf.metrics.classifier import CLASSIFIERS, load_classifier
from flowgan_tf.metrics.scores import inception_score, mode_score

BRIEF = (6000, 6000)  # images seen; enough to tell bright images from dark ones


def uniform_images(samples, shape=(8, 8, 1)):
  return np.random.default_rng(0).random((samples, *shape))


def shades(image_shape=(8, 8, 1), classes=2, samples=96, name='shades'):
  """Images whose class is their brightness, which is quickly learnt at any shape."""
  labels = np.arange(samples, dtype=np.int64) % classes
  dither = np.random.default_rng(0).integers(0, 3, (samples, *image_shape))
  images = np.minimum(15, 16 * labels[:, None, None, None] // classes + dither)
  split = data.Split(images.astype(np.uint8), labels)
  # Fewer test images, of whose classes the first is more frequent.
  return data.Dataset(name, 16, split, split, data.Split(split.images[:33], labels[:33]), classes)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A briefly trained classifier of `shades()`, the folder of its cache, and what the log said."""
  folder = tmp_path_factory.mktemp('cache') / 'new'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(classifier_module, '_IMAGES_SEEN', dict.fromkeys(CLASSIFIERS, BRIEF))
    said = []
    patch.setattr(classifier_module._LOG, 'info', lambda message, *values: said.append(message % values))
    return load_classifier(shades(), folder), folder, said


@pytest.fixture(scope='module')
def classifier(trained):
  return trained[0]


@pytest.fixture
def untrained(monkeypatch):
  """Leaves the weights as they are initialised."""
  monkeypatch.setattr(classifier_module, '_train', lambda *_: None)


# What it has learnt.


def test_training_learns_and_says_how_long_it_takes(trained):
  classifier, _, (start, _) = trained
  assert ': 63 epochs of 96 images, about 1 s ' in start
  dataset = shades()
  images = data.dequantize(dataset.test.images, dataset.levels, 7)
  right = np.mean(classifier.predict(images)[1].argmax(axis=1) == dataset.test.labels)
  assert right == classifier.test_accuracy == 1.0
  assert not classifier.model.jit_compile  # XLA's gradients of convolutions are ten times slower on a CPU.


@pytest.mark.slow
def test_the_residual_network_learns_and_repeats(tmp_path, monkeypatch):
  monkeypatch.setattr(classifier_module, '_IMAGES_SEEN', {'resnet': (4000, 4000)})
  dataset = shades((9, 8, 3), classes=3)
  found = [load_classifier(dataset, tmp_path / folder, name='resnet') for folder in 'ab']
  assert found[0].hash == found[1].hash and found[0].name == 'resnet'
  assert found[0].test_accuracy > 0.6  # Of a training so short, one of the three classes may be missing.
  features, probabilities = found[0].predict(uniform_images(5, (9, 8, 3)))
  assert features.shape == (5, 192) and probabilities.shape == (5, 3)
  [path] = (tmp_path / 'a').iterdir()
  assert path.name.startswith('resnet-shades-')


def test_another_name_is_rejected(tmp_path):
  with pytest.raises(UsageError, match=r"^`name` must be one of classifier, resnet. Got: 'vgg'"):
    load_classifier(shades(), tmp_path, name='vgg')


def test_accuracy_is_of_the_test_images_in_pieces(untrained, tmp_path, monkeypatch):
  """An untrained network is wrong about some, which must be the same ones whatever the pieces."""
  dataset = shades(classes=3)
  whole = load_classifier(dataset, tmp_path / 'whole')
  images = data.dequantize(dataset.test.images, 16, 0)
  right = np.mean(whole.predict(images)[1].argmax(axis=1) == dataset.test.labels)
  assert whole.test_accuracy == pytest.approx(right, abs=0.1) and 0 < right < 1
  monkeypatch.setattr('flowgan_tf.data.pipeline._VALUES_AT_ONCE', 1)
  monkeypatch.setattr(classifier_module, '_BATCH_SIZE_OF_TEST', 10)
  assert load_classifier(dataset, tmp_path / 'pieces').test_accuracy == whole.test_accuracy
  # What the network says of the test images becomes their labels; the training images keep theirs.
  labels = whole.predict(images)[1].argmax(axis=1)
  agreed = dataclasses.replace(dataset, test=data.Split(dataset.test.images, labels))
  assert load_classifier(agreed, tmp_path / 'agreed').test_accuracy > max(0.9, whole.test_accuracy)


# Predictions.


def test_predictions_are_of_the_last_two_layers_without_dropout(classifier, capsys):
  images = uniform_images(501)  # two batches, the last one of a single image
  features, probabilities = classifier.predict(images)
  assert capsys.readouterr() == ('', '')
  assert (features.dtype, probabilities.dtype) == (np.float32, np.float64)
  hidden = tf.constant(images, tf.float32)
  for layer in classifier.model.layers:
    hidden = layer(hidden, training=False)
    if layer.name == 'features':
      np.testing.assert_allclose(features, hidden, rtol=1e-4, atol=1e-4)
  logits = np.asarray(hidden, np.float64)
  expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  np.testing.assert_allclose(probabilities, expected, rtol=1e-4)
  assert features.shape == (501, 128) and probabilities.shape == (501, 2)


def test_values_outside_the_unit_interval_are_clipped_and_grey_levels_rejected(classifier):
  images = 3 * uniform_images(5) - 1
  np.testing.assert_array_equal(classifier.predict(images)[1], classifier.predict(np.clip(images, 0, 1))[1])
  with pytest.raises(UsageError, match=r'^`images` must be floats'):
    classifier.predict(np.zeros([2, 8, 8, 1], np.uint8))
  with pytest.raises(UsageError, match=r'^`images` must be \[n, \*\(8, 8, 1\)\]'):
    classifier.predict(np.zeros([2, 4, 16, 1]))  # Its first dense layer would take it.


# Cache and repetition.


def test_the_cache_gives_the_same_classifier_without_training(trained, monkeypatch):
  classifier, folder, _ = trained
  [path] = folder.iterdir()
  assert path.name == f'classifier-shades-{shades().fingerprint[:12]}-v1-seed0.npz'
  monkeypatch.setattr(classifier_module, '_train', lambda *_: pytest.fail('trained'))
  cached = load_classifier(shades(), folder)
  assert (cached.hash, cached.test_accuracy) == (classifier.hash, classifier.test_accuracy)
  assert re.fullmatch('[0-9a-f]{16}', cached.hash)
  np.testing.assert_array_equal(cached.predict(uniform_images(9))[1], classifier.predict(uniform_images(9))[1])


def test_training_repeats_whatever_the_global_seeds_and_policy(trained, tmp_path, monkeypatch):
  monkeypatch.setattr(classifier_module, '_IMAGES_SEEN', dict.fromkeys(CLASSIFIERS, BRIEF))
  keras.utils.set_random_seed(99)
  keras.config.set_dtype_policy('mixed_bfloat16')
  try:
    again = load_classifier(shades(), tmp_path)
  finally:
    keras.config.set_dtype_policy('float32')
    tf.random.set_seed(None)
  assert again.hash == trained[0].hash


def test_another_seed_and_other_data_have_their_own_file_and_weights(untrained, tmp_path):
  cases = [(shades(), 0), (shades(), 1), (shades((12, 9, 3), classes=3), 0)]
  classifiers = [load_classifier(dataset, tmp_path, seed) for dataset, seed in cases]
  assert len({classifier.hash for classifier in classifiers}) == 3 == len(list(tmp_path.iterdir()))
  assert classifiers[2].predict(uniform_images(2, (12, 9, 3)))[1].shape == (2, 3)


def test_of_very_many_images_a_random_part_is_seen_once(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(classifier_module, '_IMAGES_SEEN', {'classifier': (50, 50)})
  monkeypatch.setattr(classifier_module, '_BATCH_SIZE', 20)
  seen = []
  monkeypatch.setattr(keras.Model, 'train_on_batch', lambda self, images, labels: seen.append((images, labels)))
  dataset = shades(samples=95)
  with caplog.at_level('INFO', logger='flowgan_tf.metrics'):
    classifier = load_classifier(dataset, tmp_path)
  np.testing.assert_allclose(classifier.label_distribution, [48 / 95, 47 / 95])
  assert ': 1 epochs of 50 images of 95, about 1 s ' in caplog.messages[0]
  assert '-of50-' in next(tmp_path.iterdir()).name
  assert [len(part) for part, _ in seen] == [20, 20, 10]
  images, labels = (np.concatenate(parts) for parts in zip(*seen, strict=True))
  all_images = [image.tobytes() for image in dataset.train.images]
  order = [all_images.index(image.tobytes()) for image in np.floor(16 * images).astype(np.uint8)]
  assert len(set(order)) == 50 and order != sorted(order)
  np.testing.assert_array_equal(dataset.train.labels[order], labels)
  assert len(np.unique((16 * images % 1).reshape(50, -1)[:, 0])) == 50


@pytest.mark.slow
def test_scores_tell_digits_from_noise_and_from_a_single_class(tmp_path):
  digits = data.load('digits')
  classifier = load_classifier(digits, tmp_path)
  assert 0.96 <= classifier.test_accuracy <= 1
  real = classifier.predict(data.dequantize(digits.train.images, digits.levels, 1))[1]
  ones = real[digits.train.labels == 1]
  assert inception_score(real).mean > 9 and mode_score(real, classifier.label_distribution).mean > 9
  assert inception_score(ones).mean < 1.5 and mode_score(ones, classifier.label_distribution).mean < 0.5
  assert inception_score(classifier.predict(uniform_images(500))[1]).mean < 6


@pytest.mark.slow
def test_mnist_is_recognised(tmp_path, mnist_dir):
  assert load_classifier(data.load('mnist', data_dir=mnist_dir), tmp_path).test_accuracy > 0.985
