"""Where data come from: TFDS, scikit-learn's digits, folders and files."""

import logging
import os
from collections.abc import Callable

import numpy as np
from sklearn.datasets import load_digits

from flowgan_tf.base.errors import LARGEST_IMAGE, UsageError, check, check_integer
from flowgan_tf.base.plugins import Registry
from flowgan_tf.data import arrays, images, tfds
from flowgan_tf.data.dataset import Dataset, check_dataset, three_way
from flowgan_tf.data.names import NAMES, is_outside
from flowgan_tf.data.split import Split

_LOG = logging.getLogger(__name__)

#: The data sets from outside of the package, `module:function`: the function takes nothing and returns a `Dataset`.
SOURCES: Registry[Callable[[], Dataset]] = Registry('dataset', 'a function that returns a Dataset', callable, {})


def load(
  dataset: str,
  data_dir: str | None = None,
  image_size: int = 0,
  cache_dir: str | os.PathLike | None = None,
) -> Dataset:
  """Loads or opens a data set and splits it.

  | source | train | validation | test |
  |---|---|---|---|
  | `mnist`, `fashion_mnist` | first 5/6 of TFDS's train (50,000) | last 1/6 (10,000) | TFDS's test (10,000) |
  | `cifar10`, `svhn_cropped` | 90 % of TFDS's train | a random 10 % | TFDS's test |
  | another TFDS name | TFDS's train | TFDS's validation | TFDS's test |
  | with two of these splits | 90 % of TFDS's train | a random 10 % | TFDS's test, else its validation |
  | with train alone | 80 % | a random 10 % | a random 10 % |
  | a folder of .npy files | `train.npy` | `validation.npy` | `test.npy` |
  | `digits`, a folder, an .npz of `images` | 80 % | a random 10 % | a random 10 % |
  | `x_train` without `x_test` in an .npz | 80 % | a random 10 % | a random 10 % |
  | an .npz of `x_train` and `x_test` | 90 % of `x_train` | `x_validation`, else a random 10 % of `x_train` | `x_test` |

  Random parts are always drawn with the same seed. `load` tries the names in `NAMES` first, then paths, then other TFDS
  names: to load a folder called `mnist`, write `./mnist`. Images from .npy files or TFDS that take 1 GiB or more stay
  in files; all others are loaded.

  Args:
    dataset: 'digits' (scikit-learn's, 8 x 8), the name of a data set of TFDS, the path of a folder of images or of .npy
      files, the path of an .npz file, or `module:function` of a function that returns a `Dataset`. Images are uint8
      `[n, height, width, 1 or 3]`, in an .npz file also `[n, height, width]`; labels are integers from 0. In an .npz
      file, floats `[n, d]` are the rows of a table. Files of arrays may hold conditions, floats `[n, d]` or `[n, h, w,
      c]`. The page "Data" says what the sources may hold.
    data_dir: Folder of prepared TFDS data sets. If it is None or empty, the folder is TFDS_DATA_DIR from the
      environment, or ~/tensorflow_datasets if that is not set. Other sources do not need it.
    image_size: Height and width to which images are cropped and resized, or 0. It must be 0 for digits and .npy files.
    cache_dir: Folder in which decoded images of TFDS are kept, so that they are read faster the next time. None keeps
      nothing.

  Raises:
    UsageError: If the data set is unknown, missing or damaged, its images or conditions differ in shape, there is not
      one label and one condition for each image, a label is negative or a condition is not finite, its path is not
      UTF-8, which a run's files need, `image_size` is not an integer from 0 to 4096, or the images cannot be resized.

  #### References

  Grover, Dhar, Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative Models. AAAI 2018,
  appendix A: 50,000 / 10,000 / 10,000 images of MNIST, a random 5,000 of CIFAR-10's 50,000 for validation.
  """
  check_integer('image_size', image_size, 0, LARGEST_IMAGE)
  path = os.path.expanduser(dataset)
  is_array_folder = dataset not in NAMES and arrays.is_array_folder(path)
  resizes = not (dataset == 'digits' or is_array_folder or is_outside(dataset))
  expected = f'0 for {dataset}, whose images are taken as they are'
  check('image_size', image_size, expected, resizes or image_size == 0)
  if image_size:
    text = '%s: images are cropped to their central square and resized to %d x %d (Lanczos).'
    _LOG.info(text, dataset, image_size, image_size)
  if dataset == 'digits':
    return _digits()
  if dataset in NAMES:
    return tfds.load_tfds(dataset, data_dir, image_size, cache_dir)
  if is_outside(dataset):
    return check_dataset(dataset, SOURCES[dataset]())
  absolute = os.path.realpath(path)
  try:
    absolute.encode()
  except UnicodeEncodeError:
    readable = os.fsencode(absolute).decode(errors='backslashreplace')
    raise UsageError(f'{readable}: cannot be used as data (its path must be UTF-8)') from None
  if is_array_folder:
    return arrays.load_array_folder(path)
  if os.path.isdir(path):
    return images.load_folder(path, image_size)
  if path.endswith('.npz'):
    return arrays.load_npz(path, image_size)
  if os.path.isfile(path):
    raise UsageError(f'{path}: expected a folder, or a file whose name ends with .npz')
  return tfds.load_tfds(dataset, data_dir, image_size, cache_dir)


def _digits() -> Dataset:
  """The UCI handwritten digits that come with scikit-learn: 1,797 images of 8 x 8 counts from 0 to 16."""
  digits = load_digits()
  everything = Split(digits.images.astype(np.uint8)[..., np.newaxis], digits.target.astype(np.int64))
  return Dataset('digits', 17, *three_way(everything, 'digits'), num_classes=10)
