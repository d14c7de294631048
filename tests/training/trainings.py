"""What trainings left in their folders, and trainings that fail where a test wants it."""

import numpy as np
import tensorflow as tf

from flowgan_tf.runs.log import read_metrics
from flowgan_tf.runs.run import load_run
from flowgan_tf.training import loop


def flow_weights(workdir, checkpoint):
  return [v.numpy() for v in load_run(workdir, checkpoint).generator.variables]


def checkpoint_of(workdir, name='latest'):
  """Every number of the newest checkpoint, by its key."""
  newest = max((workdir / 'checkpoints' / name).glob('*.index'), key=lambda f: int(f.stem.rpartition('-')[2]))
  reader = tf.train.load_checkpoint(str(newest.with_suffix('')))
  return {
    key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if key != '_CHECKPOINTABLE_OBJECT_GRAPH'
  }


def records_of(workdir):
  return [{k: v for k, v in r.items() if k != 'seconds'} for r in read_metrics(workdir)]


def assert_same_run(first, second):
  a, b = checkpoint_of(first), checkpoint_of(second)
  assert a.keys() == b.keys() and len(a) > 10
  for key, value in a.items():
    np.testing.assert_array_equal(value, b[key], err_msg=key)
  assert records_of(first) == records_of(second)


def break_at(monkeypatch, method, at):
  """Has a method of the loop fail at a step, which is its last argument."""
  original = getattr(loop._Loop, method)

  def broken(*args):
    if args[-1] == at:
      raise ZeroDivisionError
    return original(*args)

  monkeypatch.setattr(loop._Loop, method, broken)


def poison_after(step, variables, above=0.0):
  """A `make_step` whose function turns a weight to NaN at the end of a step, if the rate is above a factor."""
  original = loop.make_step

  def make(state, *args):
    train_step = original(state, *args)

    def poisoned(images, **kwargs):
      metrics = train_step(images, **kwargs)
      if int(state.step) == step and float(state.rate_factor) > above:
        first = getattr(state, variables).trainable_variables[0]
        first.assign(first * np.nan)
      return metrics

    return poisoned

  return make
