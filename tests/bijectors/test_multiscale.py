import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.bijectors import FactorOut

tfb = tfp.bijectors


def test_only_the_second_half_of_the_channels_changes():
  bijector = FactorOut(tfb.Exp(), (2, 2, 4))
  x = np.random.default_rng(0).normal(size=(3, 2, 2, 4))
  y = bijector.forward(tf.constant(x)).numpy()
  np.testing.assert_array_equal(y[..., :2], x[..., :2])
  np.testing.assert_allclose(y[..., 2:], np.exp(x[..., 2:]))
  np.testing.assert_allclose(
    bijector.forward_log_det_jacobian(tf.constant(x), event_ndims=3), x[..., 2:].sum(axis=(1, 2, 3))
  )
  np.testing.assert_allclose(bijector.inverse(tf.constant(y)), x)
  np.testing.assert_allclose(
    bijector.inverse_log_det_jacobian(tf.constant(y), event_ndims=3), -x[..., 2:].sum(axis=(1, 2, 3))
  )


def test_an_odd_number_of_channels_is_refused():
  with pytest.raises(ValueError, match=r'`event_shape`.*Got: \(2, 2, 3\)'):
    FactorOut(tfb.Exp(), (2, 2, 3))
