"""What every source returns: integer images, or the rows of a table, in three splits."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import math
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from flowgan_tf.base.errors import UsageError, check, is_integer
from flowgan_tf.data.conditions import Condition, make_condition
from flowgan_tf.data.names import SPLITS
from flowgan_tf.data.split import Split
from flowgan_tf.flows.classes import as_class_names

_LOG = logging.getLogger(__name__)

T = TypeVar('T', float, np.ndarray)

# All random splits have this seed, because a run's own seed must not decide which images are held out.
_SPLIT_SEED = 2018
_MOST_CLASSES = 10**5

_HASHED_AT_ONCE = 2**26  # bytes of images

_FARTHEST = 1e9  # standard deviations of a row from the mean; farther away, squares of float32 become infinite

# The end of messages about images that differ in shape.
RESIZE = '; to crop and resize all of them, set `image_size`, for example to 64'


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """Integer images, or the rows of a table, with their training, validation and test splits."""

  name: str  #: Name of the data set, of the folder or of the file.
  #: Number of grey levels of a pixel: 17 for the digits, otherwise 256. None for a table, which has no levels.
  levels: int | None
  train: Split  #: Images that a model is fitted to.
  validation: Split  #: Images that choose among models.
  test: Split  #: Images that results are reported for.
  num_classes: int | None  #: Number of classes, or None without labels.
  condition_kind: str = ''  #: What a generator is given with the images: the setting `condition`.
  class_names: tuple[str, ...] | None = None  #: Names of the classes; None if they have only numbers.

  @functools.cached_property
  def condition(self) -> Condition:
    """What `condition_kind` means for these data; raises a `UsageError` as `make_condition` does."""
    return make_condition(self.condition_kind, self)

  @property
  def image_shape(self) -> tuple[int, ...]:
    """(height, width, channels) of every image, or (d,) of the rows of a table."""
    return self.train.images.shape[1:]

  @property
  def is_table(self) -> bool:
    """Whether these are rows of numbers instead of images."""
    return self.levels is None

  @functools.cached_property
  def fingerprint(self) -> str:
    """SHA-256, in hexadecimal, of name, levels, pixels, labels and conditions: it identifies the data."""
    digest = hashlib.sha256(f'{self.name} {self.levels}'.encode())
    for split in (self.train, self.validation, self.test):
      for array in (split.images, split.labels, *([] if split.conditions is None else [split.conditions])):
        if array is None:
          digest.update(b' none')
          continue
        digest.update(f' {array.dtype.str} {array.shape} '.encode())
        at_once = max(1, _HASHED_AT_ONCE // math.prod(array.shape[1:]))
        for start in range(0, len(array), at_once):
          digest.update(np.ascontiguousarray(array[start : start + at_once]).data)
    return digest.hexdigest()


def make_dataset(
  source: str,
  name: str,
  train: Split,
  validation: Split,
  test: Split,
  class_names: Sequence[str] | np.ndarray | None = None,
) -> Dataset:
  """Returns a `Dataset` with 256 levels, or one of tables.

  Its splits must have images of one shape. All or none must have labels, and all or none conditions of one shape.
  """
  splits = (train, validation, test)
  if len(shapes := {split.images.shape[1:] for split in splits}) > 1:
    what = 'rows' if len(train.images.shape) == 2 else 'images'
    raise UsageError(f'{source}: expected {what} of one shape, got {" and ".join(map(str, map(list, shapes)))}')
  is_table = len(train.images.shape) == 2
  if is_table:
    _check_rows(source, train, {'validation': validation, 'test': test})
  labels = [split.labels for split in splits if split.labels is not None]
  if 0 < len(labels) < len(splits):
    raise UsageError(f'{source}: expected labels for all splits or for none')
  conditions = [split.conditions for split in splits if split.conditions is not None]
  if 0 < len(conditions) < len(splits):
    raise UsageError(f'{source}: expected conditions for all splits or for none')
  if len(shapes := {array.shape[1:] for array in conditions}) > 1:
    raise UsageError(f'{source}: expected conditions of one shape, got {" and ".join(map(str, map(list, shapes)))}')
  named = 0 if class_names is None else np.size(class_names)  # There may be no image of the last classes.
  num_classes = max(named, *(1 + int(part.max()) for part in labels)) if labels else None
  names = as_class_names(f'{source}: class_names', class_names, num_classes)
  return Dataset(name, None if is_table else 256, *splits, num_classes=num_classes, class_names=names)


def _check_rows(source: str, train: Split, others: dict[str, Split]) -> None:
  """Rejects rows of a table whose density float32 cannot hold, if the columns of the training rows are the units."""
  rows = np.asarray(train.images)
  mean, std = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
  for name, split in others.items():
    rows = np.asarray(split.images)
    near = (np.abs(rows - mean) <= _FARTHEST * std) | (std == 0)  # A flow rejects constant columns itself.
    if not near.all():
      row, column = np.unravel_index(np.argmin(near), near.shape)
      raise UsageError(
        f'{source}: expected {name} rows within {_FARTHEST:g} standard deviations of the training rows, '
        f'got {rows[row, column]:g} in column {column} of row {row}'
      )


def check_dataset(source: str, dataset: Dataset) -> Dataset:
  """Returns a data set that others have made, with labels and conditions of the types that `Split` promises.

  A `UsageError` names the field that is not as `Dataset` or `Split` says.
  """
  splits: dict[str, Any] = {}
  check(f'{source}.name', dataset.name, 'a string', isinstance(dataset.name, str))
  levels, expected = dataset.levels, 'an integer from 2 to 256, or None for a table'
  check(f'{source}.levels', levels, expected, levels is None or (is_integer(levels) and 2 <= levels <= 256))
  kind, shape = ('float32', '[n, d]') if levels is None else ('uint8', '[n, height, width, 1 or 3]')
  for name in SPLITS:
    split, where = getattr(dataset, name), f'{source}.{name}'
    check(where, split, 'a `flowgan_tf.data.Split`', isinstance(split, Split))
    dtype = getattr(split.images, 'dtype', None)
    found: tuple[int, ...] = getattr(split.images, 'shape', ())
    suits = len(found) == 2 if levels is None else len(found) == 4 and found[3] in (1, 3)
    check(f'{where}.images', f'{dtype} {found}', f'{kind} {shape} for `levels` {levels}', dtype == kind and suits)
    check(f'{where}.images', found, 'at least one', 0 not in found)
    if isinstance(split.images, np.ndarray):
      if levels is None:
        as_finite(f'{where}.images', split.images)
      else:
        most = int(split.images.max())
        check(f'{where}.images', most, f'at most {levels - 1} for `levels` {levels}', most < levels)
    labels, conditions, n = split.labels, split.conditions, len(split.images)
    splits[name] = Split(
      split.images,
      None if labels is None else check_labels(f'{where}.labels', np.asarray(labels), n),
      None if conditions is None else check_conditions(f'{where}.conditions', np.asarray(conditions), n),
    )
  classes = make_dataset(source, dataset.name, **splits).num_classes
  expected = 'None without labels' if classes is None else f'an integer of at least {classes}, as labels go from 0'
  count = dataset.num_classes
  check(f'{source}.num_classes', count, expected, is_integer(count) and count >= classes if classes else count is None)
  names = as_class_names(f'{source}.class_names', dataset.class_names, count)
  return dataclasses.replace(dataset, **splits, class_names=names)


def check_labels(source: str, labels: np.ndarray, n: int) -> np.ndarray:
  """Returns the labels of n images, which must be integers from 0, `[n]` or `[n, 1]`, as int64 `[n]`."""
  is_integer = np.issubdtype(labels.dtype, np.integer)
  expected = f'{source}: expected labels as {n} integers from 0, one for each image'
  if not is_integer or labels.shape not in ((n,), (n, 1)):
    raise UsageError(f'{expected}, got {labels.dtype} {list(labels.shape)}')
  labels = labels.reshape(n)
  # A label far beyond the number of images is a mistake, and would need a network with that many outputs.
  if (wrong := (labels < 0) | (labels >= max(n, _MOST_CLASSES))).any():
    raise UsageError(f'{expected}, got {labels[wrong.argmax()]} at position {wrong.argmax()}')
  return labels.astype(np.int64)


def all_labelled(source: str | os.PathLike, labels: np.ndarray) -> bool:
  """Whether every image has a label; -1 stands for none. Logs a line if only some images have labels."""
  missing = labels < 0
  if missing.any() and not missing.all():
    _LOG.info(
      '%s: the image at position %d has no label. The package therefore ignores all labels.', source, missing.argmax()
    )
  return not missing.any()


def check_conditions(source: str, conditions: np.ndarray, n: int) -> np.ndarray:
  """Returns the conditions of n images, which must be finite floats `[n, d]` or `[n, h, w, c]`, as float32."""
  shape, suits = conditions.shape, np.issubdtype(conditions.dtype, np.floating) and conditions.ndim in (2, 4)
  if not suits or shape[0] != n or conditions.size == 0:
    raise UsageError(
      f'{source}: expected conditions as floats [{n}, d] or [{n}, height, width, channels], one for each image, '
      f'got {conditions.dtype} {list(shape)}'
    )
  return as_finite(source, conditions)


def as_finite(source: str, numbers: np.ndarray) -> np.ndarray:
  """Returns floats `[n, ...]` as float32, and rejects NaN and infinity."""
  with np.errstate(over='ignore'):
    numbers = numbers.astype(np.float32)
  if not (is_finite := np.isfinite(numbers)).all():
    at = np.unravel_index(np.argmin(is_finite), numbers.shape)
    raise UsageError(f'{source}: expected finite float32 numbers, got {numbers[at]} at position {list(map(int, at))}')
  return numbers


def random_order(n: int) -> np.ndarray:
  """Returns the numbers below n in an order that depends only on n."""
  # Raw PCG64 output is guaranteed to stay the same in later NumPy versions; `Generator.permutation` is not.
  return np.argsort(np.random.PCG64(_SPLIT_SEED).random_raw(n), kind='stable')


def hold_out(split: Split, fraction: float, shuffle: bool, source: str) -> tuple[Split, Split]:
  """Returns the part of a split that is kept and the part that is held out, each in the original order.

  It holds out the last images or, with `shuffle`, a random subset that depends only on the length; at least one image.
  """
  n = len(split)
  count = max(1, round(fraction * n))
  if count >= n:
    raise UsageError(f'{source}: expected at least {count + 1} images to divide, got {n}')
  order = random_order(n) if shuffle else np.arange(n)
  return split.take(np.sort(order[:-count])), split.take(np.sort(order[-count:]))


def three_way(everything: Split, source: str) -> tuple[Split, Split, Split]:
  """Divides images at random into 80 % train, 10 % validation and 10 % test, the same way each time."""
  if len(everything) < 3:
    raise UsageError(f'{source}: expected at least 3 images, one for each split, got {len(everything)}')
  rest, test = hold_out(everything, 1 / 10, shuffle=True, source=source)
  train, validation = hold_out(rest, 1 / 9, shuffle=True, source=source)
  return train, validation, test


def crop_and_resize(pixels: np.ndarray, size: int) -> np.ndarray:
  """Crops an image, uint8 `[height, width, 1 or 3]`, to its central square, and resizes that with a Lanczos filter.

  The filter is as wide as the scale demands, so that nothing is aliased.
  """
  height, width, channels = pixels.shape
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  # With Pillow's `box` in place of a crop, the filter would also see what lies beyond the square.
  square = pixels[top : top + side, left : left + side]
  image = Image.fromarray(square[..., 0] if channels == 1 else square)
  return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS)).reshape(size, size, channels)


def bits_per_dim(nll: T, image_shape: Sequence[int], levels: int) -> T:
  """Converts an NLL in nats over the unit cube to bits per dimension: `nll / (d ln 2) + log2(levels)`.

  The second term accounts for the width of a dequantised grey level. It is 8 for 256 levels.

  Args:
    nll: Negative log-likelihood in nats per image, or an array of them.
    image_shape: `(height, width, channels)`; `d` is its product.
    levels: Number of grey levels.
  """
  return nll / (math.prod(image_shape) * math.log(2)) + math.log2(levels)
