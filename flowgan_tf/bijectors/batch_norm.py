"""Batch normalisation as a bijector."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from flowgan_tf.base.errors import check_number
from flowgan_tf.bijectors.base import OnePassBijector, VariableBijector, check_event_shape


class BatchNormalization(VariableBijector, OnePassBijector):
  """Normalises each channel in the inverse direction (data to noise), and undoes it in the forward direction.

  ```none
  inverse:  x = (y - m) / sqrt(v + e)         log|det dx/dy| = -1/2 sum log(v + e) * (pixels per channel)
  forward:  y = x sqrt(v + e) + m
  ```

  With `training=True` the inverse uses the mean `m` and variance `v` of the batch, over all axes but the last, and
  moves the running statistics towards them. Gradients pass through both. Otherwise it uses the running statistics. The
  forward direction always uses them, because sampling has no batch of data. The bijector is a bijection of single
  events only with the running statistics.

  `is_constant_jacobian` is true, because with the running statistics the bijector is affine. TFP reads it where a
  distribution computes its mean or entropy, which are not defined in training.

  One `tfb.BatchNormalization` cannot both train and evaluate: it takes `training` in its constructor.

  Source: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017, section 3.7.
  """

  accepts_training = True

  def __init__(
    self,
    event_shape: Sequence[int],
    momentum: float = 0.95,
    epsilon: float = 1e-5,
    dtype: tf.DType = tf.float32,
    name: str = 'batch_normalization',
  ):
    """Builds the bijector.

    Args:
      event_shape: Shape of the event; the last axis holds the channels.
      momentum: Share of the old running statistics that an update keeps, at least 0 and below 1.
      epsilon: `e` above, added to the variance.
      dtype: Floating-point type of the running statistics. The computation uses the input's type.
      name: Name of the bijector, unique within a `tfb.Chain` that is called with `training`.

    Raises:
      UsageError: If `momentum` is not a number in [0, 1), or `epsilon` is not a number of at least 0.
    """
    parameters = dict(locals())
    check_number('momentum', momentum, 'a number of at least 0 and below 1', lambda v: 0 <= v < 1)
    check_number('epsilon', epsilon, 'a number of at least 0', lambda v: v >= 0)
    with tf.name_scope(name) as name:
      self._event_shape = tuple(tf.TensorShape(event_shape))
      *spatial, channels = self._event_shape
      self._positions = int(np.prod(spatial))
      self._momentum, self._epsilon = momentum, epsilon
      self._mean = tf.Variable(tf.zeros(channels, dtype), trainable=False, name='running_mean')
      self._variance = tf.Variable(tf.ones(channels, dtype), trainable=False, name='running_variance')
      super().__init__(
        forward_min_event_ndims=len(self._event_shape),
        is_constant_jacobian=True,
        parameters=parameters,
        name=name,
      )

  def _forward_and_log_det(self, x, training=False):
    del training  # There is no batch of data.
    check_event_shape(x, self._event_shape, self.name)
    wide = _wide(x)
    mean, variance = tf.cast(self._mean, wide.dtype), tf.cast(self._variance, wide.dtype)
    y = wide * tf.sqrt(variance + self._epsilon) + mean
    return tf.cast(y, x.dtype), tf.cast(self._log_det(variance), x.dtype)

  def _inverse_and_log_det(self, y, training=False):
    check_event_shape(y, self._event_shape, self.name)
    wide = _wide(y)
    if training:
      mean, variance = tf.nn.moments(tf.reshape(wide, (-1, self._mean.shape[0])), axes=[0])
      for running, batch in ((self._mean, mean), (self._variance, variance)):
        batch = tf.cast(tf.stop_gradient(batch), running.dtype)
        # The moments of an empty batch are NaN. The running statistics would never recover from them.
        running.assign_sub((1 - self._momentum) * (running - tf.where(tf.size(y) > 0, batch, running)))
    else:
      mean, variance = tf.cast(self._mean, wide.dtype), tf.cast(self._variance, wide.dtype)
    normalized = (wide - mean) * tf.math.rsqrt(variance + self._epsilon)
    return tf.cast(normalized, y.dtype), tf.cast(-self._log_det(variance), y.dtype)

  def _log_det(self, variance):
    return 0.5 * self._positions * tf.reduce_sum(tf.math.log(variance + self._epsilon))


def _wide(x):
  """Casts half precision to float32: in float16, squares overflow."""
  return tf.cast(x, tf.float32) if x.dtype.size < 4 else x
