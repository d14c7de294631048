"""What shares a batch: the cores of a CPU, and several devices or machines."""

from typing import TYPE_CHECKING

from flowgan_tf.base.lazy import lazy_exports

__all__ = ['Replicas', 'compute_parts', 'count_parts', 'draw', 'gather', 'in_parts', 'make_replicas', 'mean', 'share']

if TYPE_CHECKING:
  from flowgan_tf.devices.cores import compute_parts, count_parts, in_parts
  from flowgan_tf.devices.replicas import Replicas, draw, gather, make_replicas, mean, share
else:
  _MODULES = {
    'cores': ['compute_parts', 'count_parts', 'in_parts'],
    'replicas': ['Replicas', 'draw', 'gather', 'make_replicas', 'mean', 'share'],
  }
  __getattr__, __dir__ = lazy_exports(__name__, _MODULES)
