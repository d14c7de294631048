"""Inception-v3, trained on ImageNet: the network behind the usual scores of natural images.

Published Inception scores and FIDs come from one TensorFlow graph of 2015, with 1008 outputs and its own way to resize.
The weights of `keras.applications` come from another training of the same architecture, with 1000 classes. Their scores
have the same scale as published ones, but are not comparable to the last digit. Compare only scores with the same hash,
number of samples and number of splits.
"""

import contextlib
import os
import sys
import warnings

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import raise_unless_damaged
from flowgan_tf.data import tfds
from flowgan_tf.devices.cores import in_parts
from flowgan_tf.metrics.arrays import check_images, map_batches, weights_hash

_SIZE = 299
_BATCH_SIZE = 50

# The name and address that keras.applications uses.
_FILE_NAME = 'inception_v3_weights_tf_dim_ordering_tf_kernels.h5'
_URL = f'https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/{_FILE_NAME}'
_REMEDIES = "pass a local copy as `inception_weights`, or use the `scorer` 'classifier', which needs no download"


class Inception:
  """Inception-v3 with its weights, in float32: a `ScoreNetwork` that knows ImageNet's classes, not the data set's.

  #### References

  Szegedy, Vanhoucke, Ioffe, Shlens, Wojna. Rethinking the Inception architecture for computer vision. CVPR 2016.
  Salimans et al. Improved techniques for training GANs. NIPS 2016, section 4.
  """

  name = 'inception_v3'
  label_distribution = None
  test_accuracy = None

  def __init__(self, model: keras.Model):
    """Wraps a model that maps images `[n, 299, 299, 3]` in [-1, 1] to features and logits."""
    self.hash = weights_hash(model.get_weights())
    self._model = model

  def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features and `softmax(logits)` of images.

    The network sees images as they would be saved, `k = floor(256 x)`, clipped to 0 .. 255. For a dequantised image
    with 256 grey levels that is the original. Grey images are repeated to three channels. All images are resized to
    299 x 299 by bilinear interpolation without an anti-aliasing filter, and scaled to [-1, 1], `k / 127.5 - 1`.

    Args:
      images: Finite floats `[n, height, width, 1 or 3]` in [0, 1]. They go through the network in batches.

    Returns:
      The global average pool, float32 `[n, 2048]`, and the probabilities of ImageNet's classes, float64 `[n, 1000]`.
    """
    grey_levels = np.clip(np.floor(256 * check_images(images)), 0, 255).astype(np.uint8)
    colours = np.repeat(grey_levels, 3 // grey_levels.shape[-1], axis=-1)
    size = min(_BATCH_SIZE, len(colours))
    features, logits = map_batches(in_parts(self._forward), colours, size, what=self.name)
    return features, tf.nn.softmax(logits.astype(np.float64)).numpy()

  # Keras' own `predict` would compile with XLA, whose convolutions are slow on a CPU. The signature leaves the batch
  # size open, so that parts of several sizes use the same graph.
  @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)], jit_compile=False)
  def _forward(self, colours):
    return self._model(tf.image.resize(colours, [_SIZE, _SIZE]) / 127.5 - 1, training=False)


def load_inception(weights: str | None) -> Inception:
  """Builds Inception-v3 and loads its weights.

  Args:
    weights: A file of the whole network with its 1000-class layer: `.weights.h5`, `.keras` or Keras' older `.h5`. None
      stands for the ImageNet weights of `keras.applications`, which Keras downloads once (96 MB) and keeps in ~/.keras.

  Raises:
    UsageError: If the weights cannot be downloaded, or the file is missing or damaged, or belongs to another network.
      Without a connection this takes only seconds.
  """
  if weights is None:
    path = os.path.join(os.path.expanduser(os.environ.get('KERAS_HOME') or '~/.keras'), 'models', _FILE_NAME)
    # Without this check Keras could wait for minutes, or for ever if the network drops its packets.
    if not (os.path.isfile(path) or tfds.host_answers(_URL)):
      said = f'Inception-v3: no weights in {path}, and {_URL} cannot be reached; {_REMEDIES}'
      raise UsageError(said, 'inception_weights')
  elif not os.path.isfile(path := os.path.expanduser(weights)):
    raise UsageError(
      f'{path}: no such file; `inception_weights` must be weights of Inception-v3, .weights.h5 or .h5',
      'inception_weights',
    )
  policy = keras.config.dtype_policy()
  keras.config.set_dtype_policy('float32')  # InceptionV3 has no dtype argument.
  try:
    # Keras' progress bar is not part of a program's output.
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
      # For another network's file, Keras gives a hundred warnings before it raises.
      warnings.simplefilter('ignore')
      model = keras.applications.InceptionV3(
        weights='imagenet' if weights is None else None, classifier_activation=None
      )
      if weights is not None:
        model.load_weights(path)
  except Exception as error:  # HDF5 and Keras raise OSError, KeyError, ValueError and others, and a bare Exception.
    if weights is None:
      reason = ': '.join([type(error).__name__, *str(error).splitlines()[:1]])
      said = f'Inception-v3: download of {_URL} failed ({reason}); try again, {_REMEDIES}'
    else:
      raise_unless_damaged(path, error)
      said = (
        f'{path}: damaged or not of this network ({type(error).__name__}); `inception_weights` must be .weights.h5 or '
        '.h5 of keras.applications.InceptionV3 with its 1000 classes'
      )
    raise UsageError(said, 'inception_weights') from error
  finally:
    keras.config.set_dtype_policy(policy)
  return Inception(keras.Model(model.input, [model.get_layer('avg_pool').output, model.output]))
