"""The dense conditioner, the network of NICE."""

from __future__ import annotations

import keras

from flowgan_tf.errors import check_choice
from flowgan_tf.networks.normalization import normalization as make_normalization

__all__ = ['dense_conditioner']

_INITIAL_WEIGHTS = ('zero_output', 'paper')


def dense_conditioner(
  output_units: int,
  hidden_units: int = 1000,
  hidden_layers: int = 6,
  normalization: str = 'layer',
  dtype: str = 'float32',
  initial_weights: str = 'zero_output',
) -> keras.Sequential:
  """A multilayer perceptron with a norm before each dense layer and a ReLU after each hidden one.

  The paper's NICE has six hidden layers of 1000 units, `normalization='scalar_batch'` and `initial_weights='paper'`.

  Args:
    output_units: Size of the output vector: the changed part of an additive coupling, twice that of an affine one.
    hidden_units: Units of each hidden layer.
    hidden_layers: Number of hidden layers.
    normalization: A key of `NORMALIZATIONS`.
    dtype: Name of a Keras dtype policy: 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16'.
    initial_weights: 'zero_output' draws the kernels from Glorot's uniform distribution, but starts the last one at
      zero, so that the output is zero until it is trained. 'paper' draws all kernels from a normal distribution with a
      standard deviation of 0.02, truncated at two standard deviations, as the paper's code does.

  Returns:
    A model that maps `[batch, units]` to `[batch, output_units]`. It is built when it is first called.

  Raises:
    UsageError: If `normalization` is not a key of `NORMALIZATIONS`, or `initial_weights` is unknown.
  """
  check_choice('initial_weights', initial_weights, _INITIAL_WEIGHTS)

  def dense(units, usual, activation=None):
    # A new initializer for each layer: a Keras initializer gives the same numbers every time.
    initializer = usual if initial_weights == 'zero_output' else keras.initializers.TruncatedNormal(stddev=0.02)
    return keras.layers.Dense(units, activation, kernel_initializer=initializer, dtype=dtype)

  layers: list[keras.Layer] = []
  for _ in range(hidden_layers):
    layers.append(make_normalization(normalization, dtype))
    layers.append(dense(hidden_units, 'glorot_uniform', 'relu'))
  layers.append(make_normalization(normalization, dtype))
  layers.append(dense(output_units, 'zeros'))
  return keras.Sequential(layers)
