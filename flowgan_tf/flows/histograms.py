"""The first step from an image to noise: the logits of its pixels, by histograms of the training images if wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flowgan_tf import bijectors
from flowgan_tf.base.errors import check, check_memory
from flowgan_tf.base.lazy import keras, lazy_import, tf, tfp
from flowgan_tf.flows.checks import check_events, check_values

networks = lazy_import('flowgan_tf.networks')

CHANNELS, BLOCKS = 64, 3  # the defaults of `jet`


def make_logit(
  image_shape: Sequence[int],
  alpha: float,
  histogram_bins: int,
  dtype: tf.DType,
  conditioners: Sequence[keras.Layer] = (),
  condition_shape: Sequence[int] | None = None,
) -> bijectors.AlphaLogit | bijectors.HistogramLogit:
  """Returns the alpha-logit, or with bins the `HistogramLogit` of a new flow.

  Raises:
    UsageError: If an argument is out of range.
  """
  check_histograms(image_shape, histogram_bins)
  if not histogram_bins:
    return bijectors.AlphaLogit(alpha)
  return bijectors.HistogramLogit(
    image_shape, histogram_bins, alpha, dtype, conditioners=conditioners, condition_shape=condition_shape
  )


def make_networks(
  image_shape: Sequence[int],
  histogram_bins: int,
  histogram_networks: int,
  histogram_channels: int,
  histogram_blocks: int,
  dtype: str,
) -> list[keras.Layer]:
  """Returns the networks of a `HistogramLogit`, from arguments of `jet`.

  The farther apart the pixels that a network sees, the larger its patches: 2x2 for the first three networks, 4x4 for
  the next three, and so on, as long as they divide the image. Larger patches have more channels in proportion to their
  height, so that the residual blocks of all networks cost about the same.

  Raises:
    UsageError: If an argument is out of range, a network would not reach the pixels that it sees, or the machine has
      not enough memory.
  """
  for name, value, usual in (('channels', histogram_channels, CHANNELS), ('blocks', histogram_blocks, BLOCKS)):
    expected = f'{usual} without `histogram_networks`'
    check(f'histogram_{name}', value, expected, histogram_networks or value == usual)
  *sides, channels = image_shape
  outputs = channels * bijectors.HistogramLogit.group_count(histogram_bins) if histogram_networks else 0
  distances = bijectors.HistogramLogit.distances(image_shape)[:histogram_networks]
  sizes = [math.gcd(2 * distance, *sides) for distance in distances]
  for i, (distance, size) in enumerate(zip(distances, sizes, strict=True)):
    expected = f'at most {i} for images of shape {tuple(image_shape)} and {histogram_blocks} `histogram_blocks`'
    check('histogram_networks', histogram_networks, expected, distance <= (1 + 2 * histogram_blocks) * size)
  widths = [histogram_channels * max(size // 2, 1) for size in sizes]
  weights = [
    width * ((18 * channels + outputs) * size**2 + 18 * histogram_blocks * width)
    for width, size in zip(widths, sizes, strict=True)
  ]
  check_memory('weights', 4 * sum(weights))
  return [
    networks.ResidualConditioner(outputs, width, histogram_blocks, dtype=dtype, patch_size=size)
    for width, size in zip(widths, sizes, strict=True)
  ]


def check_histograms(image_shape: Sequence[int], histogram_bins: int, histogram_networks: int = 0) -> None:
  """Checks these arguments of builders, so that errors name them."""
  check(
    'histogram_networks', histogram_networks, '0 without `histogram_bins`', histogram_bins or not histogram_networks
  )
  most = len(bijectors.HistogramLogit.distances(image_shape)) if histogram_networks else 0
  expected = f'at most {most} for images of shape {tuple(image_shape)}'
  check('histogram_networks', histogram_networks, expected, histogram_networks <= most)
  check_memory('histograms', 4 * math.prod(image_shape) * histogram_bins)


def pixel_logit(flow: tfp.distributions.Distribution) -> bijectors.AlphaLogit | bijectors.HistogramLogit:
  """Returns the part of a flow that maps pixels to logits; raises a `UsageError` if there is none or several."""
  found = [part for part in flow.submodules if isinstance(part, bijectors.AlphaLogit | bijectors.HistogramLogit)]
  check(
    'generator', flow.name, 'a flow with one `AlphaLogit` or `HistogramLogit` for `transport_weight`', len(found) == 1
  )
  return found[0]


def histogram_logits(flow: tfp.distributions.Distribution) -> list[bijectors.HistogramLogit]:
  """Returns the parts of a flow that hold histograms, at most one in flows of this package."""
  return [part for part in flow.submodules if isinstance(part, bijectors.HistogramLogit)]


def fit_histograms(flow: tfp.distributions.TransformedDistribution, images: np.ndarray) -> None:
  """Gives a new flow with `histogram_bins` the histograms of training images.

  ```python
  flow = fg.flows.jet((28, 28, 1), histogram_bins=256)
  fg.flows.fit_histograms(flow, images)
  ```

  Call it before `initialize_prior`.

  Args:
    flow: A flow with a `HistogramLogit`.
    images: The training images or a random sample of them, dequantized, floats `[n, *event_shape]` in [0, 1].

  Raises:
    ValueError: If the flow has no histograms, or the images have another shape or dtype, values outside [0, 1], or
      there are none.
  """
  found = histogram_logits(flow) if isinstance(flow, tf.Module) else []
  check('flow', flow, 'a flow with `histogram_bins`', len(found) == 1)
  images = np.asarray(images)
  check_events('images', images, flow.event_shape, 'n')
  check('images', len(images), 'at least one image', len(images) > 0)
  check_values(images)
  found[0].fit(images)
