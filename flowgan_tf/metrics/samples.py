"""What can be seen of samples without a classifier: whether the generator has collapsed or blown up."""

from __future__ import annotations

import numpy as np

__all__ = ['SATURATION_MARGIN', 'sample_health']

# Real dequantised images come this close to 0 or 1 once in thousands of pixels; a generator whose noise has blown up
# does so nearly everywhere.
SATURATION_MARGIN = 1e-6


def sample_health(images: np.ndarray) -> dict[str, float]:
  """Signs of a collapse that a likelihood does not show.

  Args:
    images: Samples, float `[n, height, width, channels]`.

  Returns:
    `saturated`, the share of pixels within `SATURATION_MARGIN` of 0 or 1 or beyond; `non_finite`, the share of pixels
    that are NaN or infinite; and `sample_std`, the standard deviation over samples, averaged over pixels: near 0 when
    all samples are alike.
  """
  finite = np.isfinite(images)
  values = np.where(finite, images, 0.5)
  saturated = (values < SATURATION_MARGIN) | (values > 1 - SATURATION_MARGIN)
  return {
    'saturated': float(saturated.mean()),
    'non_finite': float(1 - finite.mean()),
    'sample_std': float(values.std(axis=0).mean()),
  }
