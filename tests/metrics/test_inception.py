"""Inception-v3. Small networks stand for it, apart from the slow tests."""

import inspect
import re
import shutil

import h5py
import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import dequantize, tfds
from flowgan_tf.metrics import inception as inception_module
from flowgan_tf.metrics.inception import Inception, load_inception

REMEDIES = "pass a local copy as `inception_weights`, or use the `scorer` 'classifier', which needs no download$"

# Keras has no public name for the address of its weights, and for what loads them.
keras_inception_v3 = inspect.getmodule(keras.applications.InceptionV3)


def grey_levels(samples, shape=(32, 32, 3)):
  return np.random.default_rng(0).integers(0, 256, (samples, *shape)).astype(np.uint8)


@pytest.fixture(scope='module')
def network():
  """Features are colours at 16 places of an image; the layers have the names that Inception-v3's have."""
  image = keras.Input([299, 299, 3])
  places = keras.layers.AveragePooling2D(1, strides=80)(image)
  features = keras.layers.Flatten(name='avg_pool')(places)
  return keras.Model(image, keras.layers.Dense(4, name='predictions')(features))


@pytest.fixture(scope='module')
def stand_in(network):
  return Inception(keras.Model(network.input, [network.get_layer('avg_pool').output, network.output]))


# Predictions.


