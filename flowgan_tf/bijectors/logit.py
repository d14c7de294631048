"""The alpha-logit, which maps the unit interval to the real line without infinities at its ends."""

import functools
import math

import numpy as np
import tensorflow as tf

from flowgan_tf.base.errors import check, check_range
from flowgan_tf.base.settings import ALPHAS
from flowgan_tf.bijectors.base import OnePassBijector


class AlphaLogit(OnePassBijector):
  """The logit of a slightly shrunk unit interval, so that 0 and 1 are mapped to finite values.

  ```none
  y = log(p / (1 - p)),   p = a + (1 - 2a) x         log|dy/dx| = log(1 - 2a) - log p - log(1 - p)
  ```

  The range of the inverse is `(-a, 1 - a) / (1 - 2a)`, which is slightly longer than the unit interval. A density on
  the real line becomes a density on that longer interval, and samples can lie up to `a / (1 - 2a)` outside [0, 1].

  In floating point the support is a closed interval, `support(dtype)`. It leaves out the numbers within a few roundings
  of the ends of the range, because their `p` or `1 - p` would be rounded to 0. The inverse returns only numbers of the
  support, so every sample has a finite density. It maps a logit beyond the logit of an end to that end. This moves `x`
  by at most one spacing of the numbers there, or 8 roundings of `a`. In float32 with `a = 1e-7`, the upper end is 1 and
  its logit 16.12. The gradient of the inverse, which would be as small as that rounding, is 0 there.

  So a sample at an end of the support stands for all logits beyond it, and has the density of the end. But TFP's cache
  remembers the logit that a sample came from, so the bijector maps the very tensor that it returned back to that logit.
  In one `tf.function` a flow does so, too: `log_prob` of what `sample` returned is the density at that logit.
  In eager mode, as for the same numbers from a file, it is the density at the end.

  Outside the support the density is 0: `log|dy/dx|` is -inf, and `y` is the logit of the nearest end. Both have
  gradient 0.

  `tfb.Invert(tfb.Sigmoid(low, high))` with the ends of that interval is inexact near 1, where it rounds `high - x`: in
  float32 with `a = 1e-7`, it maps 1 to 15.94 instead of 16.12.

  Source: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017, section 4.1.
  """

  def __init__(self, alpha: float = 1e-7, name: str = 'alpha_logit'):
    """Builds the bijector.

    Args:
      alpha: `a` above, a Python number from 0 to 0.499. The paper's code uses 1e-7, and Dinh et al. use 0.05.

    Raises:
      UsageError: If `alpha` is out of range.
    """
    parameters = dict(locals())
    check_range('alpha', alpha, *ALPHAS)
    with tf.name_scope(name) as name:
      self._alpha = float(alpha)
      super().__init__(forward_min_event_ndims=0, parameters=parameters, name=name)

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return {}

  @classmethod
  def _is_increasing(cls):
    return True

  @property
  def alpha(self) -> float:
    """`a` above."""
    return self._alpha

  def support(self, dtype: tf.DType) -> tuple[float, float]:
    """Returns the smallest and the largest `x` that have a density, in the floating-point type `dtype`."""
    dtype = tf.as_dtype(dtype)
    check('dtype', dtype.name, 'a floating-point type', dtype.is_floating)
    return _support(self._alpha, dtype)

  def _log_p_log_q(self, x):
    # q = 1 - p is computed from 1 - x, because 1 - p would be rounded to 0 near x = 1 in float32, and its log would be
    # infinite. We clip 1 - x again, which leaves it as it is, because grappler would add `alpha + shrink * (1 - x)` in
    # another order, where `alpha + 1` is rounded to 1.
    lowest, highest = self.support(x.dtype)
    shrink = 1 - 2 * self._alpha
    x = tf.clip_by_value(x, lowest, highest)
    p = self._alpha + shrink * x
    q = self._alpha + shrink * tf.clip_by_value(1 - x, 1 - highest, 1 - lowest)
    return tf.math.log(p), tf.math.log(q)

  def _forward_and_log_det(self, x):
    lowest, highest = self.support(x.dtype)
    log_p, log_q = self._log_p_log_q(x)
    log_det = math.log1p(-2 * self._alpha) - log_p - log_q
    return log_p - log_q, tf.where((x < lowest) | (x > highest), tf.constant(-math.inf, x.dtype), log_det)

  def _inverse_and_log_det(self, y):
    x = (tf.sigmoid(y) - self._alpha) / (1 - 2 * self._alpha)
    log_det = -tf.nn.softplus(-y) - tf.nn.softplus(y) - math.log1p(-2 * self._alpha)
    return tf.clip_by_value(x, *self.support(x.dtype)), log_det


@functools.lru_cache
def _support(alpha: float, dtype: tf.DType) -> tuple[float, float]:
  real = dtype.as_numpy_dtype
  epsilon = float(np.nextafter(real(1), real(2))) - 1
  # The smallest p and q: at least 8 roundings of their terms, of which 2 occur, and at least 4 / max, the smallest
  # normal number, because smaller ones are flushed to 0.
  least = max(8 * epsilon * alpha, 4 / float(dtype.max))
  beyond = (alpha - least) / (1 - 2 * alpha) if alpha > 2 * least else -least
  lowest, highest = real(-beyond), real(1 + beyond)
  # Rounding must not move the upper end outwards, where floating-point numbers are far apart.
  highest = highest if float(highest) - 1 <= beyond else np.nextafter(highest, real(0))
  return float(lowest), float(highest)
