"""A flow as a Keras model. `keras.saving.load_model` knows it once this package is imported."""

from flowgan_tf.keras.model import FlowModel

__all__ = ['FlowModel']
