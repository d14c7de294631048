"""Keras 3 networks: conditioners of couplings, and the adapter that shows their variables to TFP.

Every layer is registered with Keras. Once this package is imported, `keras.saving.load_model` loads a model that holds
one without `custom_objects`.
"""

from flowgan_tf.networks.adapter import KerasModule
from flowgan_tf.networks.block_means import BlockMeanConditioner
from flowgan_tf.networks.conditioners import (
  PaperConditioner,
  ResidualConditioner,
  WeightNormConv2D,
  dense_conditioner,
)
from flowgan_tf.networks.mixer import MixerConditioner
from flowgan_tf.networks.normalization import (
  NORMALIZATIONS,
  GuardedBatchNormalization,
  ImageNormalization,
  LastAxisNormalization,
  ScalarBatchNormalization,
)
from flowgan_tf.networks.transformer import TransformerConditioner

__all__ = [
  'NORMALIZATIONS',
  'BlockMeanConditioner',
  'GuardedBatchNormalization',
  'ImageNormalization',
  'KerasModule',
  'LastAxisNormalization',
  'MixerConditioner',
  'PaperConditioner',
  'ResidualConditioner',
  'ScalarBatchNormalization',
  'TransformerConditioner',
  'WeightNormConv2D',
  'dense_conditioner',
]
