import hashlib
import inspect
import os
import re
import shutil
import sys
import time

import h5py
import keras
import numpy as np
import pytest
import requests
import scipy.special
import tensorflow as tf
from keras.src.applications import inception_v3 as keras_inception_v3

from flowgan_tf.data import dequantize, tfds
from flowgan_tf.errors import UsageError
from flowgan_tf.metrics import inception as inception_module
from flowgan_tf.metrics.inception import Inception, load_inception


def _grey_levels(samples, shape=(32, 32, 3)):
  return np.random.default_rng(0).integers(0, 256, (samples, *shape)).astype(np.uint8)


@pytest.fixture(scope='module')
def original():
  """Keras' own classification model with random weights, whose logits have a range of hundreds."""
  model = keras.applications.InceptionV3(weights=None)
  rng = np.random.default_rng(0)
  weights = model.get_weights()
  for i, weight in enumerate(weights):
    if weight.ndim == 4:  # He's initialisation keeps the magnitude from layer to layer
      weights[i] = rng.standard_normal(weight.shape, np.float32) * np.sqrt(2 / np.prod(weight.shape[:-1]))
  weights[-2:] = rng.normal(0, 4, (2048, 1000)), rng.normal(0, 10, 1000)
  model.set_weights(weights)
  return model


@pytest.fixture(scope='module')
def weights(original, tmp_path_factory):
  path = tmp_path_factory.mktemp('weights') / 'inception.weights.h5'
  original.save_weights(path)
  return str(path)


@pytest.fixture(scope='module')
def inception(weights):
  return load_inception(weights)


@pytest.fixture(scope='module')
def keras_home(original, tmp_path_factory):
  """A folder like Keras' own, with a file in the format that it downloads: weights as Keras 1 and 2 saved them."""
  home = tmp_path_factory.mktemp('keras')
  (home / 'models').mkdir()
  original.save(home / 'whole.h5')
  with (
    h5py.File(home / 'whole.h5') as whole,
    h5py.File(home / 'models' / 'inception_v3_weights_tf_dim_ordering_tf_kernels.h5', 'w') as file,
  ):
    for name in whole['model_weights']:
      whole.copy(f'model_weights/{name}', file)
    file.attrs.update(whole['model_weights'].attrs)
  return home


def _stand_in_model():
  image = keras.Input([299, 299, 3])
  features = keras.layers.GlobalAveragePooling2D()(image)
  return keras.Model(image, [features, keras.layers.Dense(4)(features)])


@pytest.fixture(scope='module')
def stand_in():
  """A cheap network whose features are the mean colours."""
  return Inception(_stand_in_model())


def _expected(original, grey_levels):
  """Features and logits by Keras' functions, one image at a time."""
  features = keras.Model(original.input, original.get_layer('avg_pool').output)
  kernel, bias = (weight.astype(np.float64) for weight in original.get_layer('predictions').get_weights())
  rows = []
  for image in grey_levels:
    resized = tf.image.resize(image.astype(np.float32), [299, 299], method='bilinear').numpy()
    rows.append(features(keras.applications.inception_v3.preprocess_input(resized)[None], training=False)[0].numpy())
  rows = np.stack(rows)
  return rows, rows.astype(np.float64) @ kernel + bias


# Predictions.


def test_predictions_are_those_of_keras_functions_by_hand(inception, original):
  grey_levels = _grey_levels(4)
  features, probabilities = inception.predict(grey_levels / 256)
  expected, logits = _expected(original, grey_levels)
  assert (features.shape, features.dtype) == ((4, 2048), np.float32)
  assert (probabilities.shape, probabilities.dtype) == ((4, 1000), np.float64)
  # A random network sees little difference between random images, which must not be lost in the tolerance.
  np.testing.assert_allclose(features, expected, rtol=0, atol=expected.std(axis=0).mean() / 50)
  # Logits of some hundreds are exact to about 1e-3 in float32.
  np.testing.assert_allclose(np.log(probabilities), scipy.special.log_softmax(logits, axis=1), rtol=0, atol=1e-2)
  assert 0 < probabilities.min() < 1e-60  # in float32 these would be 0
  resized = tf.image.resize(grey_levels, [299, 299])
  own = original(keras.applications.inception_v3.preprocess_input(resized), training=False)
  np.testing.assert_allclose(probabilities, own, atol=0.02)


