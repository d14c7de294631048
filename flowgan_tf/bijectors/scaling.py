"""Diagonal scaling, the last layer of NICE."""

from collections.abc import Sequence

import tensorflow as tf

from flowgan_tf.base.errors import check_range
from flowgan_tf.base.settings import LOG_SCALE_BOUNDS
from flowgan_tf.bijectors.base import VariableBijector, check_event_shape


class DiagonalScaling(VariableBijector):
  """Scales each entry of an event by a learned positive factor.

  ```none
  y = x * exp(s),   s = b tanh(v / b)         log|det dy/dx| = sum s
  ```

  `v` is learned and starts at zero, and `b` bounds the log-scale.

  Source: Laurent Dinh, David Krueger, Yoshua Bengio. NICE: Non-linear Independent Components Estimation. 2014, section
  3.3.
  """

  def __init__(
    self,
    event_shape: Sequence[int],
    log_scale_bound: float = 10.0,
    dtype: tf.DType = tf.float32,
    name: str = 'diagonal_scaling',
  ):
    """Builds the bijector.

    Args:
      event_shape: Shape of the event, `()` for a scalar.
      log_scale_bound: `b` above, the largest absolute log-scale, in nats.
      dtype: Floating-point type of the variable. The computation uses the input's type.

    Raises:
      UsageError: If `log_scale_bound` is out of range.
    """
    parameters = dict(locals())
    check_range('log_scale_bound', log_scale_bound, *LOG_SCALE_BOUNDS)
    with tf.name_scope(name) as name:
      self._bound = float(log_scale_bound)
      self._raw = tf.Variable(tf.zeros(event_shape, dtype), name='log_scale')
      super().__init__(
        forward_min_event_ndims=self._raw.shape.rank,
        is_constant_jacobian=True,
        parameters=parameters,
        name=name,
      )

  @classmethod
  def _is_increasing(cls):
    return True

  def log_scale(self, dtype: tf.DType | None = None) -> tf.Tensor:
    """Returns the log-scales `s` in the event's shape, in `dtype` or else in the variable's own type."""
    return self._bound * tf.tanh(tf.cast(self._raw, dtype or self._raw.dtype) / self._bound)

  def _forward(self, x):
    check_event_shape(x, self._raw.shape, self.name)
    return x * tf.exp(self.log_scale(x.dtype))

  def _inverse(self, y):
    check_event_shape(y, self._raw.shape, self.name)
    return y * tf.exp(-self.log_scale(y.dtype))

  def _forward_log_det_jacobian(self, x):
    return tf.reduce_sum(self.log_scale(x.dtype))
