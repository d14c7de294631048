"""Training: one state, one step, one loop."""

from flowgan_tf.training.loop import TrainingDiverged, train

__all__ = ['TrainingDiverged', 'train']
