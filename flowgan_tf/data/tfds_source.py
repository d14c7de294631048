"""TensorFlow Datasets: prepared data are read first, and the network is used only if it answers."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from google.protobuf import json_format

from flowgan_tf import hosts
from flowgan_tf.data import stored_images
from flowgan_tf.data.array_folders import PARTS, load_array_folder, write_array_folder
from flowgan_tf.data.dataset import Dataset, Split, hold_out, three_way
from flowgan_tf.data.resizing import RESIZE, crop_and_resize, log_resizing
from flowgan_tf.errors import UsageError

if TYPE_CHECKING:  # Importing TFDS takes long, and other sources do not need it.
  import tensorflow_datasets as tfds

__all__ = ['DATASETS', 'is_tfds_name', 'load_tfds', 'unknown']

_LOG = logging.getLogger(__name__)
_BATCH = 256  # images that are decoded at a time

# The data sets whose splits are those of the literature, each with one of the files that TFDS downloads.
DATASETS = {
  'mnist': 'https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz',
  'fashion_mnist': 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz',
  'cifar10': 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
  'svhn_cropped': 'http://ufldl.stanford.edu/housenumbers/train_32x32.mat',
}

# What TFDS and TensorFlow raise if files of a prepared data set are truncated, empty, missing, unreadable or altered.
_DAMAGE = (
  tf.errors.DataLossError,
  tf.errors.FailedPreconditionError,
  tf.errors.InvalidArgumentError,
  tf.errors.NotFoundError,
  tf.errors.PermissionDeniedError,
  json_format.ParseError,
  AttributeError,
  KeyError,
  OSError,
  RecursionError,
  TypeError,
  ValueError,
)


def is_tfds_name(dataset: str) -> bool:
  """Whether TFDS could have a data set of that name, such as 'celeb_a' or 'emnist/letters'."""
  return re.fullmatch(r'[a-z][a-z0-9_]*(/\w[\w.+-]*)?', dataset) is not None


def unknown(dataset: str) -> UsageError:
  """Returns the error for what is neither a name nor a path."""
  names = ', '.join(('digits', *DATASETS))
  return UsageError(
    f'`dataset` must be one of {names}, another data set of TFDS, a folder of images or an .npz file. Got: {dataset!r}.'
  )


def load_tfds(dataset: str, data_dir: str | None, image_size: int = 0) -> Dataset:
  """Loads a data set of TFDS with 8-bit images, in the order of the records.

  The newest version that is prepared under `data_dir` is read without a network. If there is none, the data set is
  downloaded. Before that, a check of a few seconds makes sure that its host answers, because TFDS itself retries for
  minutes before it gives up.

  Images of 1 GiB or more are written once into a folder for `load_array_folder`, `flowgan_tf/...` in `data_dir`, and
  read from there: TFDS's own random access needs data that were prepared as ArrayRecord, and decodes each image anew,
  which takes far longer than reading it.

  Args:
    dataset: Its name, NAME or NAME/CONFIGURATION. It must have images in one feature, and may have labels in `label`.
      They are left out if some images have none.
    data_dir: Folder of prepared data sets. If it is None or empty, it is the environment variable TFDS_DATA_DIR, or
      ~/tensorflow_datasets if that is not set.
    image_size: Height and width to which images are cropped and resized, as `crop_and_resize` does it; 0 leaves them as
      they are, and they must be of one shape.

  Returns:
    The `Dataset`. The table of `load` says how it is split.

  Raises:
    UsageError: If `data_dir` does not exist, there is no such data set, it has no images, images of several shapes or
      no split `train`, the prepared data are damaged, there are none and the download fails, or the disk has no room
      for the folder.
  """
  if data_dir and not os.path.isdir(os.path.expanduser(data_dir)):
    raise UsageError(
      f'`data_dir` must be a folder with prepared TFDS data sets. Got: {data_dir}, which does not exist.'
    )
  root = os.path.expanduser(data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')
  folder = _prepared_folder(root, dataset) or _prepare(dataset, root)
  size = f'-{image_size}' if image_size else ''
  arrays = os.path.join(root, 'flowgan_tf', dataset, os.path.basename(folder) + size)

  import tensorflow_datasets as tfds

  try:
    records = _Records(dataset, tfds.builder_from_directory(folder), image_size)
    if image_size:
      log_resizing(dataset, image_size)
    if os.path.isdir(arrays) or records.size >= stored_images.IN_MEMORY:
      if not os.path.isdir(arrays):
        _write(arrays, records)
      found = dataclasses.replace(load_array_folder(arrays), name=dataset)
    else:
      found = Dataset(dataset, 256, *_divide(dataset, records.read()), num_classes=None)
    return dataclasses.replace(found, num_classes=None if found.train.labels is None else records.num_classes)
  except UsageError:
    raise
  except _DAMAGE as error:
    raise UsageError(
      f'{folder}: damaged data set ({type(error).__name__}); delete this folder and prepare {dataset} again'
    ) from error


class _Records:
  """The records of a prepared data set: images of one shape, and perhaps labels."""

  def __init__(self, dataset: str, builder: tfds.core.DatasetBuilder, image_size: int):
    self.dataset, self._builder, self._image_size = dataset, builder, image_size
    features, splits = builder.info.features, builder.info.splits
    self._image_key, self._label_key = _keys(dataset, features)
    self.num_classes = features[self._label_key].num_classes if self._label_key else None
    # The four of old must have both of these, or they are damaged.
    names = ('train', 'test') if dataset in DATASETS else [name for name in PARTS if name in splits]
    if 'train' not in names:
      raise UsageError(f"{dataset}: expected a split 'train', got {', '.join(splits)}")
    self.lengths = {name: splits[name].num_examples for name in names}
    self.image_shape = features[self._image_key].shape
    if image_size:
      self.image_shape = (image_size, image_size, self.image_shape[2])
    self._is_fixed = None not in self.image_shape
    if not self._is_fixed:
      self.image_shape = next(self._batches('train'))[0].shape[1:]

  @property
  def size(self) -> int:
    """Bytes of all images."""
    return sum(self.lengths.values()) * math.prod(self.image_shape)

  def read(self) -> dict[str, Split]:
    """Loads the images of each split."""
    splits = {name: self._read(name) for name in self.lengths}
    if all(split.labels is None or split.labels.min() >= 0 for split in splits.values()):
      return splits
    return {name: Split(split.images, None) for name, split in splits.items()}

  def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Reads images and labels of one split after the other."""
    for name in self.lengths:
      yield from self._batches(name)

  def _read(self, name):
    images, labels = zip(*self._batches(name), strict=True)
    return Split(np.concatenate(images), None if labels[0] is None else np.concatenate(labels))

  def _batches(self, name):
    import tensorflow_datasets as tfds

    def pick(example):
      image = example[self._image_key]
      if self._image_size:
        image = tf.numpy_function(
          lambda pixels: crop_and_resize(pixels, self._image_size), [image], tf.uint8, stateful=False
        )
        image = tf.ensure_shape(image, self.image_shape)
      return image, tf.cast(example[self._label_key], tf.int64) if self._label_key else tf.constant(-1, tf.int64)

    if self._builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
      keys = [key for key in (self._image_key, self._label_key) if key]
      examples = tf.data.Dataset.from_generator(
        lambda: ({key: example[key] for key in keys} for example in self._builder.as_data_source(split=name)),
        output_signature={key: self._builder.info.features[key].get_tensor_spec() for key in keys},
      )
    else:
      # Shards are read one after the other: which are 'the first 50,000' must not depend on how readers interleave.
      config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
      examples = self._builder.as_dataset(split=name, shuffle_files=False, read_config=config)
    # Those that may differ in shape cannot be batched.
    examples = examples.map(pick, tf.data.AUTOTUNE).batch(_BATCH if self._is_fixed else 1).prefetch(tf.data.AUTOTUNE)
    for images, labels in examples.as_numpy_iterator():
      if not self._is_fixed and None not in self.image_shape and images.shape[1:] != self.image_shape:
        raise UsageError(
          f'{self.dataset}: expected images of one shape, got {list(self.image_shape)} and {list(images.shape[1:])}'
          + RESIZE
        )
      yield images, labels if self._label_key else None


