"""Images and tables to train on: sources, splits, dequantisation and the training stream."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports

__all__ = [
  'CONDITIONS',
  'NAMES',
  'Batch',
  'Condition',
  'Dataset',
  'Split',
  'StoredImages',
  'dequantize',
  'dequantized_chunks',
  'hide_labels',
  'load',
  'make_condition',
  'training_batches',
  'write_folder',
]

if TYPE_CHECKING:
  from flowgan_tf.data.conditions import CONDITIONS, Condition, make_condition
  from flowgan_tf.data.dataset import Dataset
  from flowgan_tf.data.images import write_folder
  from flowgan_tf.data.labels import hide_labels
  from flowgan_tf.data.names import NAMES
  from flowgan_tf.data.pipeline import Batch, dequantize, dequantized_chunks, training_batches
  from flowgan_tf.data.sources import load
  from flowgan_tf.data.split import Split, StoredImages
else:
  _MODULES = {
    'arrays': [],
    'conditions': ['CONDITIONS', 'Condition', 'make_condition'],
    'dataset': ['Dataset'],
    'images': ['write_folder'],
    'labels': ['hide_labels'],
    'names': ['NAMES'],
    'pipeline': ['Batch', 'dequantize', 'dequantized_chunks', 'training_batches'],
    'sources': ['load'],
    'split': ['Split', 'StoredImages'],
    'tfds': [],
  }
  __getattr__, __dir__ = lazy_exports(__name__, _MODULES)
