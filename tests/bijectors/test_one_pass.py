import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.bijectors import AffineCoupling, BatchNormalization, masks
from flowgan_tf.bijectors.one_pass import clear_caches

tfb, tfd = tfp.bijectors, tfp.distributions


class Counting(tf.Module):
  """A conditioner that counts its calls."""

  def __init__(self):
    super().__init__()
    self.weight = tf.Variable(tf.random.stateless_normal((2, 4), seed=(0, 0)))
    self.calls = 0

  def __call__(self, x, training=False):
    self.calls += 1
    return tf.sin(x @ self.weight)


def distribution(couplings):
  conditioners = [Counting() for _ in range(couplings)]
  chain = tfb.Chain(
    [
      AffineCoupling(conditioner, masks.even_odd(4, swap=i % 2 == 1), name=f'coupling_{i}')
      for i, conditioner in enumerate(conditioners)
    ]
  )
  return tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), 4), chain), conditioners


@pytest.mark.parametrize('graph', [False, True])
@pytest.mark.parametrize(
  'call',
  [
    lambda d: d.log_prob(tf.ones((5, 4))),
    lambda d: d.sample(5, seed=(0, 1)),
    lambda d: d.experimental_sample_and_log_prob(5, seed=(0, 1)),
  ],
  ids=['log_prob', 'sample', 'sample_and_log_prob'],
)
def test_value_and_log_det_take_one_pass_of_each_network(call, graph):
  flow, conditioners = distribution(3)
  if graph:
    tf.function(lambda: call(flow)).get_concrete_function()
  else:
    call(flow)
  assert [conditioner.calls for conditioner in conditioners] == [1, 1, 1]


def test_the_log_det_can_be_asked_for_first():
  flow, conditioners = distribution(1)
  coupling = flow.bijector
  x = tf.random.stateless_normal((5, 4), seed=(1, 0))
  alone = coupling.forward_log_det_jacobian(x, event_ndims=1)
  assert conditioners[0].calls == 1
  y = coupling.forward(tf.identity(x))
  np.testing.assert_allclose(-coupling.inverse_log_det_jacobian(tf.identity(y), event_ndims=1), alone, rtol=1e-5)


def test_a_change_of_weights_is_seen_by_the_next_call_with_the_same_tensor():
  flow, conditioners = distribution(2)
  x = tf.random.stateless_normal((5, 4), seed=(1, 0))
  before = flow.log_prob(x)
  for conditioner in conditioners:
    conditioner.weight.assign(0.5 * conditioner.weight)
  after = flow.log_prob(x)
  assert np.abs(after - before).max() > 1e-2
  np.testing.assert_array_equal(after, flow.log_prob(tf.identity(x)))


def test_bijectors_with_equal_arguments_do_not_share_a_cache_entry():
  # TFP would consider them equal, although each has its own variables.
  conditioner, mask = Counting(), masks.even_odd(4)
  for first, second in (
    [AffineCoupling(conditioner, mask) for _ in range(2)],
    [BatchNormalization((4,)) for _ in range(2)],
  ):
    for variable in second.variables:
      if variable is not conditioner.weight:
        variable.assign(variable + 1.0)
    x = tf.random.stateless_normal((5, 4), seed=(1, 0))
    y = first.forward(x)
    assert np.abs(second.forward(x) - y).max() > 0.1
    assert first != second


def test_cleared_caches_let_go_of_graphs_and_flows():
  """Otherwise TFP's caches keep both alive, as the first assertion shows."""

  def traced():
    flow, _ = distribution(2)
    concrete = tf.function(flow.log_prob).get_concrete_function(tf.TensorSpec((5, 4)))
    return weakref.ref(concrete.graph), weakref.ref(flow.bijector)

  references = traced()
  gc.collect()
  assert all(reference() is not None for reference in references)
  clear_caches()
  gc.collect()
  assert all(reference() is None for reference in references)


def test_a_cleared_cache_costs_another_pass_and_nothing_else():
  flow, [conditioner] = distribution(1)
  x = tf.random.stateless_normal((5, 4), seed=(1, 0))
  y = flow.bijector.forward(x)
  log_det = flow.bijector.forward_log_det_jacobian(x, event_ndims=1)
  assert conditioner.calls == 1
  clear_caches()
  np.testing.assert_array_equal(flow.bijector.forward_log_det_jacobian(x, event_ndims=1), log_det)
  np.testing.assert_array_equal(flow.bijector.forward(x), y)
  assert conditioner.calls > 1
