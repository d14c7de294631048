"""Runs: folders with the configuration, the checkpoints and the metrics of a training."""

from flowgan_tf.runs.config import default_config
from flowgan_tf.runs.run import Run, load_data, load_run

__all__ = ['Run', 'default_config', 'load_data', 'load_run']
