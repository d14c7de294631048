"""The alpha-logit, which maps the unit interval to the real line without infinities at its ends."""

from __future__ import annotations

import math

import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.arguments import check_number

__all__ = ['AlphaLogit']


class AlphaLogit(tfp.bijectors.Bijector):
  """The logit of a slightly shrunk unit interval, so that 0 and 1 are mapped to finite values.

  ```none
  y = log(p / (1 - p)),   p = a + (1 - 2a) x         log|dy/dx| = log(1 - 2a) - log p - log(1 - p)
  ```

  The range of the inverse is `(-a, 1 - a) / (1 - 2a)`, which is slightly longer than the unit interval. A density on
  the real line becomes a density on that longer interval, and samples can lie up to `a / (1 - 2a)` outside [0, 1].

  `tfb.Invert(tfb.Sigmoid(low, high))` with the ends of that interval is inexact near 1, where it rounds `high - x`: in
  float32 with `a = 1e-7`, it maps 1 to 15.94 instead of 16.12.

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017, section 4.1.
  """

  def __init__(self, alpha: float = 1e-7, validate_args: bool = False, name: str = 'alpha_logit'):
    """Builds the bijector.

    Args:
      alpha: `a` above, at least 0 and below 0.5. The paper's code uses 1e-7, and Dinh et al. use 0.05.
      validate_args: Whether TFP checks its arguments at run time.
      name: Name of the bijector.

    Raises:
      ValueError: If `alpha` is not a number in [0, 0.5).
    """
    parameters = dict(locals())
    check_number('alpha', alpha, 'a number of at least 0 and below 0.5', lambda v: 0 <= v < 0.5)
    with tf.name_scope(name) as name:
      self._alpha = float(alpha)
      super().__init__(forward_min_event_ndims=0, validate_args=validate_args, parameters=parameters, name=name)

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return {}

  @classmethod
  def _is_increasing(cls):
    return True

  def _log_p_log_q(self, x):
    # q = 1 - p is computed from 1 - x, because 1 - p would be rounded to 0 near x = 1 in float32, with an infinite log.
    shrink = 1 - 2 * self._alpha
    return tf.math.log(self._alpha + shrink * x), tf.math.log(self._alpha + shrink * (1 - x))

  def _forward(self, x):
    log_p, log_q = self._log_p_log_q(x)
    return log_p - log_q

  def _inverse(self, y):
    return (tf.sigmoid(y) - self._alpha) / (1 - 2 * self._alpha)

  def _forward_log_det_jacobian(self, x):
    log_p, log_q = self._log_p_log_q(x)
    return math.log1p(-2 * self._alpha) - log_p - log_q

  def _inverse_log_det_jacobian(self, y):
    return -tf.nn.softplus(-y) - tf.nn.softplus(y) - math.log1p(-2 * self._alpha)
