"""What the tests of checkpoints share."""

import numpy as np

from tests.tiny import make_config

CONFIG = make_config(objective='hybrid')


def fill(state, value):
  for variable in (*state.generator.variables, *state.ema.variables, *state.critic.variables):
    variable.assign(np.full(variable.shape, value, np.float32))
  state.step.assign(int(value))


def assert_all(variables, value):
  for variable in variables:
    np.testing.assert_array_equal(variable.numpy(), np.full(variable.shape, value))


def cut(path):
  path.write_bytes(path.read_bytes()[:-100])
