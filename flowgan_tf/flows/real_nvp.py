"""Real-NVP: affine couplings over several scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np

from flowgan_tf import bijectors
from flowgan_tf.base.errors import check, check_memory
from flowgan_tf.base.lazy import lazy_import, tf, tfp
from flowgan_tf.base.settings import MOST_LAYERS, MOST_UNITS, Setting
from flowgan_tf.flows import settings
from flowgan_tf.flows.builder import builder, network_condition
from flowgan_tf.flows.histograms import make_logit
from flowgan_tf.flows.make_flow import make_flow

if TYPE_CHECKING:
  from flowgan_tf.flows.flow import Flow

networks = lazy_import('flowgan_tf.networks')

_LOG_SCALE_BOUND = 2.0
_NO_BOUND = 1e9  # b tanh(u / b) is u to within rounding, even in float32.


@builder(
  paper='cifar10',
  components=lambda arguments: arguments.components,
  sees_condition=lambda arguments: arguments.condition_networks,
  has_batch_norm=lambda arguments: 'batch' in arguments.normalization or arguments.batch_norm_between,
  has_histograms=lambda arguments: arguments.histogram_bins > 0,
)
def real_nvp(
  image_shape: Sequence[int],
  *,
  scales: Annotated[int, Setting('Number of scales.', 1, 16)] = 2,
  channels: Annotated[int, Setting("Channels of the couplings' residual networks.", 1, MOST_UNITS)] = 64,
  blocks: Annotated[
    int, Setting("Residual blocks of each network; at least 1 with `architecture='paper'`.", 0, MOST_LAYERS)
  ] = 8,
  architecture: Annotated[
    str, Setting("'paper' is the flow of the paper's code.", choices=('preactivation', 'paper'))
  ] = 'preactivation',
  normalization: Annotated[
    str,
    Setting(
      "Norm inside the networks; 'batch' in the paper, and required by `architecture='paper'`.",
      choices=settings.NORMALIZATION_NAMES,
    ),
  ] = 'batch',
  batch_norm_between: Annotated[
    bool, Setting('Whether a batch norm follows each coupling, as in Dinh et al. 2017.')
  ] = False,
  log_scale_bound: settings.LogScaleBound = _LOG_SCALE_BOUND,
  prior: settings.Prior = 'normal',
  components: settings.Components = 1,
  alpha: settings.Alpha = 1e-7,
  histogram_bins: settings.HistogramBins = 0,
  condition_networks: settings.ConditionNetworks = True,
  classes: int | None = None,
  condition_shape: Sequence[int] | None = None,
  dtype: str = 'float32',
  name: str = 'real_nvp',
) -> Flow:
  """Builds Real-NVP over images in [0, 1]. The defaults have the size of the paper's CIFAR-10 generator.

  From image to noise: alpha-logit; at each scale but the last, 3 checkerboard couplings, squeeze, 3 channel couplings,
  and half of the channels factored out; at the last scale, 4 checkerboard couplings.

  With `architecture='paper'` it is the flow of the paper's code. The default differs from it in these points:

  - The networks are `ResidualConditioner`s instead of `PaperConditioner`s. Their output is zero until they are trained,
    so that a new flow is the identity on logits. Their first convolution is 3x3 instead of 1x1, so that the hidden
    layers see the neighbours of a pixel at once. Batch norm precedes each ReLU instead of following it, the input has
    none, and its epsilon and momentum are 1e-3 and 0.95 instead of 1e-4 and 0.9.
  - Shifts have no bound. In the paper's code a tanh bounds them by 1, while logits reach 16.
  - Log-scales are bounded by `log_scale_bound`, because the inverse of a stack of unbounded couplings is lost to
    rounding, and their learned factor starts at 1. In the paper's code they have no such bound, and the factor starts
    at 0 in checkerboard couplings.
  - Couplings scale and then shift on the way from noise to image instead of from image to noise.
  - The networks of channel couplings see the kept half of the channels, instead of all channels with zeros in place of
    the changed half. That is less work.

  Args:
    image_shape: `(height, width, channels)`. Height and width must be divisible by `2 ** (scales - 1)`.
    classes, condition_shape, dtype: As for `nice`. With `architecture='paper'` there is no condition for networks, and
      no `log_scale_bound`.

  Raises:
    ValueError: If an argument is out of range, or `image_shape` does not allow that many scales.

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017.
  [2]: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN. AAAI 2018.
  """
  of_paper = architecture == 'paper'
  if of_paper:
    # Without a block the paper's network has only 1x1 convolutions, which cannot see a checkerboard's other pixels.
    check('blocks', blocks, "at least 1 if `architecture` is 'paper'", blocks > 0)
    check('normalization', normalization, "'batch' if `architecture` is 'paper'", normalization == 'batch')
    expected = f"{_LOG_SCALE_BOUND} if `architecture` is 'paper', which has no bound"
    check('log_scale_bound', log_scale_bound, expected, log_scale_bound == _LOG_SCALE_BOUND)
  seen = network_condition(classes, condition_shape, condition_networks, components)
  expected = "'preactivation' if the networks see a condition, which the paper's do not take"
  check('architecture', architecture, expected, seen is None or not of_paper)
  factor = 2 ** (scales - 1)
  height, width, _ = image_shape
  if height % factor or width % factor or height * width == factor**2:
    raise ValueError(
      f'`image_shape` must have height and width divisible by {factor} for {scales} scales, and more than one pixel '
      f'after the division. Got: {tuple(image_shape)}.'
    )
  # 3x3 convolutions, the first one and all between hidden layers. The last scale has 4 couplings, the others have 6.
  weights = (6 * scales - 2) * 9 * channels * (2 * blocks * channels + image_shape[-1])
  check_memory('weights', 4 * weights)
  density_dtype = tf.float64 if dtype == 'float64' else tf.float32

  channel_mask = _channel_of_full_size if of_paper else bijectors.masks.channel

  def coupling(mask, initial_scale, name):
    outputs = 2 * mask.changed_shape[-1]
    if not of_paper:
      network = networks.ResidualConditioner(outputs, channels, blocks, normalization, dtype)
      return bijectors.AffineCoupling(network, mask, log_scale_bound, name=name, condition_shape=seen)
    network = networks.PaperConditioner(outputs, channels, blocks, dtype)
    to_noise = bijectors.AffineCoupling(network, mask, _NO_BOUND, initial_scale, name=name)
    return tfp.bijectors.Invert(to_noise, name=f'inverse_{name}')

  def couplings(shape, make_mask, count, prefix):
    # In the paper's code the log-scales of checkerboard couplings start at 0.
    initial_scale = 0.0 if make_mask is bijectors.masks.checkerboard else 1.0
    for i in range(count):
      yield coupling(make_mask(shape, swap=i % 2 == 1), initial_scale, f'{prefix}_{i}')
      if batch_norm_between:
        yield bijectors.BatchNormalization(shape, dtype=density_dtype, name=f'{prefix}_{i}_norm')

  def scale_to_image(shape, level):
    """The generator of this scale and all coarser ones, from noise to an event of `shape`."""
    if level == scales - 1:
      parts = list(couplings(shape, bijectors.masks.checkerboard, 4, f'scale_{level}_checkerboard'))
      return tfp.bijectors.Chain(parts, name=f'scale_{level}')
    height, width, depth = shape
    squeezed = (height // 2, width // 2, 4 * depth)
    coarser = scale_to_image((*squeezed[:2], 2 * depth), level + 1)
    parts = [
      *couplings(shape, bijectors.masks.checkerboard, 3, f'scale_{level}_checkerboard'),
      tfp.bijectors.Invert(bijectors.Squeeze(), name=f'scale_{level}_unsqueeze'),
      *couplings(squeezed, channel_mask, 3, f'scale_{level}_channel'),
      bijectors.FactorOut(coarser, squeezed, name=f'scale_{level}_factor_out'),
      # The noise is laid out like the event, so that scales nest and the noise has the shape of the image.
      bijectors.Squeeze(name=f'scale_{level}_squeeze'),
    ]
    return tfp.bijectors.Chain(parts, name=f'scale_{level}')

  from_logits = tfp.bijectors.Invert(make_logit(image_shape, alpha, histogram_bins, density_dtype), name='from_logits')
  to_image = tfp.bijectors.Chain([from_logits, scale_to_image(tuple(image_shape), 0)], name=f'{name}_generator')
  return make_flow(to_image, image_shape, density_dtype, name, prior, components, classes, condition_shape)


def _channel_of_full_size(event_shape, swap):
  """`masks.channel` with zeros in place of the other part, as in the paper's code.

  The zeros do not affect the output, but their weights contribute to the norms of the first convolution's kernels.
  """
  first = np.broadcast_to(np.arange(event_shape[-1]) < event_shape[-1] // 2, event_shape)
  return bijectors.masks.BinaryMask(first != swap)
