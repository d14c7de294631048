"""What shares a batch: the cores of a CPU, and several devices or machines."""

from flowgan_tf.devices.cores import compute_parts, count_parts, in_parts
from flowgan_tf.devices.replicas import Replicas, draw, gather, make_replicas, mean, share

__all__ = ['Replicas', 'compute_parts', 'count_parts', 'draw', 'gather', 'in_parts', 'make_replicas', 'mean', 'share']
