"""Keras 3 networks: conditioners of couplings, critics, and the adapter that shows their variables to TFP."""

from flowgan_tf.networks.adapter import KerasModule
from flowgan_tf.networks.dcgan import dcgan_critic, dcgan_generator
from flowgan_tf.networks.dense import dense_conditioner
from flowgan_tf.networks.normalization import NORMALIZATIONS, ScalarBatchNormalization
from flowgan_tf.networks.resnet import ResidualConditioner, WeightNormConv2D

__all__ = [
  'NORMALIZATIONS',
  'KerasModule',
  'ResidualConditioner',
  'ScalarBatchNormalization',
  'WeightNormConv2D',
  'dcgan_critic',
  'dcgan_generator',
  'dense_conditioner',
]
