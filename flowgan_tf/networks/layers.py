"""Keras' layers with a bias whose gradient is right in half precision."""

import keras
import tensorflow as tf
from keras import ops


def add_bias(x: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
  """Returns `x + bias` for a bias over the last axis.

  The gradient of `tf.nn.bias_add`, which Keras uses, sums over all rows in the type of `x`. On a CPU in bfloat16, such
  a sum stops growing after some hundred rows: over 200 images with 14 x 14 pixels it was off by half. The gradient of
  a plain sum is right, and faster. TensorFlow fuses both with the product before them.
  """
  bias = tf.cast(bias, x.dtype)
  return x + bias if x.dtype.size < 4 else tf.nn.bias_add(x, bias)


# Named as in Keras, since files of weights hold the names of layers.
@keras.saving.register_keras_serializable(package='flowgan_tf', name='BiasedDense')
class Dense(keras.layers.Dense):
  """Keras' dense layer with a bias, added through `add_bias`. It has no LoRA and no quantization."""

  def call(self, inputs, training=None):
    return self.activation(add_bias(ops.matmul(inputs, self.kernel), self.bias))


@keras.saving.register_keras_serializable(package='flowgan_tf', name='BiasedConv2D')
class Conv2D(keras.layers.Conv2D):
  """Keras' convolution with a bias, added through `add_bias`. It has no LoRA; its channels come last."""

  def call(self, inputs):
    return self.activation(add_bias(self.convolution_op(inputs, self.kernel), self.bias))
