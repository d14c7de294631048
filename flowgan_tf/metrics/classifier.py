"""The classifiers behind the Inception and MODE scores: networks trained on the data set itself.

The scores need p(y|x) from a classifier that knows the data. A network pretrained on ImageNet is of little use for
digits, and a download is not always possible. The small classifier trains in about a minute on two CPU cores. It
suffices for digits. The residual one trains longer, on images that are moved and mirrored, and suits photographs. Both
are kept in a cache.
"""

import dataclasses
import functools
import itertools
import logging
import math
import os

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf.base.cache import cached
from flowgan_tf.base.errors import check, check_choice
from flowgan_tf.base.progress import Task
from flowgan_tf.data import Dataset, dequantize, dequantized_chunks, make_condition, training_batches
from flowgan_tf.devices.cores import in_parts
from flowgan_tf.metrics.arrays import check_images, map_batches, weights_hash

_LOG = logging.getLogger(__name__)

# Part of the cache file's name. Raise it with every change that makes a different classifier of the same data: to the
# network, to its training, or to the dequantisation in `data/pipeline.py`.
_VERSION = 1
_BATCH_SIZE = 128
_BATCH_SIZE_OF_RESNET = 256
_BATCH_SIZE_OF_TEST = 500
# Training takes 60 epochs, within these limits on the number of images that it sees.
_EPOCHS = 60
_IMAGES_SEEN = {'classifier': (20_000, 250_000), 'resnet': (20_000, 600_000)}
# Training speed on two CPU cores, used only to tell the user how long training will take.
_PIXELS_PER_SECOND = {'classifier': 3e6, 'resnet': 6e5}
CLASSIFIERS = tuple(_IMAGES_SEEN)


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
  """A trained classifier, with what a report must say about it beside a score: a `ScoreNetwork`."""

  #: Maps float images `[n, height, width, channels]` in [0, 1] to logits `[n, classes]`. The layer named `features` is
  #: the last hidden layer, `[n, 128]` for 'classifier' and `[n, 192]` for 'resnet'.
  model: keras.Model
  test_accuracy: float  #: Fraction of the dequantised test images that are classified correctly.
  hash: str
  label_distribution: np.ndarray  #: Label frequencies p*(y) of the training images, float64 `[classes]`.
  name: str = 'classifier'  #: 'classifier' for the small network, or 'resnet'.

  def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features of the last hidden layer and p(y|x), `softmax(model(x))`.

    Args:
      images: Finite floats `[n, height, width, channels]` in [0, 1]. Values outside are clipped, as when an image is
        shown or saved. The images go through the network in batches, so n may be large.

    Returns:
      Features of the layer `features`, float32, and probabilities, float64 `[n, classes]`; float32 would round small
      ones to 0.
    """
    clipped = np.clip(check_images(images), 0, 1).astype(np.float32)
    shape = self.model.input_shape[1:]
    check('images', clipped.shape, f'[n, *{shape}], as the classifier was trained on', clipped.shape[1:] == shape)
    features, logits = map_batches(self._features_and_logits, clipped, _BATCH_SIZE_OF_TEST, what='classifying')
    return features, tf.nn.softmax(logits.astype(np.float64)).numpy()

  @functools.cached_property
  def _features_and_logits(self):
    model = keras.Model(self.model.inputs, [self.model.get_layer('features').output, self.model.outputs[0]])
    return in_parts(tf.function(lambda images: model(images, training=False), autograph=False))


def load_classifier(
  dataset: Dataset, cache_dir: str | os.PathLike, seed: int = 0, name: str = 'classifier'
) -> Classifier:
  """Returns the classifier of a data set, from the cache if it is there and newly trained otherwise.

  The network is trained on images that look like a flow's samples, `x = (k + u) / levels` with new noise u at each
  step. All randomness is stateless and comes from `seed` alone, not from the global seeds of TensorFlow, Keras or
  NumPy. On one machine's CPU, the same library versions and seed give the same weights and the same hash. On other
  machines and on GPUs rounding differs, and so does the hash.

  Args:
    dataset: Labelled data. The training images train the classifier, and the test images give its accuracy.
    cache_dir: Folder of the cache. If it cannot be written to, a warning says so.
    seed: Seed of the initial weights, the order of the images, dropout and noise.
    name: 'classifier', convolutions and a dense layer; or 'resnet', a residual network with batch norms, which is
      trained with label smoothing, on images that are moved by up to 4 pixels and, in colour, mirrored.

  Raises:
    UsageError: If there is no such classifier.
  """
  check_choice('name', name, CLASSIFIERS)
  make, fit = {'classifier': (_network, _train), 'resnet': (_resnet, _train_resnet)}[name]
  model = make(dataset.image_shape, dataset.num_classes, seed)

  def train():
    fit(model, dataset, seed)
    chunks = dequantized_chunks(dataset.test.images, dataset.levels, seed, _BATCH_SIZE_OF_TEST)
    with Task('testing the classifier'):
      logits = [model.predict(chunk, batch_size=_BATCH_SIZE_OF_TEST, verbose=0) for chunk in chunks]
    test_accuracy = float(np.mean(np.concatenate(logits).argmax(axis=1) == dataset.test.labels))
    _LOG.info('The classifier of %s labels %.2f %% of the test images correctly.', dataset.name, 100 * test_accuracy)
    weights = model.get_weights()
    arrays = {f'weight_{i}': weight for i, weight in enumerate(weights)}
    return {'test_accuracy': test_accuracy, 'hash': weights_hash(weights), **arrays}

  most = _IMAGES_SEEN[name][1]
  of = '' if len(dataset.train) <= most else f'-of{most}'
  file = f'{name}-{dataset.name}{of}-{dataset.fingerprint[:12]}-v{_VERSION}-seed{seed}'
  saved = cached(cache_dir, file, train)
  model.set_weights([saved[f'weight_{i}'] for i in range(len(model.weights))])
  assert dataset.train.labels is not None and dataset.num_classes is not None
  counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
  return Classifier(model, float(saved['test_accuracy']), str(saved['hash']), counts / counts.sum(), name)


def _network(image_shape, num_classes, seed):
  """Returns convolutions and pooling until a side has fewer than 8 pixels, and then one hidden layer."""
  # Each layer is given its seed and dtype, which Keras would otherwise take from its global seed and policy.
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
  return keras.Sequential(layers, name='classifier')


def _resnet(image_shape, num_classes, seed):
  """Returns a residual network: a convolution, three that halve the image, and a block after each of the last two."""
  layer, float32, seeds = keras.layers, {'dtype': 'float32'}, itertools.count(seed)

  def convolution(x, filters, halve=False):
    initializer = keras.initializers.HeNormal(next(seeds))
    x = layer.Conv2D(filters, 3, padding='same', use_bias=False, kernel_initializer=initializer, **float32)(x)
    if halve:
      x = layer.MaxPooling2D(2, padding='same', **float32)(x)
    x = layer.BatchNormalization(momentum=0.9, **float32)(x)
    return layer.ReLU(**float32)(x)

  inputs = keras.Input(image_shape, **float32)
  x = convolution(layer.Rescaling(4.0, -2.0, **float32)(inputs), 24)
  x = convolution(x, 48, halve=True)
  for filters in (96, 192):
    x = convolution(x, filters, halve=True)
    x = layer.Add(**float32)([x, convolution(convolution(x, filters), filters)])
  x = layer.GlobalMaxPooling2D(name='features', **float32)(x)
  initializer = keras.initializers.GlorotUniform(next(seeds))
  logits = layer.Dense(num_classes, kernel_initializer=initializer, name='logits', **float32)(x)
  return keras.Model(inputs, logits, name='resnet')


def _announce(name, dataset):
  """Prints what is trained for how long; returns the numbers of images in an epoch and of epochs."""
  images, (least, most) = len(dataset.train), _IMAGES_SEEN[name]
  count = min(images, most)  # If there are more, the network sees a random part once.
  epochs = math.ceil(np.clip(_EPOCHS * count, least, most) / count)
  pixels = epochs * count * np.prod(dataset.image_shape[:2])
  _LOG.info(
    'Training a %s on %s for the sample scores: %d epochs of %d images%s, about %.0f s on two CPU cores. '
    '--config.score_samples=0 trains without scores.',
    name,
    dataset.name,
    epochs,
    count,
    f' of {images}' if images > count else '',
    max(1, pixels / _PIXELS_PER_SECOND[name]),
  )
  return count, epochs


def _train(model, dataset, seed):
  count, epochs = _announce('classifier', dataset)
  rng = np.random.default_rng(seed)
  order = np.concatenate([rng.permutation(len(dataset.train))[:count] for _ in range(epochs)])
  batches = [order[start : start + _BATCH_SIZE] for start in range(0, len(order), _BATCH_SIZE)]
  model.compile(
    optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, decay_steps=len(batches))),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=False,  # The gradients of XLA's convolutions are ten times slower on a CPU.
  )
  with Task('training the classifier', len(order)) as task:
    for batch in batches:
      images = dequantize(dataset.train.images[batch], dataset.levels, seed=int(rng.integers(2**63)))
      model.train_on_batch(images, dataset.train.labels[batch])
      task.advance(len(batch))


def _train_resnet(model, dataset, seed):
  count, epochs = _announce('resnet', dataset)
  steps, classes = count * epochs // _BATCH_SIZE_OF_RESNET, dataset.num_classes
  # The learning rate rises to 3e-3 in the first fifth of the steps, and then falls to 0.
  rise = max(1, steps // 5)
  rate = keras.optimizers.schedules.CosineDecay(1.5e-4, steps - rise, warmup_target=3e-3, warmup_steps=rise)
  model.compile(
    optimizer=keras.optimizers.AdamW(rate, weight_decay=0.02, beta_2=0.99),
    loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    jit_compile=False,
  )
  batches = training_batches(
    dataset.train,
    dataset.levels,
    _BATCH_SIZE_OF_RESNET,
    seed,
    flip=dataset.image_shape[-1] == 3,  # Digits and letters, which most grey images are, would become others.
    condition=make_condition('label', dataset),
    shift=4,
  )
  with Task('training the classifier', steps * _BATCH_SIZE_OF_RESNET) as task:
    for images, labels in batches.take(steps):
      model.train_on_batch(images, tf.one_hot(labels, classes))
      task.advance(len(images))