def test_dequantised_images_are_seen_as_their_grey_levels(inception):
  grey_levels = _grey_levels(2)
  np.testing.assert_array_equal(
    inception.predict(dequantize(grey_levels, 256, seed=1))[0], inception.predict(grey_levels / 256)[0]
  )


def test_grey_images_are_seen_as_three_equal_channels(inception):
  grey_levels = _grey_levels(2, (28, 20, 1))
  np.testing.assert_array_equal(
    inception.predict(grey_levels / 256)[0], inception.predict(np.tile(grey_levels, 3) / 256)[0]
  )


def test_prediction_of_an_image_does_not_depend_on_the_others(inception, monkeypatch):
  images = _grey_levels(5) / 256
  together = inception.predict(images)
  monkeypatch.setattr(inception_module, '_BATCH_SIZE', 3)
  apart = inception.predict(images)
  atol = together[0].std(axis=0).mean() / 50
  np.testing.assert_allclose(apart[0], together[0], rtol=0, atol=atol)


@pytest.mark.parametrize(('value', 'level'), [(-0.5, 0), (0.0, 0), (1 / 255, 1), (0.5, 128), (1.0, 255), (7.0, 255)])
def test_values_are_cut_to_grey_levels(stand_in, value, level):
  features = stand_in.predict(np.full([1, 8, 8, 3], value))[0]
  np.testing.assert_allclose(features, np.full([1, 3], level / 127.5 - 1), atol=1e-4)


@pytest.mark.parametrize(
  ('images', 'message'),
  [
    (np.zeros([2, 8, 8], np.float32), r'shape \[n, height, width, 1 or 3\].*Got: \(2, 8, 8\)'),
    (np.zeros([2, 8, 8, 2], np.float32), r'1 channel or 3\. Got: \(2, 8, 8, 2\)'),
    (np.zeros([0, 8, 8, 3], np.float32), r'not empty. Got: \(0, 8, 8, 3\)'),
    (np.zeros([2, 8, 8, 3], np.uint8), 'must be floats.*Got: uint8'),
    (np.array([0, np.nan, np.inf]).reshape(3, 1, 1, 1) * np.ones([3, 8, 8, 1]), 'Got: 2 of 3 images with NaN'),
  ],
)
def test_refuses_what_are_not_images(stand_in, images, message):
  with pytest.raises(ValueError, match=f'`images` .*{message}'):
    stand_in.predict(images)


@pytest.mark.parametrize(('terminal', 'samples', 'shown'), [(True, 60, True), (True, 59, False), (False, 60, False)])
def test_many_images_show_a_progress_bar_on_a_terminal(stand_in, monkeypatch, capsys, terminal, samples, shown):
  monkeypatch.setattr(inception_module, '_PROGRESS_BAR_FROM', 60)
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: terminal, raising=False)
  stand_in.predict(np.zeros([samples, 2, 2, 1]))
  out, err = capsys.readouterr()
  assert not out
  assert ('inception_v3: 100%' in err and '60/60' in err) is shown


# Weights.


def test_hash_is_that_of_the_weights(inception, original):
  expected = hashlib.sha256(b''.join(weight.tobytes() for weight in original.get_weights())).hexdigest()
  assert (inception.name, inception.hash) == ('inception_v3', expected[:16])
  model = _stand_in_model()
  before = Inception(model).hash
  assert Inception(model).hash == before
  model.weights[0].assign(model.weights[0] + 1e-3)
  assert Inception(model).hash != before


def test_downloaded_weights_are_read_without_a_network_in_float32(inception, keras_home, monkeypatch):
  [path] = (keras_home / 'models').iterdir()
  monkeypatch.setenv('KERAS_HOME', str(keras_home))
  monkeypatch.setattr(inception_module, '_MD5', hashlib.md5(path.read_bytes()).hexdigest())
  monkeypatch.setattr(tfds, 'host_answers', lambda url, **_: pytest.fail(f'asked for {url}'))
  keras.config.set_dtype_policy('mixed_bfloat16')
  try:
    loaded = load_inception(None)
    assert keras.config.dtype_policy().name == 'mixed_bfloat16'
    images = _grey_levels(1) / 256
    np.testing.assert_array_equal(loaded.predict(images)[0], inception.predict(images)[0])
  finally:
    keras.config.set_dtype_policy('float32')
  assert loaded.hash == inception.hash


