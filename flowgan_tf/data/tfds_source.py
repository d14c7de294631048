"""TensorFlow Datasets: prepared data are read first, and the network is used only if it answers."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from google.protobuf import json_format

from flowgan_tf import hosts
from flowgan_tf.data.dataset import Split
from flowgan_tf.errors import UsageError

if TYPE_CHECKING:  # Importing TFDS takes long, and other sources do not need it.
  import tensorflow_datasets as tfds

__all__ = ['DATASETS', 'load_tfds']

# For each data set, one of the files that TFDS downloads.
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


def load_tfds(dataset: str, data_dir: str | None) -> tuple[Split, Split]:
  """Loads TFDS's train and test splits, in the order of the records.

  The newest version that is prepared under `data_dir` is read without a network. If there is none, the data set is
  downloaded. Before that, a check of a few seconds makes sure that its host answers, because TFDS itself retries for
  minutes before it gives up.

  Args:
    dataset: A key of `DATASETS`.
    data_dir: Folder of prepared data sets. If it is None or empty, it is the environment variable TFDS_DATA_DIR, or
      ~/tensorflow_datasets if that is not set.

  Returns:
    The train and test splits.

  Raises:
    UsageError: If `data_dir` does not exist, the prepared data are damaged, or there are none and the download fails.
  """
  if data_dir and not os.path.isdir(os.path.expanduser(data_dir)):
    raise UsageError(
      f'`data_dir` must be a folder with prepared TFDS data sets. Got: {data_dir}, which does not exist.'
    )
  root = os.path.expanduser(data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')
  folder = _prepared_folder(root, dataset) or _prepare(dataset, root)

  import tensorflow_datasets as tfds

  # Shards are read one after the other: which are 'the first 50,000' must not depend on how readers interleave.
  config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
  try:
    builder = tfds.builder_from_directory(folder)
    return _read(builder, 'train', config), _read(builder, 'test', config)
  except _DAMAGE as error:
    raise UsageError(
      f'{folder}: damaged data set ({type(error).__name__}); delete this folder and prepare {dataset} again'
    ) from error


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
  if not hosts.answers(DATASETS[dataset]):
    raise UsageError(
      f'{dataset}: not prepared in {root}, and {DATASETS[dataset]} cannot be reached; prepare it on a machine with a '
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


def _kept_downloads(dataset: str, root: str) -> list[str]:
  """Returns the archives of a data set that TFDS keeps, and what it extracted from them. It would use both again."""
  import tensorflow_datasets as tfds

  downloads = os.path.join(root, 'downloads')
  archives = [info.filename for info in tfds.builder_cls(dataset).url_infos.values() if info.filename]
  paths = [os.path.join(downloads, 'manual', archive) for archive in archives]
  paths += [os.path.join(downloads, dataset), os.path.join(downloads, 'extracted')]
  return [path for path in paths if os.path.isfile(path) or (os.path.isdir(path) and os.listdir(path))]


def _read(builder: tfds.core.DatasetBuilder, split: str, config: tfds.ReadConfig) -> Split:
  examples = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False, read_config=config)
  return Split(examples['image'].numpy(), examples['label'].numpy().astype(np.int64))
