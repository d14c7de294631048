"""Normalisation layers of conditioners, chosen by name, and of critics."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from flowgan_tf.base.errors import check_choice
from flowgan_tf.networks.fused import fused


@keras.saving.register_keras_serializable(package='flowgan_tf')
class GuardedBatchNormalization(keras.layers.BatchNormalization):
  """Keras' batch norm, guarded against empty batches, and faster on images.

  The moments of an empty batch are NaN. In Keras' layer they enter the running statistics, which never recover. Here an
  empty batch leaves the running statistics as they are. TensorFlow's fused operation normalises images `[batch, height,
  width, features]`, where Keras makes two passes over memory with the running statistics, and some ten with those of
  the batch. The layer has the arguments, variables and values of `keras.layers.BatchNormalization`.
  """

  def call(self, inputs, training=None, mask=None):
    training = bool(training and self.trainable)
    if self._can_be_fused(inputs, mask):
      return self._fused(inputs, training)
    running = self.non_trainable_variables
    before = [tf.identity(statistic) for statistic in running]
    outputs = super().call(inputs, training=training, mask=mask)
    if training:
      for statistic, old in zip(running, before, strict=True):
        statistic.assign(ops.where(ops.size(inputs) > 0, statistic, old))
    return outputs

  def _can_be_fused(self, inputs, mask):
    images = len(inputs.shape) == 4 and self.axis in (3, -1)
    other = self.synchronized or getattr(self, 'renorm', False)  # Keras before 3.14 has no `renorm`.
    return images and mask is None and self.variable_dtype == 'float32' and not other

  def _fused(self, images, training):
    mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
    outputs, batch_mean, batch_variance, *_ = tf.raw_ops.FusedBatchNormV3(
      x=images,
      scale=tf.convert_to_tensor(self.gamma) if self.scale else tf.ones(mean.shape),
      offset=tf.convert_to_tensor(self.beta) if self.center else tf.zeros(mean.shape),
      mean=tf.zeros([0]) if training else mean,
      variance=tf.zeros([0]) if training else variance,
      epsilon=self.epsilon,
      is_training=training,
    )
    if training:
      n = tf.cast(tf.size(images) // images.shape[-1], tf.float32)
      # The operation divides by n - 1 for the running variance; Keras divides by n.
      biased = batch_variance * tf.maximum(n - 1, 1) / n
      for running, batch in ((self.moving_mean, batch_mean), (self.moving_variance, biased)):
        moved = self.momentum * running + (1 - self.momentum) * tf.stop_gradient(batch)
        running.assign(tf.where(n > 0, moved, running))
    return outputs


class _WithEpsilon(keras.layers.Layer):
  def __init__(self, epsilon: float = 1e-3, **kwargs: Any):
    super().__init__(**kwargs)
    self.epsilon = epsilon

  def compute_output_shape(self, input_shape):
    return input_shape

  def get_config(self):
    return {**super().get_config(), 'epsilon': self.epsilon}


@keras.saving.register_keras_serializable(package='flowgan_tf')
class ScalarBatchNormalization(_WithEpsilon):
  """Batch norm with ONE mean and ONE variance for the whole batch and all features.

  ```none
  y = g (x - m) / sqrt(v + e) + b
  ```

  With `training=True`, `m` and `v` are the mean and variance over every entry of the input, and the running statistics
  move towards them. Otherwise, and if `trainable = False` freezes the layer, they are the running statistics. Then the
  density of an image does not depend on the other images of its batch. `g` and `b` are learned scalars. The paper's
  NICE uses this norm, and the defaults come from the paper's code.
  """

  def __init__(self, momentum: float = 0.9, epsilon: float = 1e-6, **kwargs: Any):
    """Builds the layer. An update keeps the share `momentum` of the old running statistics, and `epsilon` is `e`."""
    super().__init__(epsilon, **kwargs)
    self.momentum = momentum

  def build(self, input_shape):
    scalar = {'shape': (), **_wide(self)}
    self.gain = self.add_weight(initializer='ones', name='gain', **scalar)
    self.bias = self.add_weight(initializer='zeros', name='bias', **scalar)
    self.mean = self.add_weight(initializer='zeros', trainable=False, name='running_mean', **scalar)
    self.variance = self.add_weight(initializer='ones', trainable=False, name='running_variance', **scalar)

  def call(self, x, training=False):
    wide = ops.cast(x, self.gain.dtype)
    if training and self.trainable:
      mean = ops.mean(wide)
      variance = ops.mean(ops.square(wide - mean))  # `ops.moments` has wrong second derivatives.
      for running, batch in ((self.mean, mean), (self.variance, variance)):
        moved = self.momentum * running + (1 - self.momentum) * ops.stop_gradient(batch)
        # The moments of an empty batch are not numbers, and running statistics would never recover from them.
        running.assign(ops.where(ops.size(x) > 0, moved, running))
    else:
      mean, variance = ops.convert_to_tensor(self.mean), ops.convert_to_tensor(self.variance)
    scale = self.gain * ops.rsqrt(variance + self.epsilon)
    return ops.cast((wide - mean) * scale + self.bias, self.compute_dtype)

  def get_config(self):
    return {**super().get_config(), 'momentum': self.momentum}


@keras.saving.register_keras_serializable(package='flowgan_tf')
class LastAxisNormalization(_WithEpsilon):
  """Layer norm over the last axis, with a learned gain and bias per feature.

  ```none
  y = g (x - m) / sqrt(v + e) + b
  ```

  A modulation `[batch, 2 features]` adapts gain and bias to a condition: with its two halves `s` and `t` they are
  `g (1 + s)` and `b (1 + s) + t`. The rows of `x` are then the rows of a tensor `[..., batch, features]`.

  The layer has the values, first derivatives and variables of `keras.layers.LayerNormalization`. In a graph with known
  shapes it is `fused`, and sums along rows are written as products of matrices, which are faster. Its second
  derivatives are correct, unlike Keras'; `ImageNormalization` says why.

  Source: Jimmy Lei Ba, Jamie Ryan Kiros, Geoffrey E. Hinton. Layer Normalization. 2016.
  """

  def build(self, input_shape):
    self.input_spec = keras.layers.InputSpec(axes={-1: input_shape[-1]})
    self.gamma = self.add_weight(shape=(input_shape[-1],), initializer='ones', name='gamma', **_wide(self))
    self.beta = self.add_weight(shape=(input_shape[-1],), initializer='zeros', name='beta', **_wide(self))

  def call(self, x, modulation=None):
    gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
    if modulation is not None:
      scale, shift = tf.split(tf.cast(modulation, gamma.dtype), 2, axis=-1)
      gamma, beta = gamma * (1 + scale), beta * (1 + scale) + shift
    rows = tf.reshape(x, (-1, self.gamma.shape[0]))  # A graph may not know the last axis.
    return tf.reshape(_layer_norm(rows, gamma, beta, tf.constant(self.epsilon, gamma.dtype)), tf.shape(x))


def _layer_norm_value(x, gamma, beta, epsilon):
  normalized, _ = _normalized_rows(x, epsilon)
  if gamma.shape.rank == 1:
    return tf.cast(normalized * gamma + beta, x.dtype)
  return tf.cast(tf.reshape(_groups(normalized, gamma) * gamma + beta, tf.shape(x)), x.dtype)


def _layer_norm_gradient(x, gamma, beta, epsilon, dy):
  del beta
  normalized, inverse_std = _normalized_rows(x, epsilon)
  dy = tf.cast(dy, gamma.dtype)
  product = dy * normalized
  if gamma.shape.rank == 2:
    slope = tf.reshape(_groups(dy, gamma) * gamma, tf.shape(x))
    mean = tf.fill((x.shape[1], 1), tf.constant(1 / x.shape[1], dy.dtype))
    dx = inverse_std * (slope - slope @ mean - normalized * ((slope * normalized) @ mean))
    sums = (tf.reduce_sum(_groups(part, gamma), axis=0) for part in (product, dy))
    return tf.cast(dx, x.dtype), *sums
  weights = gamma[:, tf.newaxis] / gamma.shape[0]
  dx = inverse_std * (dy * gamma - dy @ weights - normalized * (product @ weights))
  return tf.cast(dx, x.dtype), tf.reduce_sum(product, axis=0), tf.reduce_sum(dy, axis=0)


def _groups(rows, gamma):
  """Returns rows as `[groups, batch, features]`, for a gain `[batch, features]`."""
  return tf.reshape(rows, (-1, tf.shape(gamma)[0], rows.shape[-1]))


def _normalized_rows(x, epsilon):
  wide = tf.cast(x, epsilon.dtype)
  # XLA is slow at sums along rows.
  mean = tf.fill((x.shape[1], 1), tf.constant(1 / x.shape[1], wide.dtype))
  centred = wide - wide @ mean
  inverse_std = tf.math.rsqrt(tf.square(centred) @ mean + epsilon)
  return centred * inverse_std, inverse_std


_layer_norm = fused(_layer_norm_value, _layer_norm_gradient)


@keras.saving.register_keras_serializable(package='flowgan_tf')
class ImageNormalization(_WithEpsilon):
  """Layer norm over all entries of one image, with a learned gain and bias per channel.

  ```none
  y = g (x - m) / sqrt(v + e) + b
  ```

  `keras.layers.GroupNormalization(groups=1)` has the same values, but wrong second derivatives. It calls
  `tf.nn.moments`, which stops the gradient of the mean inside the variance. First derivatives are still correct; the
  gradient of a gradient penalty with respect to the weights is wrong by some percent.
  """

  def build(self, input_shape):
    self.gain = self.add_weight(shape=(input_shape[-1],), initializer='ones', name='gain', **_wide(self))
    self.bias = self.add_weight(shape=(input_shape[-1],), initializer='zeros', name='bias', **_wide(self))

  def call(self, x):
    axes = tuple(range(1, len(x.shape)))
    wide = ops.cast(x, self.gain.dtype)
    centred = wide - ops.mean(wide, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=axes, keepdims=True)
    return ops.cast(centred * ops.rsqrt(variance + self.epsilon) * self.gain + self.bias, self.compute_dtype)


def _wide(layer):
  """Returns the arguments of weights that are float32 at least; the moments have the dtype of the weights.

  In float16 a sum over a batch of images overflows, and so does a variance beyond 65504. Running statistics in half
  precision stand still.
  """
  return {'autocast': False, 'dtype': 'float64' if layer.variable_dtype == 'float64' else 'float32'}


NORMALIZATIONS = {
  'batch': lambda dtype: GuardedBatchNormalization(momentum=0.95, dtype=dtype),
  'layer': lambda dtype: LastAxisNormalization(dtype=dtype),
  'scalar_batch': lambda dtype: ScalarBatchNormalization(dtype=dtype),
  'none': lambda dtype: keras.layers.Identity(dtype=dtype),
}


def make_normalization(name: str, dtype: str) -> keras.layers.Layer:
  """Returns a new layer of a kind in `NORMALIZATIONS`, with the Keras dtype policy `dtype`."""
  check_choice('normalization', name, NORMALIZATIONS)
  return NORMALIZATIONS[name](dtype)
