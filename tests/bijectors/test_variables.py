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


def test_two_with_equal_arguments_are_not_equal():
  """TFP would otherwise compare them by their arguments, and use the cached results of one for the other."""
  first, second = build('scaling'), build('scaling')
  assert first == first and first != second
  assert bijectors.AlphaLogit(0.05) == bijectors.AlphaLogit(0.05)  # TFP's rule, for a bijector without variables.
