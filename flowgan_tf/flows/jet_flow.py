"""Jet: couplings whose networks are MLP-Mixers or vision transformers over patches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf import bijectors
from flowgan_tf.arguments import check_choice, check_integer
from flowgan_tf.builders import builder
from flowgan_tf.flows.flow import Flow, standard_prior
from flowgan_tf.networks import MixerConditioner, TransformerConditioner

__all__ = ['jet']

_COUPLINGS = {'affine': 2, 'additive': 1}


@builder
def jet(
  image_shape: Sequence[int],
  *,
  couplings: int = 12,
  coupling: str = 'affine',
  conditioner: str = 'mixer',
  patch_size: int = 4,
  width: int = 128,
  blocks: int = 1,
  hidden_units: int = 256,
  log_scale_bound: float = 2.0,
  prior: str = 'logistic',
  alpha: float = 1e-7,
  dtype: str = 'float32',
  name: str = 'jet',
) -> Flow:
  """Builds a flow of couplings whose networks are products of matrices over patches of the image.

  From image to noise: alpha-logit, couplings, diagonal scaling. The masks take turns: single pixels as on a
  checkerboard, rows, patches as on a checkerboard, columns; each is followed by its complement.

  Jet has vision transformers, and divides patches, or the features of every patch, by random permutations that are
  fixed. The masks here are regular instead, and an MLP-Mixer is the default, whose large products suit a CPU.

  Args:
    image_shape: `(height, width, channels)`.
    couplings: Number of couplings, at least 2.
    coupling: 'affine' or 'additive'.
    conditioner: 'mixer' or 'transformer'.
    patch_size: Height and width of a patch, which must divide those of the image.
    width: Features of each patch; for a transformer a multiple of 4, its number of attention heads.
    blocks: Mixer or transformer blocks of each network.
    hidden_units: Hidden units of the perceptrons that mix features.
    log_scale_bound: Largest absolute log-scale of an affine coupling.
    prior: 'logistic' or 'normal'.
    alpha: Alpha of the alpha-logit.
    dtype: Name of a Keras dtype policy. Densities are float64 for 'float64' and otherwise float32: mixed policies
      affect only the networks.
    name: Name of the distribution.

  Returns:
    A distribution over images `[..., height, width, channels]`, with log densities in nats with respect to the unit
    cube. Its noise has the shape of the images.

  Raises:
    ValueError: If an argument is out of range, or does not fit the shape of the images.

  #### References

  [1]: Alexander Kolesnikov, André Susano Pinto, Michael Tschannen. Jet: A Modern Transformer-Based Normalizing Flow.
       2024.
  [2]: Ilya Tolstikhin et al. MLP-Mixer: An all-MLP Architecture for Vision. NeurIPS 2021.
  """
  check_integer('couplings', couplings, 2)  # A single coupling would leave half of the pixels unchanged.
  check_choice('coupling', coupling, _COUPLINGS)
  check_choice('conditioner', conditioner, ('mixer', 'transformer'))
  size = {'patch_size': patch_size, 'width': width, 'blocks': blocks, 'hidden_units': hidden_units}
  for argument, value in size.items():
    check_integer(argument, value, 1)
  if image_shape[0] % patch_size or image_shape[1] % patch_size:
    raise ValueError(f'`patch_size` must divide height and width of {tuple(image_shape)}. Got: {patch_size}.')
  density_dtype = tf.float64 if dtype == 'float64' else tf.float32
  to_noise: list[tfp.bijectors.Bijector] = [bijectors.AlphaLogit(alpha)]
  for i, mask in zip(range(couplings), itertools.cycle(_masks(image_shape, patch_size)), strict=False):
    outputs = _COUPLINGS[coupling] * image_shape[-1]
    if conditioner == 'mixer':
      network = MixerConditioner(outputs, patch_units=width, dtype=dtype, **size)
    else:
      network = TransformerConditioner(outputs, dtype=dtype, **size)
    if coupling == 'affine':
      part = bijectors.AffineCoupling(network, mask, log_scale_bound, name=f'coupling_{i}')
    else:
      part = bijectors.AdditiveCoupling(network, mask, name=f'coupling_{i}')
    to_noise.append(tfp.bijectors.Invert(part, name=f'inverse_coupling_{i}'))
  to_noise.append(bijectors.DiagonalScaling(image_shape, dtype=density_dtype))
  to_image = tfp.bijectors.Invert(tfp.bijectors.Chain(to_noise[::-1]), name=f'{name}_generator')
  return Flow(standard_prior(prior, image_shape, density_dtype), to_image, name)


def _masks(image_shape: Sequence[int], patch_size: int) -> list[bijectors.masks.Mask]:
  """Returns each pattern that divides the image, followed by its complement."""
  masks = bijectors.masks
  height, width, _ = image_shape
  firsts = []
  if height * width > 1:
    firsts.append(masks.checkerboard(image_shape))
  if height > 1:
    firsts.append(masks.rows(image_shape))
  if height * width > patch_size**2 > 1:
    firsts.append(masks.checkerboard(image_shape, size=patch_size))
  if width > 1:
    firsts.append(masks.columns(image_shape))
  if not firsts:
    raise ValueError(f'`image_shape` must have more than one pixel. Got: {tuple(image_shape)}.')
  return [mask for first in firsts for mask in (first, ~first)]
