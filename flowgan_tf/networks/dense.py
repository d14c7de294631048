"""The dense conditioner, the network of NICE."""

from __future__ import annotations

import keras

from flowgan_tf.networks.normalization import normalization as make_normalization

__all__ = ['dense_conditioner']


def dense_conditioner(
  output_units: int,
  hidden_units: int = 1000,
  hidden_layers: int = 6,
  normalization: str = 'layer',
  dtype: str = 'float32',
) -> keras.Sequential:
  """A multilayer perceptron whose output is zero until it is trained.

  A norm precedes each dense layer, and a ReLU follows each hidden one. With six hidden layers of 1000 units and
  `normalization='scalar_batch'` it is the network of the paper's NICE.

  Args:
    output_units: Size of the output vector: the changed part of an additive coupling, twice that of an affine one.
    hidden_units: Units of each hidden layer.
    hidden_layers: Number of hidden layers.
    normalization: A key of `NORMALIZATIONS`.
    dtype: Name of a Keras dtype policy: 'float32', 'float64', 'mixed_bfloat16' or 'mixed_float16'.

  Returns:
    A model that maps `[batch, units]` to `[batch, output_units]`. It is built when it is first called.

  Raises:
    ValueError: If `normalization` is not a key of `NORMALIZATIONS`.
  """
  layers: list[keras.Layer] = []
  for _ in range(hidden_layers):
    layers.append(make_normalization(normalization, dtype))
    layers.append(keras.layers.Dense(hidden_units, activation='relu', dtype=dtype))
  layers.append(make_normalization(normalization, dtype))
  layers.append(keras.layers.Dense(output_units, kernel_initializer='zeros', dtype=dtype))
  return keras.Sequential(layers)
