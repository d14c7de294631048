"""The fused Adam against Keras' own."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.training.optimizers import FusedAdam, Warmup


@pytest.mark.parametrize('jit', [False, True])
def test_same_updates_as_keras_adam(jit):
  schedule = keras.optimizers.schedules.ExponentialDecay(0.05, 1, 0.9)
  results = []
  for optimizer in (FusedAdam(schedule, 0.5, 0.9), keras.optimizers.Adam(schedule, 0.5, 0.9)):
    variables = [tf.Variable([[1.0, -2.0], [3.0, 0.5]]), tf.Variable(0.25)]
    optimizer.build(variables)

    @tf.function(jit_compile=jit)
    def step(gradients, optimizer=optimizer, variables=variables):
      optimizer.apply(gradients, variables)

    for i in range(6):
      step([tf.random.stateless_normal((2, 2), (i, 1)), tf.random.stateless_normal((), (i, 2))])
    results.append([v.numpy() for v in variables] + [v.numpy() for v in optimizer.variables])
  for fused, plain in zip(*results, strict=True):
    np.testing.assert_allclose(fused, plain, rtol=1e-6, atol=1e-7)
  assert not np.allclose(results[0][0], [[1.0, -2.0], [3.0, 0.5]])


@pytest.mark.parametrize('rate', [0.8, keras.optimizers.schedules.CosineDecay(0.8, 8)])
def test_warmup_rises_to_the_rate(rate):
  warmup = Warmup(rate, 4)
  expected = [0.8 if isinstance(rate, float) else 0.4 * (1 + math.cos(math.pi * t / 8)) for t in range(8)]
  for t, value in enumerate(expected):
    assert float(warmup(tf.constant(t, tf.int64))) == pytest.approx(value * min(1, (t + 1) / 4), rel=1e-5)
  assert warmup.get_config() == {'rate': rate, 'steps': 4}


@pytest.mark.parametrize('schedule', [0.05, keras.optimizers.schedules.ExponentialDecay(0.05, 1, 0.9)])
def test_the_rate_has_a_factor_that_may_change_between_steps(schedule):
  """The first update of Adam has the size of the rate, whatever the gradient."""
  optimizer, variable = FusedAdam(schedule, 0.0, 0.0), tf.Variable(1.0)
  optimizer.rate_factor = tf.Variable(0.25)
  optimizer.build([variable])
  names = [v.name for v in optimizer.variables]
  step = tf.function(lambda: optimizer.apply([tf.constant(3.0)], [variable]))
  step()
  assert float(variable) == pytest.approx(1 - 0.25 * 0.05, abs=1e-6)
  optimizer.rate_factor.assign(0.0)
  step()
  assert float(variable) == pytest.approx(1 - 0.25 * 0.05, abs=1e-6)
  assert [v.name for v in optimizer.variables] == names  # Older checkpoints have no factor.
