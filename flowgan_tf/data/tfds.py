"""TensorFlow Datasets (TFDS): it reads prepared data first, and uses the network only if that answers."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import requests
import tensorflow as tf

from flowgan_tf.base.cache import cached
from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.files import digest, raise_unless_damaged, remove_left_behind
from flowgan_tf.base.lazy import lazy_import
from flowgan_tf.data import arrays
from flowgan_tf.data.dataset import RESIZE, Dataset, all_labelled, crop_and_resize, hold_out, three_way
from flowgan_tf.data.names import OF_TFDS, SPLITS, check_exists, prepared_folder, tfds_root
from flowgan_tf.data.split import Split
from flowgan_tf.flows.classes import as_class_names

if TYPE_CHECKING:
  import tensorflow_datasets as tfds
else:
  tfds = lazy_import('tensorflow_datasets')  # It takes long to import, and other sources do not need it.

_BATCH = 256  # images to decode at a time
_VERSION = 1  # of what is cached; a change of the splits or of how images are resized needs another one
_TIMEOUT_SECONDS = 5


def load_tfds(
  dataset: str, data_dir: str | None, image_size: int = 0, cache_dir: str | os.PathLike | None = None
) -> Dataset:
  """Loads the newest prepared version of a data set, in the order of the records, or downloads the data set.

  Decoded images of less than 1 GiB are kept in `cache_dir`, from which they are read without TFDS. More images are
  written once into a folder for `load_array_folder`, `flowgan_tf/...` in `data_dir`, and read from there: TFDS's own
  random access needs data that were prepared as ArrayRecord, and decodes each image anew, which takes far longer than
  reading it.
  """
  check_exists(dataset, data_dir)
  root = tfds_root(data_dir)
  folder = prepared_folder(root, dataset) or _prepare(dataset, root)
  try:
    files = sorted((file.name, (state := file.stat()).st_size, state.st_mtime_ns) for file in folder.iterdir())
    key = f'{folder.name}-{image_size}-{digest(files)[:12]}-v{_VERSION}'
    stored = pathlib.Path(root, 'flowgan_tf', dataset, key)
    remove_left_behind(stored.parent, r'\..+-(\d{1,9})-[a-z0-9_]{8}')
    if is_new := not stored.is_dir():
      name = f'images-{dataset}-{key}'
      read = functools.partial(_read, dataset, folder, image_size)
      if found := cached(cache_dir, name, read) if cache_dir else read():
        train, validation, test = (Split(found[f'{p}_images'], found.get(f'{p}_labels')) for p in SPLITS)
        return _make(dataset, train, validation, test, found['class_names'])
    records = _Records(dataset, tfds.builder_from_directory(folder), image_size)
    if is_new:
      arrays.write_array_folder(stored, records.images(), records.image_shape, records.splits)
    opened = arrays.load_array_folder(stored)
    return _make(dataset, opened.train, opened.validation, opened.test, records.class_names)
  except (MemoryError, tf.errors.ResourceExhaustedError):
    raise
  except Exception as error:  # Truncated, altered or missing files can raise anything.
    raise_unless_damaged(folder, error)
    raise UsageError(
      f'{folder}: damaged data set ({type(error).__name__}); delete this folder and prepare {dataset} again'
    ) from error


def _read(dataset: str, folder: pathlib.Path, image_size: int) -> dict[str, Any]:
  """Reads images and labels of each split, and the names of the classes; nothing if it would be too much."""
  records = _Records(dataset, tfds.builder_from_directory(folder), image_size)
  if math.prod(records.image_shape) * sum(map(len, records.splits)) >= arrays.IN_MEMORY:
    return {}
  found: dict[str, Any] = {'class_names': records.class_names}
  for part, split in zip(SPLITS, records.read(), strict=True):
    found[f'{part}_images'] = split.images
    if split.labels is not None:
      found[f'{part}_labels'] = split.labels
  return found


def _make(dataset: str, train: Split, validation: Split, test: Split, class_names: Sequence[str]) -> Dataset:
  if train.labels is None:
    return Dataset(dataset, 256, train, validation, test, None)
  classes, names = len(class_names), map(str, class_names)
  return Dataset(dataset, 256, train, validation, test, classes, class_names=as_class_names(dataset, names, classes))


class _Records:
  """A prepared data set: images of one shape, perhaps labels, and `splits` with positions in `images()`."""

  def __init__(self, dataset: str, builder: tfds.core.DatasetBuilder, image_size: int):
    self._dataset, self._builder, self._image_size = dataset, builder, image_size
    features, splits = builder.info.features, builder.info.splits
    self._image_key, self._label_key = _keys(dataset, features)
    label = features[self._label_key] if self._label_key else None
    self.class_names: list[str] = label.names if label else []
    # Each data set of `OF_TFDS` has both of these splits, or it is damaged.
    names = ('train', 'test') if dataset in OF_TFDS else [name for name in SPLITS if name in splits]
    if 'train' not in names:
      raise UsageError(f"{dataset}: expected a split 'train', got {', '.join(splits)}")
    self._names, numbered, first = names, {}, 0
    for name in names:
      numbered[name] = Split(np.arange(first, first + splits[name].num_examples), None)
      first += splits[name].num_examples
    self.splits = _divide(dataset, numbered)
    shape = features[self._image_key].shape
    self._is_fixed = None not in shape
    self.image_shape = (image_size, image_size, shape[2]) if image_size else shape
    if None in self.image_shape:
      self.image_shape = next(self.images())[0].shape

  def read(self) -> list[Split]:
    """Reads all splits. They have labels if every image has one."""
    batches = itertools.chain.from_iterable(map(self._batches_of, self._names))
    images, labels = map(np.concatenate, zip(*batches, strict=True))
    labelled = all_labelled(self._dataset, labels)
    return [Split(images[s.images], labels[s.images] if labelled else None) for s in self.splits]

  def images(self) -> Iterator[tuple[np.ndarray, int]]:
    """Reads the images one by one, each with its label, or -1 if it has none."""
    for name in self._names:
      for images, labels in self._batches_of(name):
        yield from zip(images, labels, strict=True)

  def _batches_of(self, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if self._builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:  # TFDS offers no `as_dataset` for it.
      keys = [key for key in (self._image_key, self._label_key) if key]
      examples = tf.data.Dataset.from_generator(
        lambda: ({key: example[key] for key in keys} for example in self._builder.as_data_source(split=name)),
        output_signature={key: self._builder.info.features[key].get_tensor_spec() for key in keys},
      )
    else:
      # Shards are read one by one, because 'the first 50,000' must not depend on how readers interleave.
      config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
      examples = self._builder.as_dataset(split=name, shuffle_files=False, read_config=config)
    no_label = tf.constant(-1, tf.int64)
    examples = examples.map(lambda example: (example[self._image_key], example.get(self._label_key, no_label)))
    # Images that may differ in shape cannot be batched.
    batches = examples.batch(_BATCH if self._is_fixed else 1).prefetch(tf.data.AUTOTUNE)
    for images, labels in batches.as_numpy_iterator():
      if self._image_size:
        images = np.stack([crop_and_resize(image, self._image_size) for image in images])
      if None not in self.image_shape and images.shape[1:] != self.image_shape:
        shapes = f'{list(self.image_shape)} and {list(images.shape[1:])}'
        raise UsageError(f'{self._dataset}: expected images of one shape, got {shapes}{RESIZE}', 'image_size')
      yield images, labels


def _keys(dataset: str, features: tfds.features.FeaturesDict) -> tuple[str, str | None]:
  """Returns the names of the features with the images and with the labels, or None without labels."""
  images = [name for name, feature in features.items() if type(feature) is tfds.features.Image]
  if len(images) != 1 and 'image' not in images:
    raise UsageError(f'{dataset}: expected one feature of images, got {len(images)} among {", ".join(features)}')
  key = 'image' if 'image' in images else images[0]
  feature = features[key]
  if feature.np_dtype != np.uint8 or feature.shape[2] not in (1, 3):
    got = f'{np.dtype(feature.np_dtype)} images of {feature.shape[2]} channels'
    raise UsageError(f'{dataset}: expected uint8 images of 1 or 3 channels, got {got}')
  has_labels = 'label' in features and isinstance(features['label'], tfds.features.ClassLabel)
  return key, 'label' if has_labels else None


def _divide(dataset: str, splits: dict[str, Split]) -> tuple[Split, Split, Split]:
  """Makes training, validation and test images from the splits that TFDS has."""
  if len(splits) == 1:
    return three_way(splits['train'], dataset)
  if len(splits) == 3:
    return splits['train'], splits['validation'], splits['test']
  test = splits['test' if 'test' in splits else 'validation']
  is_mnist = dataset in ('mnist', 'fashion_mnist')
  return *hold_out(splits['train'], 1 / 6 if is_mnist else 1 / 10, shuffle=not is_mnist, source=dataset), test


def _prepare(dataset: str, root: str) -> pathlib.Path:
  """Downloads and prepares a data set; returns its folder."""
  elsewhere = (
    f"machine, python -c \"import tensorflow_datasets as tfds; tfds.load('{dataset}', data_dir='DIR')\", and set "
    'the environment variable TFDS_DATA_DIR to DIR'
  )
  builder_cls = tfds.builder_cls(dataset.partition('/')[0])
  address = next(iter(builder_cls.url_infos or ()), None)  # It is None for data that need no download.
  if address and not host_answers(address):
    raise UsageError(
      f'{dataset}: not prepared in {root}, and {address} cannot be reached; prepare it on another {elsewhere}, or use '
      "the `dataset` 'digits', which needs no download",
      'dataset',
    )
  try:
    builder = tfds.builder(dataset, data_dir=root)
    if builder.builder_config and '/' not in dataset:  # TFDS would take its first configuration.
      raise UsageError(f'{dataset}: must have a configuration, such as {dataset}/{builder.builder_config.name}')
    _keys(dataset, builder.info.features)
    builder.download_and_prepare()
  except UsageError:
    raise
  except Exception as error:  # TFDS's own errors have no common base class, and a damaged archive can raise anything.
    cause = error.__cause__ or error
    reason = ': '.join([type(cause).__name__, *str(cause).splitlines()[:1]])
    raise UsageError(
      f'{dataset}: cannot be prepared in {root} ({reason}); try again, without {root}/downloads if a file there is '
      f'damaged, or prepare it on another {elsewhere}'
    ) from error
  return pathlib.Path(builder.data_dir)


def host_answers(url: str) -> bool:
  """Returns within 5 seconds whether the host of a file answers. TFDS and Keras would try for minutes."""
  answered = threading.Event()

  def ask() -> None:
    with contextlib.suppress(requests.RequestException):
      requests.head(url, timeout=_TIMEOUT_SECONDS, allow_redirects=True)
      answered.set()

  # A thread asks, because the timeout of `requests` applies to each address of a host in turn, and does not apply to
  # the resolution of its name.
  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(_TIMEOUT_SECONDS)
  return answered.is_set()
