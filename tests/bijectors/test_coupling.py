import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf.bijectors import AdditiveCoupling, AffineCoupling, masks
from flowgan_tf.networks import ResidualConditioner, dense_conditioner

MASKS = {'even_odd': masks.even_odd(6, swap=True), 'channel': masks.channel((2, 2, 4))}


@pytest.fixture(autouse=True)
def seeded_initial_weights():
  keras.utils.set_random_seed(0)


class Affine(tf.Module):
  """A conditioner whose output is known in advance: `weight * sum of the kept part`, for shift and `h`."""

  def __init__(self, weights):
    super().__init__()
    self.weights = tf.Variable(weights, dtype='float64')

  def __call__(self, x, training=False):
    return tf.reduce_sum(x, axis=-1, keepdims=True) * self.weights


def random_coupling(kind, mask):
  outputs = mask.changed_shape[-1] * (2 if kind is AffineCoupling else 1)
  if len(mask.event_shape) == 1:
    network = dense_conditioner(outputs, 6, 1, dtype='float64')
  else:
    network = ResidualConditioner(outputs, 4, 1, dtype='float64')
  coupling = kind(network, mask)
  rng = np.random.default_rng(0)
  for variable in coupling.trainable_variables:
    variable.assign_add(rng.normal(0.0, 0.3, variable.shape))
  return coupling


@pytest.mark.parametrize('mask', MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize('kind', [AdditiveCoupling, AffineCoupling])
def test_the_kept_part_is_untouched_and_the_jacobian_triangular(kind, mask):
  coupling = random_coupling(kind, mask)
  size = int(np.prod(mask.event_shape))
  x = tf.constant(np.random.default_rng(1).normal(size=mask.event_shape))
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(x)
    y = coupling.forward(x)
  jacobian = tape.jacobian(y, x, experimental_use_pfor=False).numpy().reshape(size, size)
  kept_ones, changed_ones = mask.split(tf.ones(mask.event_shape))
  ones = mask.merge(kept_ones, tf.zeros_like(changed_ones)).numpy()
  kept = ones.ravel() == 1
  np.testing.assert_array_equal(y.numpy().ravel()[kept], x.numpy().ravel()[kept])
  np.testing.assert_array_equal(jacobian[kept][:, kept], np.eye(kept.sum()))
  assert not np.any(jacobian[kept][:, ~kept])
  assert np.any(jacobian[~kept][:, kept])
  block = jacobian[~kept][:, ~kept]
  np.testing.assert_array_equal(block, np.diag(np.diag(block)))
  assert not coupling.is_constant_jacobian  # TFP would take `forward(mean)` for the mean of a distribution.
  if kind is AdditiveCoupling:
    np.testing.assert_array_equal(np.diag(block), 1.0)
  else:
    assert np.all(np.diag(block) > 0) and np.std(np.diag(block)) > 0


def test_additive_by_hand():
  coupling = AdditiveCoupling(Affine([1.0, -2.0]), masks.even_odd(4))
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


class Narrow(tf.Module):
  """A conditioner whose weights and results are float32 whatever its input is."""

  def __init__(self):
    super().__init__()
    self.weights = tf.Variable(tf.ones((2, 4)))

  def __call__(self, x, training=False):
    return tf.cast(x, tf.float32) @ self.weights


def test_the_result_has_the_dtype_of_the_input():
  coupling = AffineCoupling(Narrow(), masks.even_odd(4))
  assert {v.dtype for v in coupling.variables} == {tf.float32}
  x = tf.ones((3, 4), tf.float64)
  assert coupling.forward(x).dtype == coupling.inverse(x).dtype == tf.float64
  assert coupling.forward_log_det_jacobian(tf.identity(x), event_ndims=1).dtype == tf.float64


@pytest.mark.parametrize('argument', [{'log_scale_bound': 0.0}, {'log_scale_bound': 1e39}, {'initial_scale': 1e31}])
def test_arguments_out_of_range_are_refused(argument):
  [name] = argument
  with pytest.raises(ValueError, match=rf'`{name}`.*Got: '):
    AffineCoupling(keras.layers.Dense(6), masks.even_odd(6), **argument)
