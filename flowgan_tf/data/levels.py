"""Grey levels, the unit of likelihoods in bits."""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar('T', float, np.ndarray)


def bits_per_dim(nll: T, image_shape: Sequence[int], levels: int) -> T:
  """Converts an NLL in nats over the unit cube to bits per dimension: `nll / (d ln 2) + log2(levels)`.

  The second term accounts for the width of a dequantised grey level. It is 8 for 256 levels.

  Args:
    nll: Negative log-likelihood in nats per image, or an array of them.
    image_shape: `(height, width, channels)`; `d` is its product.
    levels: Number of grey levels.
  """
  return nll / (math.prod(image_shape) * math.log(2)) + math.log2(levels)
