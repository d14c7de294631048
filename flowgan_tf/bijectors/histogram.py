"""The logit of cumulative probabilities, which makes the distribution of each pixel alone a logistic one."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from flowgan_tf.bijectors.base import OnePassBijector, VariableBijector, check_event_shape
from flowgan_tf.errors import check_integer, check_number


class HistogramLogit(VariableBijector, OnePassBijector):
  """The logit of the cumulative probability of each entry of an event, by a histogram of its own.

  ```none
  y_i = log(f_i / (1 - f_i)),   f_i = a + (1 - 2a) F_i(x_i)         log|dy/dx| = sum_i log f_i' - log f_i - log(1 - f_i)
  ```

  `F_i` is the integral of a histogram of `x_i` with equal bins between 0 and 1, so it is linear within each bin. Its
  first and its last piece go on beyond 0 and 1, until `f` is almost 0 or 1. In a new bijector all bins are equally
  probable, and `y` is the alpha-logit of `x`.

  If the histograms are those of the data, each `y_i` by itself has a standard logistic distribution, and a flow needs
  its couplings only for what pixels say about each other. The alpha-logit of a black pixel, dequantized by uniform
  noise, has the distribution of the logarithm of a uniform number. No affine coupling can make that logistic or normal.

  This is the first step of the Gaussianization of [1], with logistic instead of normal marginals. The density is exact
  for any histograms.

  Outside the range of the inverse the density is 0: `log|dy/dx|` is -inf, and `y` belongs to the nearest end. The
  inverse moves logits that rounding would take out of its range to an end, as `AlphaLogit` does.

  #### References

  [1]: Scott Chen, Ramesh Gopinath. Gaussianization. NeurIPS 2000.
  """

  def __init__(
    self,
    event_shape: Sequence[int],
    bins: int = 256,
    alpha: float = 1e-7,
    dtype: tf.DType = tf.float32,
    name: str = 'histogram_logit',
  ):
    """Builds the bijector.

    Args:
      event_shape: Shape of the event.
      bins: Number of bins of each histogram, best the number of grey levels.
      alpha: `a` above, which keeps `y` finite.
      dtype: Floating-point type of the histograms. The computation uses the input's type.

    Raises:
      UsageError: If `bins` or `alpha` is out of range.
    """
    parameters = dict(locals())
    check_integer('bins', bins, 2, 65_536)
    check_number('alpha', alpha, 'a number from 1e-30 to 0.1', lambda v: 1e-30 <= v <= 0.1)
    with tf.name_scope(name) as name:
      self._event_shape, self._bins, self._alpha = tuple(tf.TensorShape(event_shape)), int(bins), float(alpha)
      self._probs = tf.Variable(
        tf.fill((*self._event_shape, bins), tf.constant(1 / bins, dtype)), trainable=False, name='histograms'
      )
      super().__init__(forward_min_event_ndims=len(self._event_shape), parameters=parameters, name=name)

  @property
  def histograms(self) -> tf.Variable:
    """The probabilities of the bins, `[*event_shape, bins]`: positive, with a sum of 1 over the last axis."""
    return self._probs

  @property
  def is_new(self) -> bool:
    """Whether all bins are still equally probable."""
    return bool(tf.reduce_all(self._probs == self._probs[..., :1]))

  def _tables(self, dtype):
    """Returns `f` at the lower edge of each bin, `1 - f` at its upper edge, and the width of the bin in `f`, `[-1]`."""
    shrunk = (1 - 2 * self._alpha) * tf.cast(self._probs, dtype)
    below, above = (self._alpha + tf.cumsum(shrunk, -1, exclusive=True, reverse=reverse) for reverse in (False, True))
    return [tf.reshape(table, [-1]) for table in (below, above, shrunk)]

  def _flat(self, x):
    check_event_shape(x, self._event_shape, self.name)
    return tf.reshape(x, (-1, math.prod(self._event_shape))), self._least(x.dtype)

  def _least(self, dtype):
    """Returns the smallest `f` and `1 - f` with a density: far above the rounding of sums with alpha."""
    return tf.constant(self._alpha * self._rounding(dtype), dtype)

  @staticmethod
  def _rounding(dtype):
    return 16 * float(np.finfo(dtype.as_numpy_dtype).eps)

  def _index(self, k):
    return k + self._bins * tf.range(math.prod(self._event_shape))

  def _forward_and_log_det(self, x):
    flat, least = self._flat(x)
    scaled = flat * self._bins
    k = tf.floor(scaled)
    k = tf.where(k > 0, tf.minimum(k, self._bins - 1), tf.zeros_like(k))  # NaN has no bin.
    index = self._index(tf.cast(k, tf.int32))
    below, above, width = (tf.gather(table, index) for table in self._tables(x.dtype))
    part = scaled - k
    f, q = below + width * part, above + width * (1 - part)
    outside = (f < least) | (q < least)
    log_f, log_q = (tf.math.log(tf.where(v < least, least, tf.where(v > 1, tf.ones_like(v), v))) for v in (f, q))
    log_det = tf.math.log(width) + math.log(self._bins) - log_f - log_q
    log_det = tf.where(outside, tf.constant(-math.inf, x.dtype), log_det)
    return tf.reshape(log_f - log_q, tf.shape(x)), self._sum(log_det, x)

  def _inverse_and_log_det(self, y):
    flat, least = self._flat(y)
    below, above, width = self._tables(y.dtype)
    edges = tf.math.log(below) - tf.math.log(above + width)
    k = tf.zeros(tf.shape(flat), tf.int32)
    for step in reversed([2**i for i in range((self._bins - 1).bit_length())]):
      ahead = tf.minimum(k + step, self._bins - 1)
      k = tf.where(flat >= tf.gather(edges, self._index(ahead)), ahead, k)
    index = self._index(k)
    below, above, width = (tf.gather(table, index) for table in (below, above, width))
    # The smaller of f and 1 - f is the more exact one.
    f, q = tf.maximum(tf.sigmoid(flat), 2 * least), tf.sigmoid(-flat)
    part = tf.where(flat < 0, (f - below) / width, 1 - (q - above) / width)
    # Rounding must not reach another bin, or go beyond the ends, where numbers above 1 are too far apart for a small a.
    beyond = tf.maximum(self._alpha - least - self._rounding(y.dtype) * self._bins * width, 0) / width
    part = tf.minimum(part, tf.where(k < self._bins - 1, tf.zeros_like(beyond), beyond) + 1)
    part = tf.where(k > 0, tf.maximum(part, 0), part)
    x = (tf.cast(k, y.dtype) + part) / self._bins
    log_det = -tf.nn.softplus(-flat) - tf.nn.softplus(flat) - tf.math.log(width) - math.log(self._bins)
    return tf.reshape(x, tf.shape(y)), self._sum(log_det, y)

  def _sum(self, log_dets, x):
    return tf.reshape(tf.reduce_sum(log_dets, axis=-1), tf.shape(x)[: x.shape.rank - len(self._event_shape)])
