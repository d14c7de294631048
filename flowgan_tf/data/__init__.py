"""Images to train on: sources, splits, dequantisation and the training stream."""

from flowgan_tf.data.arrays import StoredImages
from flowgan_tf.data.dataset import Dataset, Split
from flowgan_tf.data.images import write_folder
from flowgan_tf.data.pipeline import dequantize, dequantized_chunks, training_batches
from flowgan_tf.data.sources import NAMES, load

__all__ = [
  'NAMES',
  'Dataset',
  'Split',
  'StoredImages',
  'dequantize',
  'dequantized_chunks',
  'load',
  'training_batches',
  'write_folder',
]
