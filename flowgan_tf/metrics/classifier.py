"""The classifier behind the Inception and MODE scores: a small network trained on the data set itself.

The scores need p(y|x) from a classifier that knows the data. A network pretrained on ImageNet says little about digits,
and a download is not always possible; this one trains in about a minute on two CPU cores and is kept in a cache.
"""

import dataclasses
import functools
import hashlib
import logging
import math
import os
import re
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf.data import Dataset, dequantize
from flowgan_tf.files import save_arrays
from flowgan_tf.metrics.predictions import Predictions

__all__ = ['Classifier', 'load_or_train']

_LOG = logging.getLogger(__name__)

# Part of the cache file's name. To be raised with every change that makes other classifiers of the same data: to the
# network, its training, or the dequantisation of `data/pipeline.py`.
_VERSION = 1
_BATCH_SIZE = 128
# Images seen in training: 60 epochs, but no fewer than the first number, and no more than the second.
_EPOCHS = 60
_IMAGES_SEEN = 20_000, 250_000
_PIXELS_PER_SECOND = 3e6  # Training speed on two CPU cores, only to tell the user how long it will take.


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
  """A trained classifier and what a reported score must say of it.

  Attributes:
    model: maps float images `[n, height, width, channels]` in [0, 1] to logits `[n, num_classes]`; the layer named
      `features` is its last hidden one, `[n, 128]`.
    num_classes: number of classes.
    test_accuracy: fraction of the test split, dequantised, that is classified rightly.
    hash: first 16 hexadecimal digits of the SHA-256 of the weights. Scores compare only with the same hash, number of
      samples and number of splits.
    label_distribution: `[num_classes]`, float64, p*(y): label frequencies of the training split.
    name: 'classifier', the same for all.
  """

  model: keras.Model
  num_classes: int
  test_accuracy: float
  hash: str
  label_distribution: np.ndarray

  name: ClassVar[str] = 'classifier'

  def predict(self, images: np.ndarray) -> Predictions:
    """Returns the features of the last hidden layer and p(y|x), `softmax(model(x))`.

    Args:
      images: `[n, height, width, channels]`, float, in [0, 1]. Values outside are clipped, as they are when an image is
        shown or saved. Any n: images go through the network in batches.

    Returns:
      `Predictions`: features `[n, 128]`, and probabilities `[n, num_classes]`, whose softmax is in float64: in float32
      the small ones would be rounded to 0.

    Raises:
      ValueError: the images are not floats, not of the model's shape, none, or not finite.
    """
    images = np.asarray(images)
    if not np.issubdtype(images.dtype, np.floating):
      raise ValueError(f'`images` must be floats in [0, 1]. Got: {images.dtype}')
    shape = self.model.input_shape[1:]
    if images.shape[1:] != shape or len(images) == 0:
      raise ValueError(f'`images` must have shape [n, {", ".join(map(str, shape))}] with n > 0. Got: {images.shape}')
    if bad := np.count_nonzero(~np.isfinite(images).all(axis=(1, 2, 3))):
      raise ValueError(f'`images` must be finite. Got: {bad} of {len(images)} images with NaN or infinity')
    clipped = np.clip(images, 0, 1).astype(np.float32)
    features, logits = self._features_and_logits.predict(clipped, batch_size=500, verbose=0)
    return Predictions(features, tf.nn.softmax(logits.astype(np.float64)).numpy())

  def probabilities(self, images: np.ndarray) -> np.ndarray:
    """Returns p(y|x) as in `predict`, float64 `[n, num_classes]`."""
    return self.predict(images).probabilities

  @functools.cached_property
  def _features_and_logits(self):
    model = keras.Model(self.model.inputs, [self.model.get_layer('features').output, self.model.outputs[0]])
    model.compile(jit_compile=False)
    return model


def load_or_train(dataset: Dataset, cache_dir: str | os.PathLike, seed: int = 0) -> Classifier:
  """Returns the data set's classifier, from the cache if it is there, otherwise newly trained and then cached.

  Training sees the images as a flow's samples look: `x = (k + u) / levels` with new noise u at each step. All
  randomness is stateless and derives from `seed` alone, not from the global seeds of TensorFlow, Keras or NumPy. On a
  CPU the same machine, library versions and seed give the same weights, and so the same hash; across machines, and on a
  GPU, rounding differs, and the hash with it.

  Args:
    dataset: labelled data. The training split trains, the test split gives the accuracy.
    cache_dir: folder of the cache, made if it is not there. A file in it that cannot be read is replaced. Where it
      cannot be written, a warning says so, and the classifier is not kept.
    seed: seed of the initial weights, the order of the images, dropout and noise.

  Returns:
    A `Classifier`.

  Raises:
    ValueError: the data set has no labels.
  """
  if dataset.train.labels is None or dataset.test.labels is None:
    raise ValueError(f'A classifier needs labels: data set {dataset.name!r} has no labels')
  name = re.sub(r'[^A-Za-z0-9_-]+', '-', dataset.name)
  path = os.path.join(cache_dir, f'classifier-{name}-{dataset.fingerprint[:12]}-v{_VERSION}-seed{seed}.npz')
  model = _network(dataset.image_shape, dataset.num_classes, seed)
  test_accuracy = _load(model, path)
  if test_accuracy is None:
    _train(model, dataset, seed)
    test_accuracy = _accuracy(model, dataset, seed)
    _LOG.info('Classifier for %s: %.2f %% of the test split right.', dataset.name, 100 * test_accuracy)
    _save(model, test_accuracy, path)
  counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
  return Classifier(model, dataset.num_classes, test_accuracy, _hash(model.get_weights()), counts / counts.sum())


