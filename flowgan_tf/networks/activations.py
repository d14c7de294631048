"""Activations of networks over patches."""

from __future__ import annotations

import tensorflow as tf

from flowgan_tf.networks.fused import fused

__all__ = ['gelu']

_GELU = 0.7978845608028654, 0.044715  # sqrt(2 / pi), and the weight of the cube


def gelu(x: tf.Tensor) -> tf.Tensor:
  """Gaussian error linear unit, approximated by a tanh: `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.

  Values and gradients are those of `keras.activations.gelu(x, approximate=True)`, computed in float32 at least.

  #### References

  Dan Hendrycks, Kevin Gimpel. Gaussian Error Linear Units. 2016, section 2.
  """
  return _gelu(tf.convert_to_tensor(x))


def _value(x):
  wide, _, tanh = _wide_square_and_tanh(x)
  return tf.cast(0.5 * wide * (1.0 + tanh), x.dtype)


def _gradient(x, dy):
  wide, square, tanh = _wide_square_and_tanh(x)
  scale, cubic = _GELU
  slope = 0.5 * (1.0 + tanh + wide * (1.0 - tanh**2) * scale * (1.0 + 3.0 * cubic * square))
  return tf.cast(tf.cast(dy, wide.dtype) * slope, x.dtype)


def _wide_square_and_tanh(x):
  wide = x if x.dtype == tf.float64 else tf.cast(x, tf.float32)
  scale, cubic = _GELU
  square = tf.square(wide)
  return wide, square, tf.tanh(scale * wide * (1.0 + cubic * square))


_gelu = fused(_value, _gradient)
