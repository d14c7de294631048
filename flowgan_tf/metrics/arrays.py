"""What several metrics do with arrays: check images, go through them in batches, and give the error of a result."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from flowgan_tf.base.errors import UsageError
from flowgan_tf.base.lazy import tf
from flowgan_tf.base.progress import Task


def check_images(images: np.ndarray) -> np.ndarray:
  """Returns images, which must be finite floats `[n, height, width, channels]`, as an array.

  Otherwise a metric would score grey levels or NaN without an error.
  """
  images = np.asarray(images)
  if not np.issubdtype(images.dtype, np.floating) or images.ndim != 4:
    raise UsageError(
      f'`images` must be floats [n, height, width, channels] in [0, 1]. Got: {images.dtype} of shape {images.shape}.',
      'images',
    )
  if bad := np.count_nonzero(~np.isfinite(images).all(axis=(1, 2, 3))):
    raise UsageError(f'`images` must be finite. Got: {bad} of {len(images)} images with NaN or infinity.', 'images')
  return images


def map_batches(
  function: Callable, array: np.ndarray, batch_size: int, *others: np.ndarray | None, what: str = 'computing'
) -> Any:
  """Applies a function to arrays `[n, ...]`, batch by batch, and returns the structure of arrays `[n, ...]`.

  It leaves out what is None. Its progress is shown as `what`. The last batch is filled up with copies of its first
  entry, whose results are dropped, because XLA would compile another program for a smaller batch.
  """
  n, parts, arrays = len(array), [], [a for a in (array, *others) if a is not None]
  with Task(what, n) as task:
    for i in range(0, n, batch_size):
      batch = [a[i : i + batch_size] for a in arrays]
      if missing := batch_size - len(batch[0]):
        batch = [np.concatenate([a, np.repeat(a[:1], missing, axis=0)]) for a in batch]
      parts.append(function(*batch))
      task.advance(batch_size)
  return tf.nest.map_structure(lambda *batches: np.concatenate(batches)[:n], *parts)


def standard_error(values: ArrayLike) -> float:
  """Returns the standard error of the mean of n independent values, in float64; NaN for fewer than two of them."""
  values = np.asarray(values, np.float64)
  return float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else math.nan


def binomial_error(share: float, n: int) -> float:
  """Returns the standard error of a share of n independent images, `sqrt(p (1 - p) / n)`."""
  return math.sqrt(share * (1 - share) / n)


def weights_hash(weights: Iterable[np.ndarray]) -> str:
  """Returns the first 16 hexadecimal digits of the SHA-256 of a network's weights."""
  return hashlib.sha256(b''.join(weight.tobytes() for weight in weights)).hexdigest()[:16]