def _network(image_shape, num_classes, seed):
  """Convolutions and pooling down to fewer than 8 pixels a side, then one hidden layer."""
  # Each layer names its seed and dtype: Keras would otherwise take them from its global seed and global policy.
  layer, he_normal, float32 = keras.layers, keras.initializers.HeNormal, {'dtype': 'float32'}
  layers = [keras.Input(image_shape, **float32)]
  size, filters = min(image_shape[:2]), 32
  while size >= 8:
    layers += [
      layer.Conv2D(filters, 3, padding='same', activation='relu', kernel_initializer=he_normal(seed + size), **float32),
      layer.MaxPooling2D(2, **float32),
    ]
    size, filters = size // 2, min(2 * filters, 128)
  layers += [
    layer.Flatten(**float32),
    layer.Dropout(0.3, seed=seed, **float32),
    layer.Dense(128, activation='relu', kernel_initializer=he_normal(seed + 1), name='features', **float32),
    layer.Dropout(0.3, seed=seed + 1, **float32),
    layer.Dense(num_classes, kernel_initializer=he_normal(seed + 2), name='logits', **float32),
  ]
  model = keras.Sequential(layers, name='classifier')
  # Keras' default is XLA, whose convolution gradients are an order of magnitude slower on a CPU.
  model.compile(jit_compile=False)
  return model


def _train(model, dataset, seed):
  count = len(dataset.train.images)
  epochs = math.ceil(np.clip(_EPOCHS * count, *_IMAGES_SEEN) / count)
  pixels = epochs * count * np.prod(dataset.image_shape[:2])
  _LOG.info(
    'Training a classifier on %s for the sample scores: %d epochs of %d images, about %.0f s on two CPU cores.',
    dataset.name,
    epochs,
    count,
    max(1, pixels / _PIXELS_PER_SECOND),
  )
  rng = np.random.default_rng(seed)
  order = np.concatenate([rng.permutation(count) for _ in range(epochs)])
  batches = [order[start : start + _BATCH_SIZE] for start in range(0, len(order), _BATCH_SIZE)]
  model.compile(
    optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, decay_steps=len(batches))),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=False,
  )
  for batch in batches:
    images = dequantize(dataset.train.images[batch], dataset.levels, seed=int(rng.integers(2**63)))
    model.train_on_batch(images, dataset.train.labels[batch])


def _accuracy(model, dataset, seed):
  images = dequantize(dataset.test.images, dataset.levels, seed)
  predictions = model.predict(images, batch_size=500, verbose=0).argmax(axis=1)
  return float(np.mean(predictions == dataset.test.labels))


def _hash(weights):
  digest = hashlib.sha256()
  for weight in weights:
    digest.update(weight.tobytes())
  return digest.hexdigest()[:16]


def _save(model, test_accuracy, path):
  weights = model.get_weights()
  arrays = {f'weight_{i}': weight for i, weight in enumerate(weights)}
  try:
    save_arrays(path, test_accuracy=test_accuracy, hash=_hash(weights), **arrays)
  except OSError as error:
    _LOG.warning('The classifier cannot be kept in the cache: %s: %s.', path, error.strerror)


def _load(model, path):
  """Sets the weights and returns the test accuracy, or returns None where there is no intact cache file."""
  try:
    with np.load(path, allow_pickle=False) as saved:
      weights = [saved[f'weight_{i}'] for i in range(len(model.get_weights()))]
      if _hash(weights) != str(saved['hash']):
        raise ValueError('the weights do not match their hash')
      test_accuracy = float(saved['test_accuracy'])
    model.set_weights(weights)
    return test_accuracy
  except (FileNotFoundError, NotADirectoryError):
    return None
  except Exception as error:  # A damaged zip file raises almost anything, from EOFError to NotImplementedError.
    _LOG.warning('Classifier cache %s is damaged (%s: %s); training again.', path, type(error).__name__, error)
    return None
