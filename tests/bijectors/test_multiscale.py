import hypothesis
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import strategies as st

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


@hypothesis.settings(deadline=None, max_examples=25, derandomize=True)
@hypothesis.given(
  batch_shape=st.lists(st.integers(0, 3), max_size=2),
  half_sides=st.tuples(*[st.integers(1, 4)] * 2),
  c=st.integers(1, 4),
)
def test_each_block_of_pixels_becomes_channels(batch_shape, half_sides, c):
  h, w = 2 * half_sides[0], 2 * half_sides[1]
  x = np.arange(np.prod([*batch_shape, h, w, c]), dtype=np.float32).reshape(*batch_shape, h, w, c)
  y = Squeeze().forward(tf.constant(x))
  assert y.shape == (*batch_shape, h // 2, w // 2, 4 * c)
  for k, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
    np.testing.assert_array_equal(y[..., k * c : (k + 1) * c], x[..., i::2, j::2, :])
  np.testing.assert_array_equal(Squeeze().inverse(tf.identity(y)), x)


def test_images_that_are_no_blocks_are_refused():
  for shape in ((2, 3, 4, 1), (2, 4, 3, 1)):
    with pytest.raises(ValueError, match=r'even height and width.*Got: '):
      Squeeze().forward(tf.zeros(shape))
  with pytest.raises(ValueError, match=r'divisible by 4.*Got: '):
    Squeeze().inverse(tf.zeros((1, 2, 2, 6)))


def test_unknown_dimensions_pass_through_the_static_shapes():
  squeeze = Squeeze()
  assert squeeze.forward_event_shape([None, 6, 3]).as_list() == [None, 3, 12]
  assert squeeze.inverse_event_shape([2, None, None]).as_list() == [4, None, None]
