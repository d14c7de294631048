"""Bijectors that can be used in any `tfb.Chain`."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports

__all__ = [
  'AdditiveCoupling',
  'AffineCoupling',
  'AlphaLogit',
  'BatchNormalization',
  'Coupling',
  'DiagonalScaling',
  'FactorOut',
  'HistogramLogit',
  'SpectralWhitening',
  'SplineCoupling',
  'Squeeze',
  'bijector_kwargs',
  'clearing_caches',
  'masks',
]

if TYPE_CHECKING:
  from flowgan_tf.bijectors import masks
  from flowgan_tf.bijectors.base import bijector_kwargs, clearing_caches
  from flowgan_tf.bijectors.batch_norm import BatchNormalization
  from flowgan_tf.bijectors.coupling import AdditiveCoupling, AffineCoupling, Coupling
  from flowgan_tf.bijectors.histogram import HistogramLogit
  from flowgan_tf.bijectors.logit import AlphaLogit
  from flowgan_tf.bijectors.multiscale import FactorOut, Squeeze
  from flowgan_tf.bijectors.scaling import DiagonalScaling
  from flowgan_tf.bijectors.spline import SplineCoupling
  from flowgan_tf.bijectors.whitening import SpectralWhitening
else:
  _MODULES = {
    'base': ['bijector_kwargs', 'clearing_caches'],
    'batch_norm': ['BatchNormalization'],
    'coupling': ['AdditiveCoupling', 'AffineCoupling', 'Coupling'],
    'histogram': ['HistogramLogit'],
    'logit': ['AlphaLogit'],
    'multiscale': ['FactorOut', 'Squeeze'],
    'scaling': ['DiagonalScaling'],
    'spline': ['SplineCoupling'],
    'whitening': ['SpectralWhitening'],
    'masks': [],
  }
  __getattr__, __dir__ = lazy_exports(__name__, _MODULES)
