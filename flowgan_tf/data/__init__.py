"""Images to train on: sources, splits, dequantisation and the training stream."""

from flowgan_tf.data.dataset import Dataset, Split
from flowgan_tf.data.pipeline import dequantize, training_batches
from flowgan_tf.data.sources import NAMES, load

__all__ = ['NAMES', 'Dataset', 'Split', 'dequantize', 'load', 'training_batches']
