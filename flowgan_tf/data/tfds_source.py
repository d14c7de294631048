"""TensorFlow Datasets: prepared data first, the network only when it answers."""

import os
import re
import threading
from typing import TYPE_CHECKING

import numpy as np
import requests
import tensorflow as tf
from google.protobuf import json_format

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

_TIMEOUT_SECONDS = 5

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
    raise UsageError(f'--data_dir={data_dir}: no such folder; expected one with prepared TFDS data sets')
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
  if not _answers(DATASETS[dataset]):
    raise UsageError(
      f'{dataset}: not prepared in {root}, and its host cannot be reached; prepare it on a machine with a network, '
      f'{command}, and pass --data_dir=DIR, or use --dataset=digits, which needs no download'
    )
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder(dataset, data_dir=root)
    builder.download_and_prepare()
  except (OSError, tfds.download.DownloadError) as error:
    raise UsageError(
      f'{dataset}: download into {root} failed ({type(error).__name__}); try again, or prepare it on another machine, '
      f'{command}, and pass --data_dir=DIR'
    ) from error
  return str(builder.data_dir)


def _answers(url: str) -> bool:
  """Whether a file can be had from its host, known within `_TIMEOUT_SECONDS`."""
  answers = threading.Event()

  def ask() -> None:
    try:
      requests.head(url, timeout=_TIMEOUT_SECONDS, allow_redirects=True).raise_for_status()
    except requests.RequestException:
      return
    answers.set()

  # In a thread because the timeout of requests bounds each address of a host, and name resolution not at all.
  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(_TIMEOUT_SECONDS)
  return answers.is_set()


def _read(builder: 'tfds.core.DatasetBuilder', split: str, config: 'tfds.ReadConfig') -> Split:
  examples = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False, read_config=config)
  return Split(examples['image'].numpy(), examples['label'].numpy().astype(np.int64))
