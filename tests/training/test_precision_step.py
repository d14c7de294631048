"""Steps in mixed precision, beyond the case of NICE in test_step.py."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.networks import KerasModule, dcgan_critic
from flowgan_tf.objectives.penalties import gradient_penalty
from flowgan_tf.runs.run import make_objective
from flowgan_tf.training.step import TrainStep
from tests.tiny import make_config, make_state
from tests.training.test_step import assert_identical, images_for, weights

REAL_NVP = {
  'generator': 'real_nvp',
  'real_nvp.scales': 1,
  'real_nvp.channels': 4,
  'real_nvp.blocks': 0,
  'real_nvp.normalization': 'batch',
  'real_nvp.batch_norm_between': True,
  'real_nvp.prior': 'normal',
}


@pytest.fixture(autouse=True)
def eagerly():
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


def snapshot(part):
  return [v.numpy() for v in part.trainable_variables]


def test_real_nvp_recovers_from_overflow_by_itself():
  """Each overflow halves the scale, until a step succeeds; nothing but batch statistics moves before."""
  config = make_config(REAL_NVP, objective='hybrid', precision='mixed_float16')
  state = make_state(config)
  step = TrainStep(state, make_objective(config), config)
  optimizers = state.optimizer, state.critic_optimizer
  for optimizer in optimizers:
    optimizer.dynamic_scale.assign(2.0**100)
  before = [snapshot(part) for part in (state.generator, state.critic)]
  metrics = step(images_for(config))
  assert {m.dtype for m in metrics.values()} == {tf.float32}
  assert math.isfinite(float(metrics['loss'])) and not math.isfinite(float(metrics['gradient_norm']))
  for part, values in zip((state.generator, state.critic), before, strict=True):
    assert_identical(values, snapshot(part))
  assert [float(o.dynamic_scale) for o in optimizers] == [2.0**99, 2.0**98]

  for optimizer in optimizers:
    optimizer.dynamic_scale.assign(2.0**20)  # Not far from what works, to spare the time of eighty steps.
  for i in range(10):
    metrics = step(images_for(config, i + 1))
  assert math.isfinite(float(metrics['gradient_norm']))
  for part, values in zip((state.generator, state.critic), before, strict=True):
    assert any(np.any(a != b) for a, b in zip(values, snapshot(part), strict=True))
  assert all(1 < float(o.dynamic_scale) < 2.0**20 for o in optimizers)
  assert all(np.all(np.isfinite(w)) for w in weights(state.generator, state.critic, state.ema))


@pytest.mark.parametrize('precision', ['mixed_float16', 'mixed_bfloat16'])
def test_gradient_penalty_is_that_of_single_precision(precision):
  keras.utils.set_random_seed(1)
  shape = (16, 16, 3)
  half, single = (
    KerasModule(dcgan_critic(shape, channels=(8, 16, 32), dense_units=16, layer_norm=True, dtype=dtype), shape)
    for dtype in (precision, 'float32')
  )
  for a, b in zip(half.variables, single.variables, strict=True):
    a.assign(b)
  rng = np.random.default_rng(0)
  real, fake = (tf.constant(rng.uniform(size=(32, *shape)), tf.float32) for _ in range(2))
  expected, penalty = (gradient_penalty(critic, real, fake, (0, 1)) for critic in (single, half))
  assert penalty.dtype == tf.float32 and penalty != expected
  assert float(penalty) == pytest.approx(float(expected), rel=0.02)
