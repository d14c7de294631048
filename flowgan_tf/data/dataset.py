"""What every source returns: integer images in three splits."""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import numpy as np

from flowgan_tf.errors import UsageError

__all__ = ['Dataset', 'Split', 'hold_out', 'three_way']

# One seed for every random split: which images are held out must never depend on a run's own seed.
_SPLIT_SEED = 2018


# Compared by identity: the generated equality would compare arrays element by element, and raise.
@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """One part of a data set.

  Attributes:
    images: Grey levels from 0 to levels - 1, uint8 `[n, height, width, channels]`.
    labels: Classes of the images, int64 `[n]`, or None if there are none.
  """

  images: np.ndarray
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
    for split in (self.train, self.validation, self.test):
      for array in (split.images, split.labels):
        if array is None:
          digest.update(b' none')
        else:
          digest.update(f' {array.dtype.str} {array.shape} '.encode())
          digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


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
