"""Training: one state, one step, one loop; and the run that comes of it."""

from flowgan_tf.training.config import default_config
from flowgan_tf.training.evaluation import evaluate_run
from flowgan_tf.training.loop import TrainingDiverged, train
from flowgan_tf.training.runs import Run, load_run

__all__ = ['Run', 'TrainingDiverged', 'default_config', 'evaluate_run', 'load_run', 'train']
