import dataclasses
import os
import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import data
from flowgan_tf.metrics.classifier import _VERSION, load_classifier
from flowgan_tf.metrics.scores import inception_score, mode_score


def _uniform_images(samples, shape=(8, 8, 1)):
  return np.random.default_rng(0).random((samples, *shape))


@pytest.fixture(scope='module')
def digits():
  return data.load('digits')


@pytest.fixture(scope='module')
def cache_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='module')
def classifier(digits, cache_dir):
  return load_classifier(digits, cache_dir)


@pytest.fixture
def brief_training(monkeypatch):
  """Trains for a few steps, for tests that do not depend on how well the network has learnt."""
  monkeypatch.setattr('flowgan_tf.metrics.classifier._IMAGES_SEEN', (1000, 1000))


@pytest.fixture
def cached_tiny(brief_training, tmp_path):
  """A briefly trained classifier of `_tiny()` and the path of its cache file."""
  classifier = load_classifier(_tiny(), tmp_path)
  [path] = tmp_path.iterdir()
  return classifier, path


def _tiny(image_shape=(8, 8, 1), classes=2, samples=96, name='tiny'):
  """Images whose class is their brightness, which is quickly learnt at any shape."""
  labels = np.arange(samples, dtype=np.int64) % classes
  dither = np.random.default_rng(0).integers(0, 3, (samples, *image_shape))
  images = np.minimum(15, 16 * labels[:, None, None, None] // classes + dither)
  split = data.Split(images.astype(np.uint8), labels)
  return data.Dataset(name, 16, split, split, split, classes)


def _messages(caplog):
  # TensorFlow's own messages are left out: after some small models it complains about retracing.
  return [record.getMessage() for record in caplog.records if record.name.startswith('flowgan_tf.metrics')]


# What it has learnt.


def test_digits_are_recognised(classifier):
  assert 0.96 <= classifier.test_accuracy <= 1


def test_test_accuracy_is_that_of_the_probabilities(classifier, digits):
  images = data.dequantize(digits.test.images, digits.levels, 7)
  right = np.mean(classifier.predict(images)[1].argmax(axis=1) == digits.test.labels)
  assert abs(right - classifier.test_accuracy) < 0.02  # Its noise is different.


def test_label_distribution_is_that_of_the_training_split(classifier, digits):
  expected = [np.mean(digits.train.labels == k) for k in range(10)]
  np.testing.assert_allclose(classifier.label_distribution, expected, rtol=1e-12)


def test_scores_tell_digits_from_noise_and_from_a_single_class(classifier, digits):
  images = data.dequantize(digits.train.images, digits.levels, 1)
  real = classifier.predict(images)[1]
  ones = real[digits.train.labels == 1]
  noise = classifier.predict(_uniform_images(500))[1]
  assert inception_score(real).mean > 9
  assert mode_score(real, classifier.label_distribution).mean > 9
  assert inception_score(ones).mean < 1.5
  assert mode_score(ones, classifier.label_distribution).mean < 0.5
  assert inception_score(noise).mean < 6


# Probabilities.


def test_probabilities_are_float64_distributions_in_the_order_of_the_images(classifier):
  images = _uniform_images(1001)  # three batches, the last one of a single image
  probabilities = classifier.predict(images)[1]
  assert probabilities.dtype == np.float64
  np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
  some = [3, 700, 1000]
  np.testing.assert_allclose(probabilities[some], classifier.predict(images[some])[1], rtol=1e-4)


def test_probabilities_are_the_softmax_of_the_models_logits_without_dropout(classifier):
  images = _uniform_images(8).astype(np.float32)
  logits = np.asarray(classifier.model(images, training=False), np.float64)
  expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  np.testing.assert_allclose(classifier.predict(images)[1], expected, rtol=1e-4)


def test_features_are_those_of_the_last_hidden_layer_without_dropout(classifier):
  x = _uniform_images(5)
  h = tf.constant(x, tf.float32)
  for layer in classifier.model.layers:
    h = layer(h, training=False)
    if layer.name == 'features':
      break
  assert h.shape == (5, 128)
  np.testing.assert_allclose(classifier.predict(x)[0], h, rtol=1e-5, atol=1e-5)


def test_values_outside_the_unit_interval_are_clipped(classifier):
  images = 3 * _uniform_images(5) - 1
  clipped = classifier.predict(np.clip(images, 0, 1))
  np.testing.assert_array_equal(classifier.predict(images)[1], clipped[1])


@pytest.mark.parametrize(
  ('images', 'message'),
  [
    (np.zeros([2, 8, 8], np.float32), r'must have shape \[n, 8, 8, 1\], not empty.*Got: \(2, 8, 8\)'),
    (np.zeros([2, 8, 8, 3], np.float32), r'Got: \(2, 8, 8, 3\)'),
    (np.zeros([0, 8, 8, 1], np.float32), r'not empty\. Got: \(0, 8, 8, 1\)'),
    (np.zeros([2, 8, 8, 1], np.uint8), 'must be floats.*Got: uint8'),
    (np.array([0, np.nan, np.inf]).reshape(3, 1, 1, 1) * np.ones([3, 8, 8, 1]), 'Got: 2 of 3 images with NaN'),
  ],
)
def test_refuses_what_are_not_images(classifier, images, message):
  with pytest.raises(ValueError, match=message):
    classifier.predict(images)


# Any data set.


@pytest.mark.parametrize(('image_shape', 'classes'), [((8, 8, 3), 2), ((12, 9, 1), 3), ((16, 16, 3), 4)])
def test_trains_on_any_image_shape_and_number_of_classes(tmp_path, image_shape, classes):
  classifier = load_classifier(_tiny(image_shape, classes), tmp_path)
  assert classifier.test_accuracy > 0.9
  assert classifier.predict(_uniform_images(3, image_shape))[1].shape == (3, classes)


@pytest.mark.parametrize('split', ['train', 'test'])
def test_refuses_unlabelled_data(tmp_path, split):
  unlabelled = dataclasses.replace(_tiny(), **{split: data.Split(np.zeros([4, 8, 8, 1], np.uint8), labels=None)})
  with pytest.raises(ValueError, match=r"^`dataset` must have labels .* Got: 'tiny', which has none\.$"):
    load_classifier(unlabelled, tmp_path)
  assert not os.listdir(tmp_path)


# Cache and repetition.


def test_one_line_says_that_training_starts_and_how_long_it_takes(brief_training, tmp_path, caplog):
  with caplog.at_level('INFO', logger='flowgan_tf'):
    load_classifier(_tiny(), tmp_path)
  start, end = _messages(caplog)
  assert 'Training a classifier on tiny' in start
  assert 'about 1 s' in start
  assert re.fullmatch(r'The classifier of tiny labels \d+\.\d\d % of the test images correctly\.', end)


def test_of_very_many_images_a_random_part_is_seen_once(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr('flowgan_tf.metrics.classifier._IMAGES_SEEN', (50, 50))
  seen = []
  monkeypatch.setattr(keras.Model, 'train_on_batch', lambda self, images, labels: seen.append(images))
  dataset = _tiny()
  with caplog.at_level('INFO', logger='flowgan_tf'):
    load_classifier(dataset, tmp_path)
  assert re.search(r': 1 epochs of 50 images of 96, about 1 s ', _messages(caplog)[0])
  found = {image.tobytes() for image in np.floor(16 * np.concatenate(seen)).astype(np.uint8)}
  assert len(found) == 50
  assert found < {image.tobytes() for image in dataset.train.images}


def test_test_images_go_through_the_network_in_pieces(brief_training, tmp_path, monkeypatch):
  dataset = data.load('digits')
  whole = load_classifier(dataset, tmp_path / 'whole')
  monkeypatch.setattr('flowgan_tf.data.pipeline._VALUES_AT_ONCE', 1)
  monkeypatch.setattr('flowgan_tf.metrics.classifier._BATCH_SIZE_OF_TEST', 50)
  assert load_classifier(dataset, tmp_path / 'pieces').test_accuracy == whole.test_accuracy


def test_cache_gives_the_same_classifier_without_training(classifier, digits, cache_dir, caplog):
  [file] = os.listdir(cache_dir)
  assert file == f'classifier-digits-{digits.fingerprint[:12]}-v{_VERSION}-seed0.npz'
  with caplog.at_level('INFO', logger='flowgan_tf'):
    cached = load_classifier(digits, cache_dir)
  assert not _messages(caplog)
  assert (cached.hash, cached.test_accuracy) == (classifier.hash, classifier.test_accuracy)
  images = _uniform_images(9)
  np.testing.assert_array_equal(cached.predict(images)[1], classifier.predict(images)[1])


def test_training_repeats_whatever_the_global_seeds_and_policy(tmp_path, digits, classifier):
  keras.utils.set_random_seed(99)
  keras.config.set_dtype_policy('mixed_bfloat16')
  try:
    again = load_classifier(digits, tmp_path)
  finally:
    keras.config.set_dtype_policy('float32')
    tf.random.set_seed(None)
  assert again.hash == classifier.hash


def test_another_seed_and_other_data_have_their_own_file_and_weights(cached_tiny):
  original, path = cached_tiny
  other_seed = load_classifier(_tiny(), path.parent, seed=1)
  other_data = load_classifier(_tiny(samples=95), path.parent)
  assert len({original.hash, other_seed.hash, other_data.hash}) == 3
  assert all(len(classifier.hash) == 16 for classifier in (original, other_seed, other_data))
  assert len(os.listdir(path.parent)) == 3


def test_awkward_names_stay_inside_the_cache(brief_training, tmp_path):
  dataset = _tiny(name='../my data/v1.0')
  load_classifier(dataset, tmp_path / 'new' / 'cache')
  name = f'classifier--my-data-v1-0-{dataset.fingerprint[:12]}-v{_VERSION}-seed0.npz'
  assert os.listdir(tmp_path / 'new' / 'cache') == [name]


def _empty(content):
  return b''


def _truncated(content):
  return content[: len(content) // 2]


def _text(content):
  return b'not an archive'


def _one_bit_flipped(content):
  middle = len(content) // 2
  return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize('damage', [_empty, _truncated, _text, _one_bit_flipped])
def test_a_damaged_cache_is_trained_over_with_a_warning(cached_tiny, caplog, damage):
  original, path = cached_tiny
  path.write_bytes(damage(path.read_bytes()))
  caplog.clear()
  with caplog.at_level('WARNING', logger='flowgan_tf'):
    assert load_classifier(_tiny(), path.parent).hash == original.hash
    [message] = _messages(caplog)
    assert path.name in message
    assert '\n' not in message
    load_classifier(_tiny(), path.parent)
    assert _messages(caplog) == [message]  # the file is whole again
  assert list(path.parent.iterdir()) == [path]


def test_a_cache_whose_weights_were_replaced_is_trained_over(cached_tiny):
  original, path = cached_tiny
  with np.load(path) as saved:
    arrays = dict(saved)
  np.savez(path, **(arrays | {'weight_0': arrays['weight_0'] + 1}))
  assert load_classifier(_tiny(), path.parent).hash == original.hash


def test_a_cache_that_cannot_be_written_costs_no_result(cached_tiny, tmp_path, caplog):
  original, _ = cached_tiny
  (tmp_path / 'file').touch()
  with caplog.at_level('WARNING', logger='flowgan_tf'):
    assert load_classifier(_tiny(), tmp_path / 'file' / 'cache').hash == original.hash
  [message] = _messages(caplog)
  assert message.startswith(str(tmp_path / 'file' / 'cache')) and 'cannot be written' in message


@pytest.mark.slow
def test_mnist_is_recognised(tmp_path, mnist_dir):
  start = time.time()
  classifier = load_classifier(data.load('mnist', data_dir=mnist_dir), tmp_path)
  print(f'accuracy {classifier.test_accuracy:.4f}, {time.time() - start:.0f} s')
  assert classifier.test_accuracy > 0.985