def _keys(dataset: str, features: tfds.features.FeaturesDict) -> tuple[str, str | None]:
  """Returns the names of the features with the images and with the labels, or None without labels."""
  import tensorflow_datasets as tfds

  images = [name for name, feature in features.items() if type(feature) is tfds.features.Image]
  if len(images) != 1 and 'image' not in images:
    got = f'{", ".join(images)} of them' if images else f'no images but {", ".join(features)}'
    raise UsageError(f'{dataset}: expected one feature of images, got {got}')
  key = 'image' if 'image' in images else images[0]
  feature = features[key]
  if feature.np_dtype != np.uint8 or feature.shape[2] not in (1, 3):
    got = f'{np.dtype(feature.np_dtype)} images of {feature.shape[2]} channels'
    raise UsageError(f'{dataset}: expected uint8 images of 1 or 3 channels, got {got}')
  has_labels = 'label' in features and isinstance(features['label'], tfds.features.ClassLabel)
  return key, 'label' if has_labels else None


def _divide(dataset: str, splits: dict[str, Split]) -> tuple[Split, Split, Split]:
  """Makes training, validation and test images of the splits that TFDS has."""
  if len(splits) == 1:
    return three_way(splits['train'], dataset)
  if len(splits) == 3:
    return splits['train'], splits['validation'], splits['test']
  test = splits['test' if 'test' in splits else 'validation']
  if dataset in ('mnist', 'fashion_mnist'):
    return *hold_out(splits['train'], 1 / 6, shuffle=False, source=dataset), test
  return *hold_out(splits['train'], 1 / 10, shuffle=True, source=dataset), test