def test_missing_or_damaged_weights_are_downloaded_as_keras_does(keras_home, tmp_path, monkeypatch):
  (tmp_path / 'models').mkdir()
  [path] = (keras_home / 'models').iterdir()
  (tmp_path / 'models' / path.name).write_bytes(path.read_bytes()[:-1000])
  asked = []

  def get_file(name, url, **kwargs):
    asked.append((name, url, kwargs))
    raise StopIteration  # Another test covers what happens to the file.

  monkeypatch.setenv('KERAS_HOME', str(tmp_path))
  monkeypatch.setattr(tfds, 'host_answers', lambda url, **_: url == keras_inception_v3.WEIGHTS_PATH)
  monkeypatch.setattr(keras.utils, 'get_file', get_file)
  with pytest.raises(UsageError, match='StopIteration'):
    load_inception(None)
  [(name, url, kwargs)] = asked
  source = inspect.getsource(keras_inception_v3.InceptionV3)
  assert url == keras_inception_v3.WEIGHTS_PATH
  assert f'"{name}"' in source
  assert f'file_hash="{kwargs["file_hash"]}"' in source
  assert (kwargs['cache_dir'], kwargs['cache_subdir']) == (str(tmp_path), 'models')


# Errors.


REMEDIES = "pass a local copy as `inception_weights`, or use the `scorer` 'classifier', which needs no download$"


def _raises(weights, message):
  with pytest.raises(UsageError, match=message) as error:
    load_inception(weights)
  assert '\n' not in str(error.value)


def test_no_network_says_what_to_do_within_seconds(tmp_path, monkeypatch):
  def hang(*args, **kwargs):
    time.sleep(3)
    raise requests.ConnectionError

  monkeypatch.setenv('KERAS_HOME', str(tmp_path))
  monkeypatch.setattr(requests, 'head', hang)
  monkeypatch.setattr(tfds, '_TIMEOUT_SECONDS', 0.1)
  start = time.monotonic()
  _raises(None, rf'^Inception-v3: no weights in {tmp_path}/models/\S+\.h5, .* cannot be reached; {REMEDIES}')
  assert time.monotonic() - start < 2
  assert not os.listdir(tmp_path)


def test_failed_download_says_what_to_do(tmp_path, monkeypatch, capsys):
  def get_file(*args, **kwargs):
    print('Downloading')
    raise Exception('URL fetch failure: 403\nForbidden')

  monkeypatch.setenv('KERAS_HOME', str(tmp_path))
  monkeypatch.setattr(tfds, 'host_answers', lambda url, **_: True)
  monkeypatch.setattr(keras.utils, 'get_file', get_file)
  _raises(None, rf'^Inception-v3: download .* failed \(Exception: URL fetch failure: 403\); try again, {REMEDIES}')
  assert capsys.readouterr() == ('', 'Downloading\n')


def test_missing_file_and_folder_are_refused(tmp_path):
  for path in (tmp_path / 'none.h5', tmp_path):
    _raises(str(path), f'^{path}: no such file; `inception_weights` must be weights of Inception-v3')


def test_damaged_files_and_other_networks_are_refused(original, weights, tmp_path, monkeypatch, recwarn):
  # Building the network anew for each file would take most of the time.
  monkeypatch.setattr(inception_module, '_network', lambda: original)
  shutil.copy(weights, tmp_path / 'truncated.weights.h5')
  os.truncate(tmp_path / 'truncated.weights.h5', os.path.getsize(weights) // 2)
  (tmp_path / 'text.h5').write_text('not HDF5')
  (tmp_path / 'text.bin').write_text('of no known kind')
  other = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
  other.save_weights(tmp_path / 'other.weights.h5')
  other.save(tmp_path / 'other.h5')
  shutil.copy(weights, tmp_path / 'no_top.weights.h5')
  with h5py.File(tmp_path / 'no_top.weights.h5', 'a') as file:
    del file['layers/dense']
  recwarn.clear()
  for name in ('truncated.weights.h5', 'text.h5', 'text.bin', 'other.weights.h5', 'other.h5', 'no_top.weights.h5'):
    path = re.escape(str(tmp_path / name))
    _raises(str(tmp_path / name), rf'^{path}: damaged or not of this network \(\w+\); `inception_weights` must be ')
  assert not [warning for warning in recwarn if 'Skipping' in str(warning.message)]
