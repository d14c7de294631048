"""What leaves a run: a SavedModel, the weights as plain arrays, and a packed flow."""

from flowgan_tf.export.packing import pack
from flowgan_tf.export.saved_model import write_saved_model
from flowgan_tf.export.weights import named_weights

__all__ = ['named_weights', 'pack', 'write_saved_model']
