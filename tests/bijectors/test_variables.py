"""Bijectors that own variables keep them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowgan_tf import bijectors


def build(name):
  if name == 'scaling':
    return bijectors.DiagonalScaling((4,))
  if name == 'normalization':
    return bijectors.BatchNormalization((4,))
  network = keras.layers.Dense(4 if name == 'affine' else 2)
  kind = bijectors.AffineCoupling if name == 'affine' else bijectors.AdditiveCoupling
  return kind(network, bijectors.masks.even_odd(4))


@pytest.mark.parametrize('name', ['scaling', 'normalization', 'affine', 'additive'])
def test_a_copy_has_the_learned_weights(name):
  bijector = build(name)
  rng = np.random.default_rng(0)
  for variable in bijector.variables:
    variable.assign(rng.uniform(0.5, 1.5, variable.shape))
  x = tf.constant([[1.0, 2.0, 3.0, 4.0]])
  np.testing.assert_array_equal(bijector.copy().forward(tf.identity(x)), bijector.forward(x))


def test_a_copy_with_other_arguments_is_refused():
  with pytest.raises(NotImplementedError, match='diagonal_scaling'):
    build('scaling').copy(log_scale_bound=1.0)


def test_a_module_that_returns_another_shape_is_refused():
  class Narrow(tf.Module):
    def __init__(self):
      super().__init__()
      self.weight = tf.Variable(1.0)

    def __call__(self, x, training=False):
      return self.weight * x[..., :2]

  coupling = bijectors.AffineCoupling(Narrow(), bijectors.masks.even_odd(8))
  with pytest.raises(ValueError, match=r'`conditioner` must return shape \(8,\)'):
    coupling.forward(tf.zeros((1, 8)))


@pytest.mark.parametrize('direction', ['forward', 'inverse'])
@pytest.mark.parametrize('name', ['scaling', 'normalization', 'affine', 'additive'])
@pytest.mark.parametrize('shape', [(2, 1), (2, 5), ()])
def test_an_event_of_another_shape_is_refused(name, direction, shape):
  with pytest.raises(ValueError, match=r'shape \(4,\)|rank|event_ndims'):
    getattr(build(name), direction)(tf.zeros(shape))
