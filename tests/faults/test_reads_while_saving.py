"""A program reads a checkpoint while a training replaces it."""

import threading

import numpy as np

from flowgan_tf.runs.checkpoints import Checkpoints, restore_generator
from flowgan_tf.runs.run import make_generator
from tests.tiny import IMAGE_SHAPE, make_config, make_state


def test_a_checkpoint_that_is_being_replaced_is_read_whole(tmp_path, faults):
  config = make_config(objective='mle')
  state, flow, ended = make_state(config), make_generator(config, IMAGE_SHAPE), threading.Event()
  checkpoints = Checkpoints(tmp_path, state.checkpoint())

  def save():
    """Saves a step whose weights are all its number."""
    state.step.assign_add(1)
    for variable in state.ema.variables:
      variable.assign(np.full(variable.shape, int(state.step)))
    checkpoints.save('best_nll')

  def train():
    while not ended.is_set():
      save()

  save()
  training = threading.Thread(target=train)
  training.start()
  try:
    for _ in faults.trials('reads of best_nll while a training replaces it', long=1000, short=10):
      step = restore_generator(tmp_path, 'best_nll', flow)
      for variable in flow.variables:
        np.testing.assert_array_equal(variable.numpy(), np.full(variable.shape, step))
  finally:
    ended.set()
    training.join()
