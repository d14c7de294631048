"""What every source returns: integer images in three splits."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import math

import numpy as np

from flowgan_tf.data.stored_images import StoredImages
from flowgan_tf.errors import UsageError

__all__ = ['Dataset', 'Split', 'check_labels', 'count_classes', 'hold_out', 'three_way']

_LOG = logging.getLogger(__name__)

# One seed for every random split: which images are held out must never depend on a run's own seed.
_SPLIT_SEED = 2018

_HASHED_AT_ONCE = 2**26  # bytes of images


# Compared by identity: the generated equality would compare arrays element by element, and raise.
@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """One part of a data set.

  Attributes:
    images: Grey levels from 0 to levels - 1, uint8 `[n, height, width, channels]`; a `StoredImages` if they may be
      larger than memory.
    labels: Classes of the images, int64 `[n]`, or None if there are none.
  """

  images: np.ndarray | StoredImages
  labels: np.ndarray | None

  def __len__(self) -> int:
    return len(self.images)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """Integer images with their training, validation and test splits.

  Attributes:
    name: Name of the data set, of the folder or of the file.
    levels: Number of grey levels of a pixel: 17 for the digits, otherwise 256.
    train: Images that a model is fitted to.
    validation: Images that choose among models.
    test: Images that results are reported for.
    num_classes: Number of classes, or None without labels.
  """

  name: str
  levels: int
  train: Split
  validation: Split
  test: Split
  num_classes: int | None

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(height, width, channels) of every image."""
    return self.train.images.shape[1:]

  @functools.cached_property
  def fingerprint(self) -> str:
    """SHA-256, in hexadecimal, of the name, the levels and all images and labels: it identifies the data."""
    digest = hashlib.sha256(f'{self.name} {self.levels}'.encode())
    splits = (self.train, self.validation, self.test)
    if stored := sum(math.prod(s.images.shape) for s in splits if isinstance(s.images, StoredImages)):
      _LOG.info('%s: reading %.1f GB of images, whose hash identifies the data.', self.name, stored / 1e9)
    for split in splits:
      for array in (split.images, split.labels):
        if array is None:
          digest.update(b' none')
        else:
          digest.update(f' {array.dtype.str} {array.shape} '.encode())
          at_once = max(1, _HASHED_AT_ONCE // max(1, math.prod(array.shape[1:])))
          for start in range(0, len(array), at_once):
            digest.update(np.ascontiguousarray(array[start : start + at_once]))
    return digest.hexdigest()


def check_labels(source: str, name: str, labels: np.ndarray, n: int) -> np.ndarray:
  """Returns the labels of n images as int64 `[n]`.

  Args:
    source: File or data set that an error message names.
    name: What the message calls the labels.
    labels: Integers from 0, `[n]` or `[n, 1]`.
    n: Number of images.

  Raises:
    UsageError: If they are something else.
  """
  is_integer = np.issubdtype(labels.dtype, np.integer)
  # A label beyond the number of images is a mistake, and would ask for a network with as many outputs.
  if not is_integer or labels.shape not in ((n,), (n, 1)) or labels.min() < 0 or labels.max() >= max(n, 1000):
    raise UsageError(
      f'{source}: expected {name} as {n} integers from 0, one for each image, got {labels.dtype} {list(labels.shape)}'
      + (f' from {labels.min()} to {labels.max()}' if is_integer and labels.size else '')
    )
  return labels.reshape(n).astype(np.int64)


def count_classes(*splits: Split) -> int | None:
  """Returns 1 + the largest label; None if there are no labels."""
  if splits[0].labels is None:
    return None
  return 1 + max(int(split.labels.max()) for split in splits)


def hold_out(split: Split, fraction: float, shuffle: bool, source: str) -> tuple[Split, Split]:
  """Divides a split in two, each part in the order of the original.

  Args:
    split: The images to divide.
    fraction: Share of the images to hold out. It is rounded to whole images, and at least one is held out.
    shuffle: Whether to hold out a random subset rather than the last images. The subset depends only on the length.
    source: File or data set that an error message names.

  Returns:
    The part that is kept and the part that is held out.

  Raises:
    UsageError: If no image would be kept.
  """
  n = len(split)
  count = max(1, round(fraction * n))
  if count >= n:
    raise UsageError(f'{source}: expected at least {count + 1} images to divide, got {n}')
  # Raw PCG64 output is guaranteed to stay the same in later NumPy versions; `Generator.permutation` is not.
  order = np.argsort(np.random.PCG64(_SPLIT_SEED).random_raw(n), kind='stable') if shuffle else np.arange(n)
  parts = np.sort(order[:-count]), np.sort(order[-count:])
  kept, held_out = (Split(split.images[part], None if split.labels is None else split.labels[part]) for part in parts)
  return kept, held_out


def three_way(everything: Split, source: str) -> tuple[Split, Split, Split]:
  """Divides images at random into 80 % train, 10 % validation and 10 % test, the same way each time.

  Args:
    everything: The images to divide.
    source: File or data set that an error message names.

  Returns:
    The training, validation and test images.

  Raises:
    UsageError: If there are fewer than 3 images.
  """
  if len(everything) < 3:
    raise UsageError(f'{source}: expected at least 3 images, one for each split, got {len(everything)}')
  rest, test = hold_out(everything, 1 / 10, shuffle=True, source=source)
  train, validation = hold_out(rest, 1 / 9, shuffle=True, source=source)
  return train, validation, test
