"""Real-NVP: affine couplings over several scales."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors
from flowgan_tf.arguments import check_bool, check_integer
from flowgan_tf.builders import builder
from flowgan_tf.flows.flow import Flow, standard_prior
from flowgan_tf.networks import ResidualConditioner

__all__ = ['real_nvp']


@builder
def real_nvp(
  image_shape: Sequence[int],
  *,
  scales: int = 2,
  channels: int = 64,
  blocks: int = 8,
  normalization: str = 'batch',
  batch_norm_between: bool = False,
  log_scale_bound: float = 2.0,
  prior: str = 'normal',
  alpha: float = 1e-7,
  dtype: str = 'float32',
  name: str = 'real_nvp',
) -> Flow:
  """Builds Real-NVP over images in [0, 1]. The defaults are the paper's CIFAR-10 generator.

  From image to noise: alpha-logit; at each scale but the last, 3 checkerboard couplings, squeeze, 3 channel couplings,
  and half of the channels factored out; at the last scale, 4 checkerboard couplings.

  Args:
    image_shape: `(height, width, channels)`. Height and width must be divisible by `2 ** (scales - 1)`.
    scales: Number of scales.
    channels: Channels of the couplings' residual networks.
    blocks: Residual blocks of each network.
    normalization: Norm inside the networks: 'batch' (the paper's), 'scalar_batch', 'layer' or 'none'.
    batch_norm_between: Whether a batch norm follows each coupling, as in Dinh et al. 2017.
    log_scale_bound: Largest absolute log-scale of a coupling.
    prior: 'normal' (the paper's) or 'logistic'.
    alpha: Alpha of the alpha-logit; Dinh et al. use 0.05.
    dtype: Name of a Keras dtype policy. Densities are float64 for 'float64' and otherwise float32: mixed policies
      affect only the networks.
    name: Name of the distribution.

  Returns:
    A distribution over images `[..., height, width, channels]`, with log densities in nats with respect to the unit
    cube. Its noise has the shape of the images.

  Raises:
    ValueError: If an argument is out of range, or `image_shape` does not allow that many scales.

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017.
  [2]: Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN. AAAI 2018.
  """
  check_integer('scales', scales, 1)
  check_integer('channels', channels, 1)
  check_integer('blocks', blocks, 0)
  check_bool('batch_norm_between', batch_norm_between)
  factor = 2 ** (scales - 1)
  height, width, _ = image_shape
  if height % factor or width % factor or height * width == factor**2:
    raise ValueError(
      f'`image_shape` must have height and width divisible by {factor} for {scales} scales, and more than one pixel '
      f'after the division. Got: {tuple(image_shape)}.'
    )
  density_dtype = tf.float64 if dtype == 'float64' else tf.float32

  def couplings(shape, make_mask, count, prefix):
    for i in range(count):
      mask = make_mask(shape, swap=i % 2 == 1)
      network = ResidualConditioner(2 * mask.changed_shape[-1], channels, blocks, normalization, dtype)
      yield bijectors.AffineCoupling(network, mask, log_scale_bound, name=f'{prefix}_{i}')
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
      *couplings(squeezed, bijectors.masks.channel, 3, f'scale_{level}_channel'),
      bijectors.FactorOut(coarser, squeezed, name=f'scale_{level}_factor_out'),
      # The noise is laid out like the event, so that scales nest and the noise has the shape of the image.
      bijectors.Squeeze(name=f'scale_{level}_squeeze'),
    ]
    return tfp.bijectors.Chain(parts, name=f'scale_{level}')

  from_logits = tfp.bijectors.Invert(bijectors.AlphaLogit(alpha), name='from_logits')
  to_image = tfp.bijectors.Chain([from_logits, scale_to_image(tuple(image_shape), 0)], name=f'{name}_generator')
  return Flow(standard_prior(prior, image_shape, density_dtype), to_image, name)
