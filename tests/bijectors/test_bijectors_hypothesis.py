"""40 cases of couplings, scalings and batch norms: any shape and batch, both dtypes, and many orders of magnitude."""

import math

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from flowgan_tf import bijectors
from tests.bijectors.test_bijectors_all import log_det_by_autodiff
from tests.bijectors.test_masks import any_mask

SIDES = st.integers(1, 3)
SHAPES = st.lists(SIDES, min_size=1, max_size=3).map(tuple)


class Conditioner(tf.Module):
  """A bounded function of any shapes. Keras would take minutes to build that many layers."""

  def __init__(self, mask, outputs_per_entry, dtype, rng):
    super().__init__()
    self.mask, self.outputs_per_entry = mask, outputs_per_entry
    sizes = math.prod(mask.kept_shape), outputs_per_entry * math.prod(mask.changed_shape)
    self.weights = tf.Variable(rng.normal(size=sizes), dtype=dtype)

  def __call__(self, x, training=False):
    *front, channels = self.mask.changed_shape
    batch_shape = x.shape[: x.shape.rank - len(self.mask.kept_shape)]
    flat = tf.reshape(x, (-1, self.weights.shape[0]))
    output = tf.tanh(tf.tanh(flat) @ tf.cast(self.weights, x.dtype))
    return tf.reshape(output, (*batch_shape, *front, self.outputs_per_entry * channels))


def coupling(kind, outputs_per_entry, mask, dtype, rng):
  return kind(Conditioner(mask, outputs_per_entry, dtype, rng), mask)


def additive(draw, dtype, rng):
  mask, *_ = draw(any_mask())
  return coupling(bijectors.AdditiveCoupling, 1, mask, dtype, rng), mask.event_shape


def affine(draw, dtype, rng):
  mask, *_ = draw(any_mask())
  bijector = coupling(bijectors.AffineCoupling, 2, mask, dtype, rng)
  for variable in bijector.variables:
    variable.assign_add(rng.normal(0.0, 0.5, variable.shape))
  return bijector, mask.event_shape


def batch_normalization(draw, dtype, rng):
  shape = draw(SHAPES)
  bijector = bijectors.BatchNormalization(shape, epsilon=draw(st.sampled_from([0.0, 1e-5, 0.1])), dtype=dtype)
  mean, variance = sorted(bijector.variables, key=lambda variable: variable.name)
  mean.assign(rng.normal(size=shape[-1:]))
  variance.assign(rng.uniform(0.2, 2.0, shape[-1:]))
  return bijector, shape


def scaling(draw, dtype, rng):
  shape = draw(st.one_of(st.just(()), SHAPES))
  bijector = bijectors.DiagonalScaling(shape, log_scale_bound=draw(st.sampled_from([0.5, 10.0])), dtype=dtype)
  bijector.trainable_variables[0].assign(rng.normal(size=shape))
  return bijector, shape


BUILD = {
  'AdditiveCoupling': additive,
  'AffineCoupling': affine,
  'BatchNormalization': batch_normalization,
  'DiagonalScaling': scaling,
}


def values_of(shape, rng):
  """Values over 60 orders of magnitude, or of order 1."""
  magnitude = 10.0 ** (rng.uniform(-30, 30, shape) if rng.uniform() < 0.5 else rng.uniform(-2, 2, shape))
  return magnitude * rng.choice([-1.0, 0.0, 1.0], shape, p=[0.45, 0.1, 0.45])


@pytest.mark.parametrize('name', BUILD)
@hypothesis.settings(deadline=None, max_examples=40, derandomize=True, database=None)
@hypothesis.given(data=st.data())
def test_bijective_and_finite(name, data):
  dtype, seed = data.draw(st.sampled_from(['float32', 'float64'])), data.draw(st.integers(0, 2**32 - 1))
  rng, epsilon = np.random.default_rng(seed), np.finfo(dtype).eps
  bijector, event_shape = BUILD[name](data.draw, dtype, rng)
  batch_shape = data.draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
  x = tf.constant(values_of((*batch_shape, *event_shape), rng), dtype)

  # tf.identity, or TFP's cache would answer with what it was given.
  y = bijector.forward(x)
  again = bijector.inverse(tf.identity(y))
  log_det = bijector.forward_log_det_jacobian(tf.identity(x), event_ndims=len(event_shape))
  back = bijector.inverse_log_det_jacobian(tf.identity(y), event_ndims=len(event_shape))
  for values in (y, again, log_det, back):
    assert values.dtype == dtype and np.all(np.isfinite(values))
  assert again.shape == x.shape and log_det.shape in ((), batch_shape)
  # Shifts are of order 1, and an affine coupling divides them by a scale of at least exp(-2).
  np.testing.assert_allclose(again, x, rtol=50 * epsilon, atol=50 * epsilon)
  size = max(1, math.prod(event_shape))
  np.testing.assert_allclose(back, -log_det, rtol=50 * epsilon, atol=50 * size * epsilon)

  if rng.uniform() < 0.7:
    return
  # The determinant itself, in float64 and where automatic differentiation is exact. It takes longer than all the rest.
  events = tf.constant(rng.uniform(0.1, 0.9, (2, *event_shape)))
  actual = bijector.forward_log_det_jacobian(tf.identity(events), event_ndims=len(event_shape))
  np.testing.assert_allclose(np.broadcast_to(actual, 2), log_det_by_autodiff(bijector.forward, events), atol=1e-9)
