"""Runs: folders with the configuration, the checkpoints and the metrics of a training."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports
from flowgan_tf.runs.config import default_config
from flowgan_tf.runs.record import trust

__all__ = ['Run', 'default_config', 'load_data', 'load_pretrained', 'load_run', 'trust']

if TYPE_CHECKING:
  from flowgan_tf.runs.run import Run, load_data, load_pretrained, load_run
else:
  names = ['Run', 'load_data', 'load_pretrained', 'load_run']
  __getattr__, __dir__ = lazy_exports(__name__, {'checkpoints': [], 'folder': [], 'log': [], 'run': names})
