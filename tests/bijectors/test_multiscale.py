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
  log_det = bijector.forward_log_det_jacobian(tf.constant(x), event_ndims=3)
  np.testing.assert_allclose(log_det, x[..., 2:].sum(axis=(1, 2, 3)))


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
  for k, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
    np.testing.assert_array_equal(y[..., k * c : (k + 1) * c], x[..., i::2, j::2, :])
  np.testing.assert_array_equal(Squeeze().inverse(tf.identity(y)), x)


def test_a_squeezed_distribution_has_a_standard_deviation():
  tfd, stddev = tfp.distributions, np.arange(1.0, 17.0).reshape(4, 4, 1)
  squeezed = tfd.TransformedDistribution(tfd.Independent(tfd.Normal(0.0, stddev), 3), Squeeze())
  np.testing.assert_array_equal(squeezed.stddev(), Squeeze().forward(stddev))


def test_unknown_dimensions_pass_through_the_static_shapes():
  squeeze = Squeeze()
  assert squeeze.forward_event_shape([None, 6, 3]).as_list() == [None, 3, 12]
  assert squeeze.inverse_event_shape([2, None, None]).as_list() == [4, None, None]
  for method in (squeeze.forward_event_shape, squeeze.inverse_event_shape):
    assert method(tf.TensorShape(None)).rank is None
  x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 6, 3)))
  for shape in ([None] * 4, None):
    there, back = (
      tf.function(f, input_signature=[tf.TensorSpec(shape, x.dtype)]) for f in (squeeze.forward, squeeze.inverse)
    )
    np.testing.assert_array_equal(there(x), squeeze.forward(x))
    np.testing.assert_array_equal(back(there(x)), x)


def test_shapes_that_do_not_fit_are_rejected():
  for call, message in (
    (lambda: Squeeze().forward(tf.zeros((2, 3, 4, 1))), r'even height and width.*Got: '),
    (lambda: Squeeze().forward(tf.zeros((2, 4, 3, 1))), r'even height and width.*Got: '),
    (lambda: Squeeze().inverse(tf.zeros((1, 2, 2, 6))), r'divisible by 4.*Got: '),
    (lambda: Squeeze().forward_event_shape((5, 4, 1)), r'even height and width.*Got: '),
    (lambda: Squeeze().inverse_event_shape((2, 2, 5)), r'divisible by 4.*Got: '),
    (lambda: FactorOut(tfb.Exp(), (2, 2, 3)), r'`event_shape`.*Got: \(2, 2, 3\)'),
    (lambda: FactorOut(tfb.Exp(), (4, 4)), r'`event_shape`.*Got: \(4, 4\)'),
    (lambda: FactorOut(tfb.Invert(Squeeze()), (2, 2, 8)), r'^`bijector` must keep .*, \(2, 2, 4\)\. Got: '),
  ):
    with pytest.raises(ValueError, match=message):
      call()
