import numpy as np
import pytest
import tensorflow_probability as tfp

from flowgan_tf.estimators.tempering import tempered_log_prob
from flowgan_tf.flows import nice

tfd = tfp.distributions


@pytest.mark.parametrize('t', [0.5, 1.0, 1.7])
def test_the_flow_at_a_temperature_is_that_with_a_scaled_prior(t):
  flow = nice((4, 4, 1), couplings=2, hidden_units=8, hidden_layers=1, initial_weights='paper')
  images = np.random.default_rng(0).uniform(0.05, 0.95, (20, 4, 4, 1)).astype(np.float32)
  expected = flow.copy(distribution=tfd.Sample(tfd.Logistic(0.0, t), flow.event_shape)).log_prob(images)
  found = tempered_log_prob(flow, images, [0.3, t])
  np.testing.assert_allclose(found[:, 1], expected, rtol=1e-5, atol=1e-3)
  assert not np.allclose(found[:, 0], expected, atol=1.0)
