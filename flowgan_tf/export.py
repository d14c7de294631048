"""SavedModel of a flow: sample, log_prob, encode and decode, without this package."""

from __future__ import annotations

import os

import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.flows import Flow

__all__ = ['FlowModule', 'export']


class FlowModule(tf.Module):
  """What a SavedModel of a flow offers.

  ```python
  model = tf.saved_model.load('runs/demo/export')      # flowgan_tf need not be installed
  images = model.sample(n=16, seed=0, temperature=1.0) # [16, height, width, channels]
  nats = model.log_prob(images)                        # [16]
  noise = model.encode(images)
  images = model.decode(noise)
  ```
  """

  def __init__(self, flow: Flow):
    """Traces the four functions of `flow`; its weights are shared, not copied."""
    super().__init__(name='flow')
    # The variables alone are tracked: the flow's own objects mean nothing to a process without this package.
    self.weights = list(flow.variables)
    batch = tf.TensorSpec((None, *flow.event_shape), flow.dtype)

    @tf.function(
      input_signature=[
        tf.TensorSpec((), tf.int32, 'n'),
        tf.TensorSpec((), tf.int32, 'seed'),
        tf.TensorSpec((), flow.dtype, 'temperature'),
      ]
    )
    def sample(n, seed=0, temperature=1.0):
      return flow.decode(temperature * flow.distribution.sample(n, seed=tf.stack([seed, 0])))

    self.sample = sample
    self.log_prob = tf.function(lambda images: flow.log_prob(images), input_signature=[batch])
    self.encode = tf.function(lambda images: flow.encode(images), input_signature=[batch])
    self.decode = tf.function(lambda noise: flow.decode(noise), input_signature=[batch])


def export(flow: Flow, folder: str | os.PathLike) -> None:
  """Writes a SavedModel of `flow`, with a signature of each function for TensorFlow Serving.

  Args:
    flow: The flow.
    folder: Where to write; an older SavedModel there is replaced.

  Raises:
    UsageError: If the folder cannot be written.
  """
  module = FlowModule(flow)
  signatures = {
    name: getattr(module, name).get_concrete_function() for name in ('sample', 'log_prob', 'encode', 'decode')
  }
  try:
    tf.saved_model.save(module, os.fspath(folder), signatures=signatures)
  except (OSError, tf.errors.OpError) as error:
    raise UsageError(f'{folder}: the SavedModel cannot be written ({str(error).splitlines()[0]})') from error
