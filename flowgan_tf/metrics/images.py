"""The images that the metrics take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ['check_images']


def check_images(images: np.ndarray, shape: Sequence[int | str]) -> np.ndarray:
  """Checks images and returns them as an array.

  Args:
    images: Finite floats `[n, height, width, channels]` with n > 0.
    shape: The expected height, width and number of channels. A string, such as 'height', stands for any number
      above 0.

  Raises:
    ValueError: If they are not floats, not finite or of another shape, or if there are none.
  """
  images = np.asarray(images)
  if not np.issubdtype(images.dtype, np.floating):
    raise ValueError(f'`images` must be floats in [0, 1]. Got: {images.dtype}.')
  fits = images.ndim == 4 and all(isinstance(m, str) or m == n for m, n in zip(shape, images.shape[1:], strict=True))
  if not fits or 0 in images.shape:
    raise ValueError(f'`images` must have shape [n, {", ".join(map(str, shape))}], not empty. Got: {images.shape}.')
  if bad := np.count_nonzero(~np.isfinite(images).all(axis=(1, 2, 3))):
    raise ValueError(f'`images` must be finite. Got: {bad} of {len(images)} images with NaN or infinity.')
  return images