@pytest.mark.parametrize('shape', [(32, 32, 3), (28, 20, 1)])
def test_images_are_resized_and_scaled_as_keras_does(network, stand_in, shape, monkeypatch):
  monkeypatch.setattr(inception_module, '_BATCH_SIZE', 2)
  levels = grey_levels(3, shape)
  resized = tf.image.resize(np.tile(levels.astype(np.float32), 3 // shape[-1]), [299, 299], method='bilinear').numpy()
  expected = keras.applications.inception_v3.preprocess_input(resized)[:, ::80, ::80].reshape(3, 48)
  features, probabilities = stand_in.predict(levels / 256)
  np.testing.assert_allclose(features, expected, atol=1e-5)
  kernel, bias = network.get_layer('predictions').get_weights()
  np.testing.assert_allclose(probabilities, scipy.special.softmax(expected @ kernel + bias, axis=1), atol=1e-5)
  assert (features.dtype, probabilities.dtype) == (np.float32, np.float64)
  np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
  np.testing.assert_array_equal(stand_in.predict(dequantize(levels, 256, seed=1))[0], features)


def test_values_are_cut_to_grey_levels_but_nan_and_grey_levels_rejected(stand_in):
  values, levels = np.array([-0.5, 0.0, 1 / 255, 0.5, 1.0, 7.0]), np.array([0, 0, 1, 128, 255, 255])
  features = stand_in.predict(np.ones([6, 8, 8, 3]) * values[:, None, None, None])[0]
  np.testing.assert_allclose(features, np.ones([6, 48]) * (levels / 127.5 - 1)[:, None], atol=1e-4)
  with pytest.raises(UsageError, match=r'^`images` must be floats'):
    stand_in.predict(np.zeros([2, 8, 8, 3], np.uint8))


# Weights.


def raises(weights, message):
  with pytest.raises(UsageError, match=message) as error:
    load_inception(weights)
  assert '\n' not in str(error.value)


def test_without_a_network_or_after_a_failed_download_it_says_what_to_do(tmp_path, monkeypatch, capsys):
  def download(**_):
    print('Downloading')
    raise Exception('URL fetch failure: 403\nForbidden')

  monkeypatch.setenv('KERAS_HOME', str(tmp_path))
  monkeypatch.setattr(tfds, 'host_answers', lambda url: url != keras_inception_v3.WEIGHTS_PATH)
  raises(None, rf'^Inception-v3: no weights in {tmp_path}/models/\S+\.h5, .* cannot be reached; {REMEDIES}')
  monkeypatch.setattr(tfds, 'host_answers', lambda url: True)
  monkeypatch.setattr(keras.applications, 'InceptionV3', download)
  raises(None, rf'^Inception-v3: download .* failed \(Exception: URL fetch failure: 403\); try again, {REMEDIES}')
  assert capsys.readouterr() == ('', 'Downloading\n')


def test_files_that_are_not_its_weights_are_rejected(network, tmp_path, monkeypatch, recwarn):
  for path in (tmp_path / 'none.h5', tmp_path):
    raises(str(path), f'^{path}: no such file; `inception_weights` must be weights of Inception-v3')
  monkeypatch.setattr(keras.applications, 'InceptionV3', lambda **_: network)
  weights = tmp_path / 'good.weights.h5'
  network.save_weights(weights)
  load_inception(str(weights))
  (tmp_path / 'truncated.weights.h5').write_bytes(weights.read_bytes()[:5000])
  keras.Sequential([keras.Input([3]), keras.layers.Dense(2)]).save(tmp_path / 'other.h5')
  shutil.copy(weights, tmp_path / 'no_top.weights.h5')
  with h5py.File(tmp_path / 'no_top.weights.h5', 'a') as file:
    del file['layers/dense']
  recwarn.clear()
  for name in ('truncated.weights.h5', 'other.h5', 'no_top.weights.h5'):
    path = re.escape(str(tmp_path / name))
    raises(str(tmp_path / name), rf'^{path}: damaged or not of this network \(\w+\); `inception_weights` must be ')
  assert not [warning for warning in recwarn if 'Skipping' in str(warning.message)]


# The network itself.


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
def inception(original, tmp_path_factory):
  path = tmp_path_factory.mktemp('weights') / 'inception.weights.h5'
  original.save_weights(path)
  return load_inception(str(path))


@pytest.mark.slow
def test_predictions_are_those_of_keras_functions_by_hand(inception, original):
  """Features and logits by Keras' functions, one image at a time."""
  levels = grey_levels(4)
  network = keras.Model(original.input, original.get_layer('avg_pool').output)
  resized = tf.image.resize(levels.astype(np.float32), [299, 299], method='bilinear').numpy()
  images = keras.applications.inception_v3.preprocess_input(resized)
  expected = np.concatenate([network(image[None], training=False).numpy() for image in images])
  kernel, bias = (weight.astype(np.float64) for weight in original.get_layer('predictions').get_weights())
  features, probabilities = inception.predict(levels / 256)
  # A random network sees little difference between random images, which must not be lost in the tolerance.
  np.testing.assert_allclose(features, expected, rtol=0, atol=expected.std(axis=0).mean() / 50)
  # Logits of some hundreds are exact to about 1e-3 in float32.
  logits = scipy.special.log_softmax(expected.astype(np.float64) @ kernel + bias, axis=1)
  np.testing.assert_allclose(np.log(probabilities), logits, rtol=0, atol=1e-2)
  assert 0 < probabilities.min() < 1e-60  # in float32 these would be 0


@pytest.mark.slow
def test_weights_that_keras_downloaded_are_read(inception, original, tmp_path, monkeypatch):
  """Weights as Keras 1 and 2 saved them, without a network, and in float32 whatever the policy."""
  path = tmp_path / 'models' / 'inception_v3_weights_tf_dim_ordering_tf_kernels.h5'
  path.parent.mkdir()
  original.save(tmp_path / 'whole.h5')
  with h5py.File(tmp_path / 'whole.h5') as whole, h5py.File(path, 'w') as file:
    for name in whole['model_weights']:
      whole.copy(f'model_weights/{name}', file)
    file.attrs.update(whole['model_weights'].attrs)
  monkeypatch.setenv('KERAS_HOME', str(tmp_path))
  monkeypatch.setattr(keras_inception_v3.file_utils, 'get_file', lambda *args, **_: str(path))
  monkeypatch.setattr(tfds, 'host_answers', lambda url: pytest.fail(f'asked for {url}'))
  images = grey_levels(1) / 256
  keras.config.set_dtype_policy('mixed_bfloat16')
  try:
    loaded = load_inception(None)
    assert keras.config.dtype_policy().name == 'mixed_bfloat16'
    np.testing.assert_array_equal(loaded.predict(images)[0], inception.predict(images)[0])
  finally:
    keras.config.set_dtype_policy('float32')
  assert (loaded.name, loaded.hash) == ('inception_v3', inception.hash)
