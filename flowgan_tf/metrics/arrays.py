"""What several metrics do with arrays: check images, go through them in batches, keep results, and give their error."""

import hashlib
import logging
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from flowgan_tf.errors import UsageError
from flowgan_tf.files import digest, save_arrays
from flowgan_tf.progress import Task

_LOG = logging.getLogger(__name__)
_SEAL = 'sha256'


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


def cache_folder(folder: str) -> pathlib.Path:
  """Returns the folder of the setting `cache_dir`, which may be empty."""
  return pathlib.Path(folder or '~/.cache/flowgan_tf').expanduser()


def cached(folder: str | os.PathLike, name: str, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
  """Reads arrays, numbers and strings from their file in a cache, or makes them and keeps them there.

  A file that was damaged or edited is made again, with a warning. If the folder cannot be written to, a warning says
  so. Unusual characters in the name are replaced, so that the file stays in the folder.
  """
  path = pathlib.Path(folder, re.sub(r'[^A-Za-z0-9_-]+', '-', name) + '.npz')
  try:
    # NumPy leaves a damaged file open if it opened it itself.
    with path.open('rb') as file, np.load(file, allow_pickle=False) as saved:
      arrays = {name: saved[name] for name in saved.files}
    if str(arrays.pop(_SEAL)) != digest(None, arrays):
      raise ValueError('not what was written')
    return arrays
  except (FileNotFoundError, NotADirectoryError):
    pass
  except Exception as error:  # A damaged zip file raises almost anything, from EOFError to NotImplementedError.
    _LOG.warning('%s: damaged (%s: %s), and is made again.', path, type(error).__name__, error)
  made = make()
  try:
    # A flipped bit in a zip file's directory can drop the members after the first.
    save_arrays(path, {_SEAL: digest(None, made), **made})
  except UsageError as error:
    _LOG.warning('%s, and will be computed every time.', error)
  return made
