"""Jet: couplings whose networks are MLP-Mixers or vision transformers over patches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from flowgan_tf import bijectors
from flowgan_tf.base.errors import LARGEST_IMAGE, check, check_integer, check_memory
from flowgan_tf.base.lazy import lazy_import, tf, tfp
from flowgan_tf.base.settings import MOST_LAYERS, MOST_UNITS, Setting
from flowgan_tf.flows import settings
from flowgan_tf.flows.builder import builder, network_condition
from flowgan_tf.flows.couplings import choose_coupling
from flowgan_tf.flows.histograms import BLOCKS, CHANNELS, check_histograms, make_logit, make_networks
from flowgan_tf.flows.make_flow import make_flow

if TYPE_CHECKING:
  from flowgan_tf.flows.flow import Flow

networks = lazy_import('flowgan_tf.networks')
priors = lazy_import('flowgan_tf.flows.prior')

_HEADS = 4


@builder(
  components=lambda arguments: arguments.components,
  sees_condition=lambda arguments: arguments.condition_networks,
  has_histograms=lambda arguments: arguments.histogram_bins > 0,
  logits_see_condition=lambda arguments: arguments.condition_networks and arguments.histogram_networks > 0,
)
def jet(
  image_shape: Sequence[int],
  *,
  couplings: settings.Couplings = 12,
  coupling: settings.CouplingName = 'affine',
  conditioner: Annotated[
    str,
    Setting(
      'Kind of the networks; see `MixerConditioner` and `TransformerConditioner`.', choices=('mixer', 'transformer')
    ),
  ] = 'mixer',
  patch_size: Annotated[
    int, Setting('Height and width of a patch, a divisor of height and width of the image.', 1, LARGEST_IMAGE)
  ] = 4,
  width: Annotated[
    int,
    Setting(
      'Features of each patch, and hidden units that mix patches; a multiple of 4 for a transformer.',
      1,
      MOST_UNITS,
    ),
  ] = 128,
  blocks: Annotated[int, Setting('Mixer or transformer blocks of each network.', 1, MOST_LAYERS)] = 1,
  hidden_units: Annotated[int, Setting('Hidden units of the perceptrons that mix features.', 1, MOST_UNITS)] = 256,
  log_scale_bound: settings.LogScaleBound = 2.0,
  spline_bins: settings.SplineBins = 8,
  spline_bound: settings.SplineBound = 4.0,
  prior: settings.Prior = 'logistic',
  components: settings.Components = 1,
  whitening: Annotated[
    bool,
    Setting(
      'Whether samples of a new flow have the mean colour and the power spectrum of the training images; see '
      '`SpectralWhitening`.'
    ),
  ] = False,
  alpha: settings.Alpha = 1e-7,
  histogram_bins: settings.HistogramBins = 0,
  histogram_networks: Annotated[
    int,
    Setting(
      'Networks of the `HistogramLogit`: three for patches of 2x2 pixels, three for 4x4, and so on, as long as such '
      'patches divide the image.',
      0,
      64,
    ),
  ] = 0,
  histogram_channels: Annotated[
    int,
    Setting(
      'Channels of the networks with patches of 2x2 pixels; those with 4x4 have twice as many, and so on.',
      1,
      MOST_UNITS,
    ),
  ] = CHANNELS,
  histogram_blocks: Annotated[int, Setting('Residual blocks of each of these networks.', 0, MOST_LAYERS)] = BLOCKS,
  condition_networks: settings.ConditionNetworks = True,
  classes: int | None = None,
  condition_shape: Sequence[int] | None = None,
  dtype: str = 'float32',
  name: str = 'jet',
) -> Flow:
  """Builds a flow of couplings whose networks are products of matrices over patches of the image.

  From image to noise: alpha-logit or histograms, couplings, whitening if asked for, diagonal scaling. The masks take
  turns: single pixels as on a checkerboard, every second channel, rows, patches as on a checkerboard, columns; each is
  followed by its complement. Masks that do not divide the image are left out, such as channels if there is only one. If
  the condition is an image that is N times smaller, the coupling next to the image changes one pixel of each block of N
  x N. Its network sees the value that would give the block the mean that the condition asks for.

  It differs from the flow of [1] in these points:

  - The masks are regular. Jet divides the features of every patch by fixed random permutations and, after two or four
    such couplings, divides the patches. Its networks see only the kept half, without zeros in place of the other half.
  - The default networks are MLP-Mixers [2], whose large products suit a CPU. Jet has vision transformers.
  - Couplings scale and then shift on the way from noise to image, with a log-scale between `-log_scale_bound` and
    `log_scale_bound`. Jet's couplings shift and then scale on the way from image to noise, by a factor between 0 and 2.
  - Jet has a normal prior, and neither the alpha-logit nor the diagonal scaling.

  Args:
    image_shape: `(height, width, channels)`, with more than one pixel.
    classes, condition_shape, dtype: As for `nice`. If the condition is a smaller image, there must be at least 3
      couplings and no histograms.

  Raises:
    ValueError: If an argument is out of range, or `patch_size` does not divide the images.

  #### References

  [1]: Alexander Kolesnikov, André Susano Pinto, Michael Tschannen. Jet: A Modern Transformer-Based Normalizing Flow.
       2024. https://arxiv.org/abs/2412.15129
  [2]: Ilya Tolstikhin et al. MLP-Mixer: An all-MLP Architecture for Vision. NeurIPS 2021.
  """
  seen = network_condition(classes, condition_shape, condition_networks, components)
  reduction = _reduction(image_shape, seen)
  check('histogram_bins', histogram_bins, '0 if the condition is a smaller image', reduction == 1 or not histogram_bins)
  check_histograms(image_shape, histogram_bins, histogram_networks)
  # The coupling for a smaller image changes only one pixel in each block, and the two others change half of them each.
  check_integer('couplings', couplings, 2 if reduction == 1 else 3, MOST_LAYERS)
  choice = choose_coupling(
    coupling, log_scale_bound=log_scale_bound, spline_bins=spline_bins, spline_bound=spline_bound
  )
  mixer = conditioner == 'mixer'
  *sides, channels = image_shape
  size = math.prod(sides)
  check('image_shape', tuple(image_shape), 'of more than one pixel', size > 1)
  networks.pixels.check_patch_size(patch_size, *sides)
  outputs = choice.outputs * channels
  patches = size // patch_size**2
  mixing = 2 * patches if mixer else 4 * width  # Weights of a block, for each feature, besides its perceptron.
  per_feature = patch_size**2 * (channels + outputs) + patches + blocks * (mixing + 2 * hidden_units)
  check_memory('weights', 4 * couplings * width * per_feature)

  def network(outputs):
    sizes = outputs, patch_size, width, blocks
    if mixer:
      return networks.MixerConditioner(*sizes, patch_units=width, hidden_units=hidden_units, dtype=dtype)
    return networks.TransformerConditioner(*sizes, heads=_HEADS, hidden_units=hidden_units, dtype=dtype)

  def parts():
    """Yields the network and the mask of each coupling."""
    masks = itertools.cycle(_masks(image_shape, patch_size))
    if reduction > 1:
      lattice = bijectors.masks.lattice(image_shape, reduction)
      yield networks.BlockMeanConditioner(network(outputs), reduction, alpha, density_dtype.name), lattice
    for mask in masks:
      yield network(choice.outputs * mask.changed_shape[-1]), mask

  density_dtype = tf.float64 if dtype == 'float64' else tf.float32
  pixel_networks = make_networks(
    image_shape, histogram_bins, histogram_networks, histogram_channels, histogram_blocks, dtype
  )
  to_noise: list[tfp.bijectors.Bijector] = [
    make_logit(image_shape, alpha, histogram_bins, density_dtype, pixel_networks, seen if pixel_networks else None)
  ]
  for i, (net, mask) in enumerate(itertools.islice(parts(), couplings)):
    part = choice.make(net, mask, name=f'coupling_{i}', condition_shape=seen)
    to_noise.append(tfp.bijectors.Invert(part, name=f'inverse_coupling_{i}'))
  if whitening:
    stddev = float(priors.standard_prior(prior, (), density_dtype).stddev())
    to_noise.append(bijectors.SpectralWhitening(image_shape, stddev))
  to_noise.append(bijectors.DiagonalScaling(image_shape, dtype=density_dtype))
  to_image = tfp.bijectors.Invert(tfp.bijectors.Chain(to_noise[::-1]), name=f'{name}_generator')
  return make_flow(to_image, image_shape, density_dtype, name, prior, components, classes, condition_shape)


def _reduction(image_shape, condition_shape):
  """Returns how many times smaller a condition is than the image; 1 for other conditions."""
  if condition_shape is None or len(condition_shape) < 3:
    return 1
  height, width, channels = condition_shape
  size = image_shape[0] // height
  return size if (size * height, size * width, channels) == tuple(image_shape) else 1


def _masks(image_shape: Sequence[int], patch_size: int) -> list[bijectors.masks.Mask]:
  """Returns each pattern that divides the image, followed by its complement."""
  masks = bijectors.masks
  height, width, channels = image_shape
  firsts = [masks.checkerboard(image_shape)]
  if channels > 1:
    firsts.append(masks.even_odd(image_shape))
  if height > 1:
    firsts.append(masks.rows(image_shape))
  if height * width > patch_size**2 > 1:
    firsts.append(masks.checkerboard(image_shape, size=patch_size))
  if width > 1:
    firsts.append(masks.columns(image_shape))
  return [mask for first in firsts for mask in (first, ~first)]