def _write(folder: str, records: _Records) -> None:
  """Writes the images of a data set into a folder of .npy files."""
  numbered, first = {}, 0
  for name, length in records.lengths.items():
    numbered[name] = Split(np.arange(first, first + length), None)
    first += length
  parts = _divide(records.dataset, numbered)
  _LOG.info('%s: %.1f GB of images are written to %s, once.', records.dataset, records.size / 1e9, folder)
  write_array_folder(
    folder, records.batches(), records.image_shape, {name: part.images for name, part in zip(PARTS, parts, strict=True)}
  )


def _prepared_folder(root: str, dataset: str) -> str | None:
  """Returns the newest <root>/<dataset>/<x.y.z> whose preparation was completed, or None."""
  parent = os.path.join(root, dataset)
  versions = [
    version
    for version in (os.listdir(parent) if os.path.isdir(parent) else [])
    if re.fullmatch(r'\d+\.\d+\.\d+', version) and os.path.isfile(os.path.join(parent, version, 'dataset_info.json'))
  ]
  if not versions:
    return None
  return os.path.join(parent, max(versions, key=lambda version: [int(number) for number in version.split('.')]))


def _prepare(dataset: str, root: str) -> str:
  """Downloads and prepares a data set; returns its folder."""
  command = f"python -c \"import tensorflow_datasets as tfds; tfds.load('{dataset}', data_dir='DIR')\""
  address = DATASETS.get(dataset) or _address(dataset, root)
  # Of the other hosts some answer only when the file itself is requested.
  if address and not hosts.answers(address, offers_file=dataset in DATASETS):
    raise UsageError(
      f'{dataset}: not prepared in {root}, and {address} cannot be reached; prepare it on a machine with a '
      f"network, {command}, and pass DIR as `data_dir`, or use the `dataset` 'digits', which needs no download"
    )
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder(dataset, data_dir=root)
    builder.download_and_prepare()
  # TFDS's own errors have no common base class, and reading a damaged archive can raise almost anything.
  except Exception as error:
    cause = error.__cause__ or error
    reason = ': '.join([type(cause).__name__, *str(cause).splitlines()[:1]]).rstrip(':')
    failure, remedy = f'download into {root} failed', 'try again'
    # An OSError is the fault of the network or the disk, unless a file is missing in the archive.
    outside = isinstance(error, (OSError, tfds.download.DownloadError)) and not isinstance(error, FileNotFoundError)
    if not outside and (kept := _kept_downloads(dataset, root)):
      failure, remedy = f'download in {root} is damaged', f'delete {" and ".join(kept)} and try again'
    raise UsageError(
      f'{dataset}: {failure} ({reason}); {remedy}, or prepare it on another machine, {command}, and pass DIR as '
      '`data_dir`'
    ) from error
  return str(builder.data_dir)


def _address(dataset: str, root: str) -> str | None:
  """Returns an address that TFDS downloads from, or None if files must be put there by hand.

  Raises:
    UsageError: If there is no such data set, or it has no images.
  """
  name, _, configuration = dataset.partition('/')
  parent = os.path.join(root, name)
  found = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
  configurations = [other for other in found if _prepared_folder(root, f'{name}/{other}')]

  import tensorflow_datasets as tfds

  try:
    builder_cls = tfds.builder_cls(name)
    configurations = [config.name for config in builder_cls.BUILDER_CONFIGS] or configurations
  except tfds.core.DatasetNotFoundError as error:
    if not configurations:
      raise unknown(dataset) from error
  if configurations and configuration not in configurations:
    raise UsageError(f'{dataset}: must have a configuration of {name}, such as {name}/{configurations[0]}')
  if configuration and not configurations:
    raise UsageError(f'{dataset}: must be {name}, which has no configurations')
  _keys(dataset, tfds.builder(dataset, data_dir=root).info.features)
  if builder_cls.MANUAL_DOWNLOAD_INSTRUCTIONS:
    return None
  return next(iter(builder_cls.url_infos), None)


def _kept_downloads(dataset: str, root: str) -> list[str]:
  """Returns the archives of a data set that TFDS keeps, and what it extracted from them. It would use both again."""
  import tensorflow_datasets as tfds

  downloads = os.path.join(root, 'downloads')
  archives = [info.filename for info in tfds.builder_cls(dataset).url_infos.values() if info.filename]
  paths = [os.path.join(downloads, 'manual', archive) for archive in archives]
  paths += [os.path.join(downloads, dataset), os.path.join(downloads, 'extracted')]
  return [path for path in paths if os.path.isfile(path) or (os.path.isdir(path) and os.listdir(path))]
