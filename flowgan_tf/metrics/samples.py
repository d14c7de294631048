"""Signs in the samples, seen without a classifier, that a generator has collapsed or blown up."""

from __future__ import annotations

import numpy as np

__all__ = ['SATURATION_MARGIN', 'sample_health']

# In dequantised real images one pixel in thousands comes this close to 0 or 1. In the samples of a generator that has
# blown up nearly all pixels do.
SATURATION_MARGIN = 1e-6


def sample_health(images: np.ndarray) -> dict[str, float]:
  """Measures signs of a collapse that the likelihood does not show.

  Args:
    images: Samples, floats `[n, height, width, channels]`.

  Returns:
    A dictionary of `saturated`, the share of pixels that are beyond 0 or 1 or within `SATURATION_MARGIN` of them;
    `non_finite`, the share of pixels that are NaN or infinite; and `sample_std`, the standard deviation over samples,
    averaged over pixels, which is near 0 if all samples are alike.
  """
  finite = np.isfinite(images)
  values = np.where(finite, images, 0.5)
  saturated = (values < SATURATION_MARGIN) | (values > 1 - SATURATION_MARGIN)
  return {
    'saturated': float(saturated.mean()),
    'non_finite': float(1 - finite.mean()),
    'sample_std': float(values.std(axis=0).mean()),
  }
