import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.bijectors import BatchNormalization, DiagonalScaling, FactorOut, Squeeze

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


@pytest.mark.parametrize('event_shape', [4, (2, 4), (2, 2, 2, 4), (2, 2, 4.0), None])
def test_event_shapes_of_another_kind_are_refused(event_shape):
  with pytest.raises(ValueError, match=r'^`event_shape` must be \(height, width, channels\)\. Got: '):
    FactorOut(tfb.Exp(), event_shape)


@pytest.mark.parametrize('bijector', [None, tfb.Exp, lambda x: x])
def test_something_else_than_a_bijector_is_refused(bijector):
  with pytest.raises(ValueError, match=r'^`bijector` must be a `tfb.Bijector`\. Got: '):
    FactorOut(bijector, (2, 2, 4))


@pytest.mark.parametrize('bijector', [Squeeze(), tfb.Invert(Squeeze()), tfb.Chain([tfb.Exp(), Squeeze()])])
def test_a_bijector_that_changes_the_shape_is_refused(bijector):
  with pytest.raises(ValueError, match=r'^`bijector` must keep the shape of its event, \(2, 2, 4\)\. Got: .*\(.*\)\.$'):
    FactorOut(bijector, (2, 2, 8))


def test_the_jacobian_is_constant_if_that_of_the_bijector_is():
  constant = [tfb.Scale(2.0), BatchNormalization((2, 2, 2)), tfb.Invert(DiagonalScaling((2, 2, 2)))]
  for bijector in constant:
    assert FactorOut(bijector, (2, 2, 4)).is_constant_jacobian
  for bijector in (tfb.Exp(), tfb.Chain([*constant, tfb.Exp()])):
    assert not FactorOut(bijector, (2, 2, 4)).is_constant_jacobian
