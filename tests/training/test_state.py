import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.run import make_generator
from tests.tiny import IMAGE_SHAPE, make_config, make_state


def weights(*parts):
  return [v.numpy() for part in parts for v in part.variables]


def test_initial_weights_follow_the_seed():
  first, same, other = (
    weights(state.generator, state.critic)
    for state in (make_state(make_config(objective='hybrid', seed=seed)) for seed in (3, 3, 4))
  )
  assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
  assert any(np.any(a != b) for a, b in zip(first, other, strict=True))


def test_a_training_needs_more_memory_than_its_generator(monkeypatch):
  config = make_config(objective='mle')
  count = sum(v.shape.num_elements() for v in make_generator(config, IMAGE_SHAPE).trainable_variables)
  sizes = {'SC_PAGE_SIZE': 1, 'SC_PHYS_PAGES': 16 * count - 1}
  monkeypatch.setattr('flowgan_tf.errors.os.sysconf', sizes.get)
  make_generator(config, IMAGE_SHAPE)
  with pytest.raises(UsageError, match=r'^weights, their average and the moments of Adam must fit into'):
    make_state(config)


def test_initial_average_is_the_flow():
  state = make_state(make_config(objective='hybrid'))
  assert state.ema is not state.generator
  assert all(np.array_equal(a, b) for a, b in zip(weights(state.generator), weights(state.ema), strict=True))


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
  moments = sum('momentum' in v.path for v in saved.optimizer.variables)
  assert moments == len(saved.generator.trainable_variables)


def test_the_configuration_reaches_the_flow():
  flow = make_generator(make_config({'nice.hidden_units': 5, 'nice.couplings': 3}), IMAGE_SHAPE)
  # Per coupling: layer norm and dense of 8 inputs, layer norm and dense of 5; then 16 scales.
  assert sum(int(tf.size(v)) for v in flow.trainable_variables) == 3 * (16 + 8 * 5 + 5 + 10 + 5 * 8 + 8) + 16
  flow = make_generator(
    make_config({'generator': 'real_nvp', 'real_nvp.channels': 2, 'real_nvp.blocks': 1}), IMAGE_SHAPE
  )
  assert flow.name == 'real_nvp'
  assert flow.event_shape == IMAGE_SHAPE


def test_images_that_real_nvp_cannot_halve_are_the_users_mistake():
  with pytest.raises(UsageError, match=r'`generator`.*divisible by 2.*7, 7, 1'):
    make_generator(make_config({'generator': 'real_nvp'}), (7, 7, 1))
