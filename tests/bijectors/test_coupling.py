import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.bijectors import AdditiveCoupling, AffineCoupling, masks


class Affine(tf.Module):
  """A conditioner whose output is known in advance: `weight * sum of the kept part`, for shift and `h`."""

  def __init__(self, weights, dtype='float64'):
    super().__init__()
    self.weights = tf.Variable(weights, dtype=dtype)

  def __call__(self, x, training=False):
    return tf.cast(tf.reduce_sum(x, axis=-1, keepdims=True), self.weights.dtype) * self.weights


def test_additive_by_hand():
  coupling = AdditiveCoupling(Affine([1.0, -2.0]), masks.even_odd(4))
  assert not coupling.is_constant_jacobian  # TFP would take `forward(mean)` for the mean of a distribution.
  x = np.array([[1.0, 10.0, 2.0, 20.0], [0.5, 0.0, 0.5, 0.0]])
  np.testing.assert_allclose(coupling.forward(tf.constant(x)), [[1, 13, 2, 14], [0.5, 1, 0.5, -2]])
  assert coupling.forward_log_det_jacobian(tf.constant(x), event_ndims=1) == 0.0


def test_affine_by_hand():
  # Two changed entries: shifts first, then h.
  coupling = AffineCoupling(Affine([1.0, -2.0, 0.3, 0.1]), masks.even_odd(4), log_scale_bound=0.7)
  scale, offset = (v for name in ('scale', 'offset') for v in coupling.variables if v.name.endswith(f'{name}:0'))
  scale.assign(1.5)
  offset.assign(-0.25)
  x = np.array([[1.0, 10.0, 2.0, 20.0]])
  s = 0.7 * np.tanh((1.5 * np.tanh(3 * np.array([0.3, 0.1])) - 0.25) / 0.7)
  np.testing.assert_allclose(
    coupling.forward(tf.constant(x)), [[1, 10 * np.exp(s[0]) + 3, 2, 20 * np.exp(s[1]) - 6]], rtol=1e-12
  )
  np.testing.assert_allclose(coupling.forward_log_det_jacobian(tf.constant(x), event_ndims=1), [s.sum()], rtol=1e-12)
  scale.assign(1e3)
  bounded = [[1, 10 * np.exp(0.7) + 3, 2, 20 * np.exp(0.7) - 6]]
  np.testing.assert_allclose(coupling.forward(tf.constant(x)), bounded, rtol=1e-6)


def test_the_result_has_the_dtype_of_the_input():
  coupling = AffineCoupling(Affine([1.0, -2.0, 0.3, 0.1], 'float32'), masks.even_odd(4))
  x = tf.ones((3, 4), tf.float64)
  assert coupling.forward(x).dtype == coupling.inverse(x).dtype == tf.float64
  assert coupling.forward_log_det_jacobian(tf.identity(x), event_ndims=1).dtype == tf.float64


def test_arguments_out_of_range_are_refused():
  for name, value in (('log_scale_bound', 0.0), ('log_scale_bound', 1e39), ('initial_scale', 1e31)):
    with pytest.raises(ValueError, match=rf'`{name}`.*Got: '):
      AffineCoupling(keras.layers.Dense(6), masks.even_odd(6), **{name: value})
