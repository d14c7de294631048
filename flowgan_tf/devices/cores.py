"""Parts of a batch, each computed on one core of the CPU.

TensorFlow divides each operation among the cores and waits for the slowest. Small operations gain little from this, and
most operations of Jet and Real-NVP are small. They gain more if each core computes a part of the batch by itself.
`docs/speed.md` has the numbers. Parts change nothing but rounding.
"""

import os
from collections.abc import Callable

import tensorflow as tf

__all__ = ['compute_parts', 'count_parts', 'in_parts']

# More cores would make parts of a few images. There, TensorFlow's own way may be better; we could not measure it.
_MOST = 8


def compute_parts() -> None:
  """Makes TensorFlow compute each operation on one core, and as many operations at once as there are cores.

  It has an effect only before the first operation of a process, on a CPU with 2 to 8 cores and without a GPU.
  """
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  if not 1 < cores <= _MOST or tf.config.list_physical_devices('GPU'):
    return
  try:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
  except RuntimeError:  # TensorFlow has begun.
    pass


def count_parts() -> int:
  """Returns the number of parts of a batch, which is 1 if operations themselves use several cores."""
  threads = tf.config.threading
  # 0 operations at once means as many as TensorFlow likes.
  return max(1, threads.get_inter_op_parallelism_threads()) if threads.get_intra_op_parallelism_threads() == 1 else 1


def in_parts(function: Callable) -> Callable:
  """Returns a function that computes `count_parts()` parts of a batch at once, in a graph; the function if that is 1.

  It takes tensors `[n, ...]` of known length, of which some may be None, and returns a structure of tensors `[n, ...]`,
  each entry by itself.
  """
  parts = count_parts()
  if parts == 1:
    return function
  of_part = tf.function(function, autograph=False)  # One graph, which is traced once if the parts are equally long.

  def divided(*batch):
    n = batch[0].shape[0]
    sizes = [n // parts + (i < n % parts) for i in range(parts)] if n >= parts else [n]

    def split(tensor):
      return [None] * len(sizes) if tensor is None else tf.split(tensor, sizes)

    results = [of_part(*part) for part in zip(*(split(tensor) for tensor in batch), strict=True)]
    return tf.nest.map_structure(lambda *pieces: tf.concat(pieces, axis=0), *results)

  return tf.function(divided, autograph=False)
