"""The SavedModel of this project, as a program calls it that does not have this project."""

from __future__ import annotations

import functools
import tempfile

import tensorflow as tf

import flowgan_tf
from benchmarks.peers import flowgan_peer, work

VARIANTS = flowgan_peer.VARIANTS


def versions() -> dict[str, str]:
  return {}


def supports(task: work.Task) -> bool:
  return task.is_single_pass


def prepare(task: work.Task, inputs: work.Inputs, dtype: str, variant: str) -> work.Prepared:
  build = getattr(flowgan_tf.flows, task.flow)
  flow = build(task.image_shape, **task.sizes, dtype=flowgan_peer.PRECISIONS[dtype])
  flowgan_peer.assign(flow, inputs)
  with tempfile.TemporaryDirectory() as folder:
    flowgan_tf.export.write_saved_model(flow, folder)
    model = tf.saved_model.load(folder)
  batch = tf.constant(inputs.images[: task.batch_size])

  def outputs():
    found = {'log_prob': model.log_prob(batch).numpy()}
    return found | ({'images': model.decode(inputs.noise).numpy()} if task.action == 'sample' else {})

  sample = functools.partial(model.sample, n=task.batch_size, seed=0)
  function = {'log_prob': functools.partial(model.log_prob, batch), 'sample': sample}[task.action]
  return work.Prepared(lambda: function().numpy(), outputs)
