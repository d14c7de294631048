"""What a state holds, and the optimizers in it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.runs.run import make_generator
from flowgan_tf.training.optimizers import FusedAdam
from tests.tiny import IMAGE_SHAPE, make_config, make_state
from tests.training.trainings import weights


def test_initial_weights_follow_the_seed_and_the_average_is_the_flow():
  states = [make_state(make_config(objective='hybrid', seed=seed)) for seed in (3, 3, 4)]
  first, same, other = (weights(state.generator, state.critic) for state in states)
  assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
  assert any(np.any(a != b) for a, b in zip(first, other, strict=True))
  generator, ema = states[0].generator, states[0].ema
  assert ema is not generator
  assert all(np.array_equal(a, b) for a, b in zip(weights(generator), weights(ema), strict=True))


def test_a_training_needs_more_memory_than_its_generator(monkeypatch):
  config = make_config(objective='mle')
  count = sum(v.shape.num_elements() for v in make_generator(config, IMAGE_SHAPE).trainable_variables)
  sizes = {'SC_PAGE_SIZE': 1, 'SC_PHYS_PAGES': 16 * count - 1}
  monkeypatch.setattr('flowgan_tf.base.errors.os.sysconf', sizes.get)
  make_generator(config, IMAGE_SHAPE)
  with pytest.raises(UsageError, match=r'^weights, their average and the moments of Adam must fit into'):
    make_state(config)


@pytest.mark.parametrize('precision', ['float32', 'mixed_float16'])
def test_checkpoint_holds_every_variable(precision, tmp_path):
  """Whatever is written into the state comes back into another one: nothing is left out."""
  config = make_config({'nice.normalization': 'batch'}, objective='hybrid', precision=precision)
  saved, restored = make_state(config), make_state(config)

  def variables(state):
    parts = (state.generator, state.ema, state.critic, state.optimizer, state.critic_optimizer)
    found = [v.value if isinstance(v, keras.Variable) else v for part in parts for v in part.variables]
    return [*found, state.step, state.best_nll, state.best_score]

  def values(state):
    return [tf.cast(tf.fill(v.shape, i + 2), v.dtype) for i, v in enumerate(variables(state))]

  for variable, value in zip(variables(saved), values(saved), strict=True):
    variable.assign(value)
  saved.checkpoint().write(str(tmp_path / 'state'))
  restored.checkpoint().read(str(tmp_path / 'state')).assert_consumed()
  for variable, value in zip(variables(restored), values(restored), strict=True):
    np.testing.assert_array_equal(variable.numpy(), value.numpy(), err_msg=variable.name)
  for optimizer, part in ((saved.optimizer, saved.generator), (saved.critic_optimizer, saved.critic)):
    assert sum('momentum' in v.path for v in optimizer.variables) == len(part.trainable_variables) > 0


def test_same_updates_as_keras_adam():
  schedule = keras.optimizers.schedules.ExponentialDecay(0.05, 1, 0.9)
  results = []
  for optimizer in (FusedAdam(schedule, 0.5, 0.9), keras.optimizers.Adam(schedule, 0.5, 0.9)):
    variables = [tf.Variable([[1.0, -2.0], [3.0, 0.5]]), tf.Variable(0.25)]
    optimizer.build(variables)

    @tf.function(jit_compile=True)
    def step(gradients, optimizer=optimizer, variables=variables):
      optimizer.apply(gradients, variables)

    for i in range(4):
      step([tf.random.stateless_normal((2, 2), (i, 1)), tf.random.stateless_normal((), (i, 2))])
    results.append([v.numpy() for v in variables] + [v.numpy() for v in optimizer.variables])
  for fused, plain in zip(*results, strict=True):
    np.testing.assert_allclose(fused, plain, rtol=1e-6, atol=1e-7)
  assert not np.allclose(results[0][0], [[1.0, -2.0], [3.0, 0.5]])


def test_the_rate_has_a_factor_that_may_change_between_steps():
  """The first update of Adam has the size of the rate, whatever the gradient."""
  optimizer, variable = FusedAdam(0.05, 0.0, 0.0), tf.Variable(1.0)
  optimizer.rate_factor = tf.Variable(0.25)
  optimizer.build([variable])
  step = tf.function(lambda: optimizer.apply([tf.constant(3.0)], [variable]))
  for factor in (0.25, 0.0):
    optimizer.rate_factor.assign(factor)
    step()
    assert float(variable) == pytest.approx(1 - 0.25 * 0.05, abs=1e-6)
  assert len(optimizer.variables) == 4  # Older checkpoints have no factor.
