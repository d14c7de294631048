"""Images of one size from images of several."""

from __future__ import annotations

import logging

import numpy as np
from PIL import Image

__all__ = ['RESIZE', 'crop_and_resize', 'log_resizing']

_LOG = logging.getLogger(__name__)

# What the refusal of images of several shapes says at its end.
RESIZE = '; to crop and resize all of them, set `image_size`, for example to 64'


def crop_and_resize(pixels: np.ndarray, size: int) -> np.ndarray:
  """Crops an image to its central square, and resizes that with a Lanczos filter.

  If the number of rows or columns to crop is odd, one more is taken from the bottom or the right. The filter is as wide
  as the scale demands, so that nothing is aliased. A square image of that size stays as it is.

  Args:
    pixels: Grey levels, uint8 `[height, width, 1 or 3]`.
    size: Height and width of the result.

  Returns:
    uint8 `[size, size, 1 or 3]`.
  """
  height, width, channels = pixels.shape
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  # Cropped first: with Pillow's `box`, the filter would also see what lies beyond.
  square = pixels[top : top + side, left : left + side]
  image = Image.fromarray(square[..., 0] if channels == 1 else square)
  return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS)).reshape(size, size, channels)


def log_resizing(source: str, size: int) -> None:
  """Says that the images of a source are not what they are in its files."""
  _LOG.info('%s: images are cropped to their central square and resized to %d x %d (Lanczos).', source, size, size)
