"""A flow as a Keras model: `compile`, `fit`, `evaluate`, `save`, on the negative log-likelihood.

`keras.saving.load_model` knows the model once this module is imported.
"""

from flowgan_tf.keras.flow_model import FlowModel

__all__ = ['FlowModel']
