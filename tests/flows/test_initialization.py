"""Bijectors that take their first values from data, wherever they are in a flow."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import flowgan_tf as fg
from flowgan_tf.base.errors import UsageError
from flowgan_tf.flows.initialization import InitialData

tfb, tfd = tfp.bijectors, tfp.distributions


class Recording(tfb.Bijector):
  """y = x, and keeps what it is fitted to."""

  def __init__(self, name, fit_images=None):
    parameters = dict(locals())
    self.seen = []
    self.shift = tf.Variable(0.0)
    if fit_images is not None:
      self.fit_images = fit_images
    super().__init__(forward_min_event_ndims=0, parameters=parameters, name=name)

  def fit(self, values, inverse):
    self.seen.append((values.numpy(), inverse))
    self.shift.assign(tf.reduce_mean(values))

  def _forward(self, x):
    return x + self.shift

  def _inverse(self, y):
    return y - self.shift

  def _forward_log_det_jacobian(self, x):
    return tf.zeros_like(x)


class Images(InitialData):
  """Random images, without labels."""

  seed, labels = 0, None

  def __init__(self, images):
    self.images, self.asked = images, []

  def trained(self, n=None):
    self.asked.append(n)
    return self.images[:n], None

  def sample(self, n, of_class=0):
    raise NotImplementedError


@pytest.mark.parametrize('inverted', [False, True])
def test_each_bijector_sees_the_data_as_the_fitted_ones_before_it_leave_them(inverted):
  images = np.random.default_rng(0).normal(5.0, 1.0, (60, 3)).astype(np.float32)
  near, far = Recording('near'), Recording('far', fit_images=2000)
  chain = tfb.Chain([tfb.Scale(2.0), near, tfb.Scale(0.5), far])
  if inverted:  # The same map from noise to data.
    chain = tfb.Invert(tfb.Chain([tfb.Invert(part) for part in reversed(chain.bijectors)]))
  flow = fg.flows.Flow(tfd.Sample(tfd.Normal(0.0, 1.0), 3), chain)
  start = Images(images)
  flow.initialize(start)
  [(seen_near, inverse)], [(seen_far, _)] = near.seen, far.seen
  assert inverse and start.asked == [2000]
  np.testing.assert_allclose(seen_near, images / 2, rtol=1e-6)
  np.testing.assert_allclose(seen_far, images - images.mean(), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(flow.encode(images), images - 2 * near.shift - far.shift, rtol=1e-4, atol=1e-4)


def test_a_flow_without_such_bijectors_asks_for_no_data():
  start = Images(None)
  flow = fg.flows.Flow(tfd.Sample(tfd.Normal(0.0, 1.0), 3), tfb.Shift(tf.Variable(0.0)))
  flow.initialize(start)
  assert start.asked == []


def test_what_a_hand_made_flow_starts_comes_first():
  calls = []
  part = Recording('part')
  flow = fg.flows.Flow(
    tfd.Sample(tfd.Normal(0.0, 1.0), 3), part, initialize=lambda flow, data: calls.append(len(part.seen))
  )
  flow.initialize(Images(np.ones((4, 3), np.float32)))
  assert calls == [0] and len(part.seen) == 1
  flow.initialize(Images(np.ones((4, 3), np.float32)), new=False)
  assert calls == [0] and len(part.seen) == 1


def test_bijectors_are_fitted_without_a_training():
  images = np.random.default_rng(0).normal(5.0, 1.0, (60, 3))  # float64, which the methods of a flow take, too
  part = Recording('part', fit_images=40)
  flow = fg.flows.Flow(tfd.Sample(tfd.Normal(0.0, 1.0), 3), part)
  fg.flows.fit_bijectors(flow, images)
  assert part.shift.numpy() == pytest.approx(images[:40].mean())
  with pytest.raises(UsageError, match=r'^`images` must be floats of shape \[n, 3\]'):
    fg.flows.fit_bijectors(flow, images[:, :2])


def test_a_flow_without_classes_leaves_labels_alone():
  images = Images(np.random.default_rng(0).uniform(size=(10, 2, 2, 1)).astype(np.float32))
  images.labels = np.zeros(10, np.int64)
  flow = fg.flows.nice((2, 2, 1), couplings=2, hidden_units=4, hidden_layers=1)
  before = flow.log_prob(images.images)
  flow.initialize(images)
  np.testing.assert_array_equal(flow.log_prob(images.images), before)
