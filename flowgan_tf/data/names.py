"""The names of data sets and splits, and whether there is what a setting names; all of it without TensorFlow."""

import importlib
import os
import pathlib
import re
from typing import Any

from flowgan_tf.base.errors import UsageError, did_you_mean
from flowgan_tf.base.plugins import is_plugin

#: The data sets of TFDS that are split here as in the literature.
OF_TFDS = ('mnist', 'fashion_mnist', 'cifar10', 'svhn_cropped')
NAMES = ('digits', *OF_TFDS)
SPLITS = ('train', 'validation', 'test')

_OF_TFDS = re.compile(r'[a-z][a-z0-9_]*(/\w[\w.+-]*)?')


def is_local(dataset: str) -> bool:
  """Whether a data set is a file or a folder. `NAMES` come first: a folder called mnist is `./mnist`."""
  return dataset not in NAMES and os.path.exists(os.path.expanduser(dataset))


def is_outside(dataset: str) -> bool:
  """Whether a data set is `module:function`, and no file or folder has that name."""
  return is_plugin(dataset) and not os.path.exists(os.path.expanduser(dataset))


def is_of_tfds(dataset: str) -> bool:
  """Whether a data set, if there is one of this name, is one of TFDS."""
  return not (dataset == 'digits' or is_local(dataset) or is_plugin(dataset))


def tfds_root(data_dir: str | None) -> str:
  """Returns the folder of prepared data sets of TFDS."""
  return os.path.expanduser(data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')


def prepared_folder(root: str, dataset: str) -> pathlib.Path | None:
  """Returns the newest <root>/<dataset>/<x.y.z> whose preparation was completed, or None."""
  folders = [info.parent for info in pathlib.Path(root, dataset).glob('*/dataset_info.json')]
  folders = [folder for folder in folders if re.fullmatch(r'\d+\.\d+\.\d+', folder.name)]
  return max(folders, key=lambda folder: [int(number) for number in folder.name.split('.')], default=None)


def check_exists(dataset: str, data_dir: str | None = None) -> None:
  """Raises a `UsageError` unless this is the name of a data set, a path, or a part from outside of the package.

  It also rejects a folder of TFDS that does not exist.
  """
  if not is_of_tfds(dataset):
    return
  if data_dir and not os.path.isdir(os.path.expanduser(data_dir)):
    raise UsageError(
      f'`data_dir` must be a folder with prepared TFDS data sets. Got: {data_dir}, which does not exist.', 'data_dir'
    )
  if dataset in OF_TFDS:
    return
  known = {*NAMES}
  if _OF_TFDS.fullmatch(dataset):
    if prepared_folder(tfds_root(data_dir), dataset):
      return
    tfds: Any = importlib.import_module('tensorflow_datasets')  # It takes long to import, and few need it.
    known.update(tfds.list_builders(with_community_datasets=False))
    if dataset.partition('/')[0] in known:
      return
  folder, name = os.path.split(dataset.rstrip('/'))
  path = os.path.expanduser(folder) or '.'
  beside = os.listdir(path) if os.path.isdir(path) else []
  hint = did_you_mean(dataset, sorted(known)) or did_you_mean(name, beside, f'{folder}/' if folder else '')
  raise UsageError(
    f'`dataset` must be one of {", ".join(NAMES)}, another data set of TFDS, a folder of images or an .npz file. '
    f'Got: {dataset!r}{hint or "."}',
    'dataset',
  )
