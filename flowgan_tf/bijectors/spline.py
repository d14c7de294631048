"""A coupling that changes numbers by monotonic splines."""

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf.base.errors import check_integer, check_range
from flowgan_tf.base.settings import SPLINE_BINS, SPLINE_BOUNDS
from flowgan_tf.bijectors import masks
from flowgan_tf.bijectors.base import OnePassBijector
from flowgan_tf.bijectors.coupling import Coupling

_LEAST = 1e-3  # width or height of a bin, as a share of the range, and slope at a knot
_TINY = 1e-30


class SplineCoupling(Coupling):
  """Changes each number of one part of the event by a monotonic rational-quadratic spline.

  ```none
  y_kept    = x_kept
  y_changed = f(x_changed),   f(x) = y_k + h_k (s t^2 + d_k t (1 - t)) / (s + (d_k + d_k+1 - 2 s) t (1 - t))
  log|det dy/dx| = sum log f'
  ```

  The knots `(x_k, y_k)` divide the range from `-bound` to `bound` into bins of widths `w_k` and heights `h_k`, and
  `d_k` is the slope at a knot; `s = h_k / w_k` and `t = (x - x_k) / w_k`. At the ends of the range the slope is 1, and
  beyond them `f(x) = x`. No bin is smaller than 0.001 of the range, and no slope at a knot is smaller than 0.001. If
  the conditioner returns zeros, `f` is the identity.

  Source: Conor Durkan, Artur Bekasov, Iain Murray, George Papamakarios. Neural Spline Flows. NeurIPS 2019, section 3.1.
  """

  def __init__(
    self,
    conditioner: keras.Layer | tf.Module,
    mask: masks.Mask | np.ndarray,
    bins: int = 8,
    bound: float = 4.0,
    name: str = 'spline_coupling',
    condition_shape: Sequence[int] | None = None,
  ):
    """Builds the coupling.

    Args:
      conditioner, mask, name, condition_shape: As for a `Coupling`. The conditioner returns `3 bins - 1` numbers for
        each changed one. A softmax turns the first `bins` of them into the widths of the bins, and another one the next
        `bins` into their heights. A softplus turns the others into slopes.
      bins: Number of bins, from 2 to 256.
      bound: Where the range ends on both sides.

    Raises:
      UsageError: As for a `Coupling`, or if `bins` or `bound` is out of range.
    """
    check_integer('bins', bins, *SPLINE_BINS)
    check_range('bound', bound, *SPLINE_BOUNDS)
    self._bins, self._bound = int(bins), float(bound)
    super().__init__(conditioner, mask, self._spline, 3 * self._bins - 1, name, condition_shape)

  def _spline(self, params):
    # As a matrix with a row for each number, because a softmax on a CPU takes at most five axes.
    outputs = 3 * self._bins - 1
    of_channels = tf.reshape(params, [-1, outputs, self._mask.changed_shape[-1]])
    params = tf.reshape(tf.transpose(of_channels, [0, 2, 1]), [-1, outputs])
    widths, heights, slopes = tf.split(params, [self._bins, self._bins, self._bins - 1], axis=-1)
    end = tf.ones_like(widths[..., :1])
    slopes = _LEAST + tf.nn.softplus(slopes + math.log(math.expm1(1 - _LEAST)))
    knots = []
    for h in (widths, heights):
      sizes = _LEAST + (1 - self._bins * _LEAST) * tf.nn.softmax(h)
      knots.append(self._bound * tf.concat([-end, 2 * tf.cumsum(sizes[..., :-1], axis=-1) - 1, end], axis=-1))
    return _Spline(*knots, tf.concat([end, slopes, end], axis=-1), self._bound)


class _Spline(OnePassBijector):
  """A spline of each number, by its knots `x` and `y` and the slopes there, `[numbers, bins + 1]`.

  `tfb.RationalQuadraticSpline` is slower, as it searches again for the log-det. It returns NaN where rounding makes a
  discriminant negative, and its gradients are NaN for large numbers.
  """

  def __init__(self, x, y, slope, bound):
    self.x, self.y, self.slope, self.bound = x, y, slope, bound
    super().__init__(forward_min_event_ndims=0, name='spline')

  def _forward_and_log_det(self, x):
    return self._apply(x, inverse=False)

  def _inverse_and_log_det(self, y):
    return self._apply(y, inverse=True)

  def _apply(self, v, inverse):
    flat = tf.reshape(v, [-1])
    inside = ~(tf.abs(flat) >= self.bound)  # NaN is inside, and remains NaN.
    safe = tf.where(inside, flat, tf.zeros_like(flat))
    knots = self.y if inverse else self.x
    k = tf.searchsorted(knots[:, 1:-1], safe[:, tf.newaxis], side='right')[:, 0]
    x0, x1, y0, y1, d0, d1 = (
      tf.gather(table, k + i, axis=1, batch_dims=1) for table in (self.x, self.y, self.slope) for i in (0, 1)
    )
    width, height = x1 - x0, y1 - y0
    s = height / width
    bend = d0 + d1 - 2 * s
    if inverse:
      # The root of a t^2 + b t = s rise, in the form that keeps its digits if a is small.
      rise = safe - y0  # Rounding may bring t out of [0, 1], here and below.
      b = height * d0 - bend * rise
      a = height * s - b
      t = tf.clip_by_value(2 * s * rise / (b + tf.sqrt(tf.maximum(b**2 + 4 * a * s * rise, _TINY))), 0, 1)
      result = x0 + t * width
    else:
      t = tf.clip_by_value((safe - x0) / width, 0, 1)
      result = y0 + height * (s * t**2 + d0 * t * (1 - t)) / (s + bend * t * (1 - t))
    log_slope = tf.math.log(s**2 * (d1 * t**2 + 2 * s * t * (1 - t) + d0 * (1 - t) ** 2))
    log_slope -= 2 * tf.math.log(s + bend * t * (1 - t))
    log_det = -log_slope if inverse else log_slope
    results = tf.where(inside, result, flat), tf.where(inside, log_det, tf.zeros_like(flat))
    return tuple(tf.reshape(each, tf.shape(v)) for each in results)
