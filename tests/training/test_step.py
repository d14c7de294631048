import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import objectives
from flowgan_tf.training.state import TrainState, make_objective
from flowgan_tf.training.step import batches_per_step, make_train_step
from tests.training.tiny import IMAGE_SHAPE, make_config


@pytest.fixture
def eagerly():
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


def images_for(config, seed=0):
  count = batches_per_step(make_objective(config), config.critic_steps, config.reuse_batch) * config.batch_size
  return tf.constant(np.random.default_rng(seed).uniform(0.05, 0.95, (count, *IMAGE_SHAPE)), tf.float32)


def weights(*parts):
  return [v.numpy().copy() for part in parts for v in part.variables]


def assert_identical(first, second):
  assert len(first) == len(second) > 0
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)


def train(config, steps=1):
  """State and metrics after some steps."""
  state = TrainState(config, IMAGE_SHAPE)
  step = make_train_step(state, make_objective(config), config)
  metrics = [step(images_for(config, i)) for i in range(steps)]
  return state, [{k: float(v) for k, v in m.items()} for m in metrics]


@pytest.mark.parametrize(
  ('objective', 'weight', 'reuse', 'expected'),
  [
    ('mle', 0.1, False, 1),
    ('mle', 0.1, True, 1),
    ('adversarial', 0.1, False, 5),
    ('adversarial', 0.1, True, 1),
    ('hybrid', 0.1, False, 6),
    ('hybrid', 0.1, True, 1),
    ('hybrid', 0.0, False, 5),
  ],
)
def test_batches_per_step(objective, weight, reuse, expected):
  assert batches_per_step(objectives.make(objective, lambda_=weight), 5, reuse) == expected


@pytest.mark.parametrize('jit', [False, True])
def test_hybrid_with_lambda_zero_is_adversarial(jit):
  runs = []
  for objective in ('hybrid', 'adversarial'):
    state, _ = train(make_config({'lambda': 0.0}, objective=objective, jit=jit), 3)
    runs.append(weights(state.flow, state.ema, state.critic, state.optimizer, state.critic_optimizer))
  # Keras variables, as those of the optimizers, have no .numpy of an EagerTensor in common: compare as arrays.
  assert_identical(*runs)
