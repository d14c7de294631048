"""`load` finds a data set by its name or path, and splits it as the paper does."""

from __future__ import annotations

import os

import numpy as np
from sklearn.datasets import load_digits

from flowgan_tf.data import array_folders, image_files, tfds_source
from flowgan_tf.data.dataset import Dataset, Split, hold_out, three_way
from flowgan_tf.errors import UsageError

__all__ = ['NAMES', 'load']

NAMES = ('digits', *tfds_source.DATASETS)


def load(dataset: str, data_dir: str | None = None) -> Dataset:
  """Loads a data set into memory and splits it.

  | source | train | validation | test |
  |---|---|---|---|
  | `mnist`, `fashion_mnist` | first 5/6 of TFDS's train (50,000) | last 1/6 (10,000) | TFDS's test (10,000) |
  | `cifar10`, `svhn_cropped` | 90 % of TFDS's train | a random 10 % | TFDS's test |
  | `digits`, a folder, an .npz of `images` | 80 % | a random 10 % | a random 10 % |
  | an .npz of `x_train` and `x_test` | 90 % of `x_train` | `x_validation`, else a random 10 % of `x_train` | `x_test` |

  Random parts are always drawn with the same seed. Names come before paths: a folder called `mnist` is `./mnist`.

  Args:
    dataset: 'digits' (scikit-learn's, 8 x 8), 'mnist', 'fashion_mnist', 'cifar10', 'svhn_cropped', the path of a folder
      of images, or the path of an .npz file. `image_files.load_folder` and `image_files.load_npz` say what these may
      hold.
    data_dir: Folder of prepared TFDS data sets. If it is None or empty, it is the environment variable TFDS_DATA_DIR,
      or ~/tensorflow_datasets if that is not set. Other sources do not need it.

  Returns:
    The `Dataset`.

  Raises:
    UsageError: If the data set is unknown, missing or damaged, its images differ in shape, or its path is not UTF-8,
      as a run's files want it.

  #### References

  Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI 2018,
  appendix A: 50,000 / 10,000 / 10,000 images of MNIST, a random 5,000 of CIFAR-10's 50,000 for validation.
  """
  if dataset == 'digits':
    return _digits()
  if dataset in tfds_source.DATASETS:
    train, test = tfds_source.load_tfds(dataset, data_dir)
    if dataset in ('mnist', 'fashion_mnist'):
      train, validation = hold_out(train, 1 / 6, shuffle=False, source=dataset)
    else:
      train, validation = hold_out(train, 1 / 10, shuffle=True, source=dataset)
    return Dataset(dataset, 256, train, validation, test, num_classes=10)
  path = os.path.expanduser(dataset)
  absolute = os.path.abspath(path)
  try:
    absolute.encode()
  except UnicodeEncodeError:
    readable = os.fsencode(absolute).decode(errors='backslashreplace')
    raise UsageError(f'{readable}: cannot be used as data (its path must be UTF-8)') from None
  if os.path.isdir(path):
    if array_folders.is_array_folder(path):
      return array_folders.load_array_folder(path)
    return image_files.load_folder(path)
  if path.endswith('.npz'):
    return image_files.load_npz(path)
  raise UsageError(
    f'`dataset` must be one of {", ".join(NAMES)}, a folder of images or an .npz file. Got: {dataset!r}.'
  )


def _digits() -> Dataset:
  """The UCI handwritten digits that come with scikit-learn: 1,797 images of 8 x 8 counts from 0 to 16."""
  digits = load_digits()
  everything = Split(digits.images.astype(np.uint8)[..., np.newaxis], digits.target.astype(np.int64))
  return Dataset('digits', 17, *three_way(everything, 'digits'), num_classes=10)
