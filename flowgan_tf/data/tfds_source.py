"""TensorFlow Datasets: prepared data first, the network only when it answers."""

import os
import re
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from google.protobuf import json_format

from flowgan_tf import hosts
from flowgan_tf.data.dataset import Split
from flowgan_tf.errors import UsageError

if TYPE_CHECKING:  # importing TFDS takes long, and other sources do without it
  import tensorflow_datasets as tfds

__all__ = ['DATASETS', 'load_tfds']

# One of the files that TFDS downloads for each data set.
DATASETS = {
  'mnist': 'https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz',
  'fashion_mnist': 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz',
  'cifar10': 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
  'svhn_cropped': 'http://ufldl.stanford.edu/housenumbers/train_32x32.mat',
}

# What TFDS and TensorFlow raise for truncated, empty, missing, unreadable and altered files of a prepared data set.
_DAMAGE = (
  tf.errors.DataLossError,
  tf.errors.FailedPreconditionError,
  tf.errors.InvalidArgumentError,
  tf.errors.NotFoundError,
  tf.errors.PermissionDeniedError,
  json_format.ParseError,
  OSError,
  ValueError,
)


def load_tfds(dataset: str, data_dir: str | None) -> tuple[Split, Split]:
  """Loads TFDS's train and test splits, in the order of the records.

  The newest prepared version under `data_dir` is read without a network. Without one, the data set is downloaded, after
  a check of a few seconds that its host answers: TFDS itself retries for minutes before it gives up.

  Args:
    dataset: a key of `DATASETS`.
    data_dir: folder of prepared data sets. None: the environment's TFDS_DATA_DIR, else ~/tensorflow_datasets.

  Returns:
    (train, test).

  Raises:
    UsageError: if `data_dir` does not exist, the prepared data are damaged, or there are none and they cannot be had.
  """
  if data_dir is not None and not os.path.isdir(os.path.expanduser(data_dir)):
    raise UsageError(
      f'`data_dir` must be a folder with prepared TFDS data sets. Got: {data_dir}, which does not exist.'
    )
  root = os.path.expanduser(data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')
  folder = _prepared_folder(root, dataset) or _prepare(dataset, root)

  import tensorflow_datasets as tfds

  # One shard after the other, as they were written: 'the first 50,000' must not depend on how readers interleave.
  config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
  try:
    builder = tfds.builder_from_directory(folder)
    return _read(builder, 'train', config), _read(builder, 'test', config)
  except _DAMAGE as error:
    raise UsageError(
      f'{folder}: damaged data set ({type(error).__name__}); delete this folder and prepare {dataset} again'
    ) from error


def _prepared_folder(root: str, dataset: str) -> str | None:
  """The newest <root>/<dataset>/<x.y.z> that was prepared to its end."""
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
  # TFDS's own errors have no base class in common, and reading a damaged archive can raise almost anything.
  except Exception as error:
    cause = error.__cause__ or error
    reason = ': '.join([type(cause).__name__, *str(cause).splitlines()[:1]]).rstrip(':')
    failure, remedy = f'download into {root} failed', 'try again'
    # Errors of the operating system are the network's or the disk's, but for a file that was missing in the archive.
    outside = isinstance(error, (OSError, tfds.download.DownloadError)) and not isinstance(error, FileNotFoundError)
    if not outside and (kept := _kept_downloads(dataset, root)):
      failure, remedy = f'download in {root} is damaged', f'delete {" and ".join(kept)} and try again'
    raise UsageError(
      f'{dataset}: {failure} ({reason}); {remedy}, or prepare it on another machine, {command}, and pass DIR as '
      '`data_dir`'
    ) from error
  return str(builder.data_dir)


def _kept_downloads(dataset: str, root: str) -> list[str]:
  """Where TFDS keeps archives of a data set, and what it extracted from them: it would use both again."""
  import tensorflow_datasets as tfds

  downloads = os.path.join(root, 'downloads')
  archives = [info.filename for info in tfds.builder_cls(dataset).url_infos.values() if info.filename]
  paths = [os.path.join(downloads, 'manual', archive) for archive in archives]
  paths += [os.path.join(downloads, dataset), os.path.join(downloads, 'extracted')]
  return [path for path in paths if os.path.isfile(path) or (os.path.isdir(path) and os.listdir(path))]


def _read(builder: 'tfds.core.DatasetBuilder', split: str, config: 'tfds.ReadConfig') -> Split:
  examples = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False, read_config=config)
  return Split(examples['image'].numpy(), examples['label'].numpy().astype(np.int64))
