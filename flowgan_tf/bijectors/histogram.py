"""The logit of cumulative probabilities, which makes the distribution of each pixel a logistic one."""

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf.base.errors import check, check_integer, check_range
from flowgan_tf.base.settings import MOST_BINS
from flowgan_tf.bijectors.base import OnePassBijector, VariableBijector, check_event_shape
from flowgan_tf.bijectors.grids import grids, turns
from flowgan_tf.networks.adapter import KerasModule

# Networks share out the mass among groups of bins, and leave each group this share of what the histogram gives it.
_LEAST_SHARE = 1e-3
# The lower half of the edges of groups of 256 bins. Grey levels near black and near white are the most frequent ones.
_GROUP_EDGES = (1, 2, 3, 4, 5, 6, *range(8, 129, 4))
_LEAST_DENSITY = 0.1  # with respect to the unit interval, for `surrogate_gradients`

_PER_CALL = 1000

# Where a pixel has few training images of a level, its histogram borrows from the histogram of all pixels, as if there
# were this many more images. And all bins share this much equally, so that float32 resolves each of them; that costs
# 0.16 nats for an image of MNIST.
_BORROWED = 20
_EQUAL = 2e-4


class HistogramLogit(VariableBijector, OnePassBijector):
  """The logit of the cumulative probability of each entry of an event, by a histogram of its own.

  ```none
  y_i = log(f_i / (1 - f_i)),   f_i = a + (1 - 2a) F_i(x_i)         log|dy/dx| = sum_i log f_i' - log f_i - log(1 - f_i)
  ```

  `F_i` is the integral of a histogram of `x_i` with equal bins between 0 and 1, so it is linear within each bin. Beyond
  0 and 1 it goes on with slope 1, so the range of the inverse is `AlphaLogit`'s. In a new bijector all bins are equally
  probable, and `y` is the alpha-logit of `x`.

  With histograms of the data, each `y_i` by itself has a standard logistic distribution. Uniform noise makes a black
  pixel a uniform number, so its alpha-logit is distributed like the logarithm of one. No affine coupling can make that
  logistic or normal. This is the first step of the Gaussianization of [1], with logistic instead
  of normal marginals. The density is exact for any histograms.

  **Given coarser pixels.** With `conditioners`, the histogram of a pixel depends on other pixels. In each block of 2x2
  pixels, the upper right one depends on the first network, which sees the other three pixels of every block. The lower
  left one depends on the second network, which sees two pixels of every block, and the lower right one on the third,
  which sees the upper left pixels alone. These are an image of half the size, in which further networks go on in the
  same way:

  ```none
  . 0 3 0      the number of the network that a pixel depends on, of six;
  1 2 1 2      pixels without a number have the histogram of the data
  4 0 5 0
  1 2 1 2
  ```

  A network does not say how probable each bin is, but how probable groups of bins are. Of 256 bins, each of the first
  six and the last six is a group of its own. The next two bins at each end form a group, and all others form groups of
  four. Other numbers of bins are divided in the same proportions, but the first bin and the last one always are groups.
  Within a group, the histogram does not change:

  ```none
  P_g = (1 - e) softmax_g(log Q_g + network_g(coarser pixels)) + e Q_g
  ```

  `Q_g` is the probability of the group by the pixel's histogram, and `e` is 0.001. A network of zeros changes nothing.
  The order is as in [2]. From noise to an image, the networks take turns, the last one first. They see the middle
  of the bin instead of the pixel, so that rounding does not change what they return, even in bfloat16.

  Outside the range of the inverse the density is 0: `log|dy/dx|` is -inf, and `y` belongs to the nearest end. The
  inverse moves logits that rounding would take out of its range to an end, as `AlphaLogit` does.

  #### References

  [1]: Scott Chen, Ramesh Gopinath. Gaussianization. NeurIPS 2000.
  [2]: Scott Reed et al. Parallel Multiscale Autoregressive Density Estimation. ICML 2017.
  """

  accepts_training = True
  fit_images = None  #: `fit` takes as many images as there are.

  #: Adversarial training sets this. It changes gradients alone. They pass through the networks by way of the scaled
  #: pixels that these see, as if they were not rounded to bins, but not by way of the logits. And dx/dy treats a bin of
  #: a density below 0.1 as if it had 0.1: the true derivative is very large where hardly any sample lies, so a few
  #: pixels would outweigh all others.
  surrogate_gradients: bool = False

  def __init__(
    self,
    event_shape: Sequence[int],
    bins: int = 256,
    alpha: float = 1e-7,
    dtype: tf.DType = tf.float32,
    name: str = 'histogram_logit',
    *,
    conditioners: Sequence[keras.Layer] = (),
    condition_shape: Sequence[int] | None = None,
  ):
    """Builds the bijector.

    Args:
      event_shape: Shape of the event; with `conditioners` an image, `(height, width, channels)`.
      bins: Number of bins of each histogram, best the number of grey levels.
      alpha: `a` above, which keeps `y` finite.
      dtype: Floating-point type of the histograms. The computation uses the input's type, float32 or float64.
      name: Name of the bijector, unique within a `tfb.Chain` that is called with `training`.
      conditioners: Keras layers that map images with zeros in place of what they do not see to `group_count(bins)`
        outputs for each channel of the event, in the order channels, groups. The images have twice the channels of the
        event: the pixels, scaled to [-2, 2], and then half of their logits.
      condition_shape: Shape of a condition, as for an `AdditiveCoupling`, of the conditioners.

    Raises:
      UsageError: If `bins` or `alpha` is out of range, or the image has too few pixels for so many conditioners.
    """
    parameters = dict(locals())
    check_integer('bins', bins, 2, MOST_BINS)
    check_range('alpha', alpha, 1e-30, 0.1)
    with tf.name_scope(name) as name:
      self._event_shape, self._bins, self._alpha = tuple(tf.TensorShape(event_shape)), int(bins), float(alpha)
      self._size = math.prod(self._event_shape)
      self._edges = _group_edges(bins) if conditioners else np.array([0, bins], np.int32)
      self._group = np.searchsorted(self._edges, np.arange(bins), side='right') - 1  # of each bin
      self._probs = tf.Variable(
        tf.fill((*self._event_shape, bins), tf.constant(1 / bins, dtype)), trainable=False, name='histograms'
      )
      most = len(self.distances(self._event_shape)) if conditioners else 0
      expected = f'at most {most} for events of shape {self._event_shape}'
      check('conditioners', len(conditioners), expected, len(conditioners) <= most)
      # The inverse first finds the entries that depend on no network. Then the networks predict, the last one first.
      self._grids = grids(self._event_shape, len(conditioners))[::-1]
      self._entries = turns(self._event_shape, self._grids)
      self._places = np.argsort(np.concatenate(self._entries))
      inputs = (*self._event_shape[:-1], 2 * self._event_shape[-1]) if conditioners else ()
      self._conditioners = [
        KerasModule(conditioner, inputs, condition_shape=condition_shape) for conditioner in conditioners
      ]
      outputs = (*self._event_shape[:-1], self._event_shape[-1] * (len(self._edges) - 1))
      for module in self._conditioners:
        found = module.output_event_shape
        check('conditioners', found, f'networks that return the shape {outputs}', found == outputs)
      expected = 'None without `conditioners`'
      check('condition_shape', condition_shape, expected, condition_shape is None or bool(conditioners))
      self.accepts_condition = condition_shape is not None
      super().__init__(forward_min_event_ndims=len(self._event_shape), parameters=parameters, name=name)

  @staticmethod
  def group_count(bins: int) -> int:
    """Returns the number of groups of bins, among which networks share out the probability."""
    return len(_group_edges(bins)) - 1

  @staticmethod
  def distances(event_shape: Sequence[int]) -> list[int]:
    """Returns, for each possible network, how far its own pixels are from the nearest one that it sees."""
    return [grid.distance for grid in grids(event_shape)]

  @property
  def histograms(self) -> tf.Variable:
    """The probabilities of the bins, `[*event_shape, bins]`: positive, with a sum of 1 over the last axis."""
    return self._probs

  @property
  def has_networks(self) -> bool:
    """Whether there are `conditioners`."""
    return bool(self._conditioners)

  @property
  def alpha(self) -> float:
    """`a` above."""
    return self._alpha

  @property
  def turns(self) -> int:
    """How many times the inverse goes on to further entries: once more than there are networks."""
    return len(self._entries)

  def bin_probs(self, x: tf.Tensor, turn: int, condition: tf.Tensor | None = None) -> tuple[np.ndarray, tf.Tensor]:
    """Returns which entries the inverse finds in a turn, and the probabilities of their bins.

    Args:
      x: Events `[n, *event_shape]` in [0, 1]. Only the bins of entries of earlier turns matter.
      turn: From 0 to `turns - 1`.
      condition: As in `forward`.

    Returns:
      The positions of the m entries in a flat event, ints `[m]`, and the probabilities, `[n, m, bins]`.
    """
    flat, condition = self._flat(x, condition)
    entries = self._entries[turn]
    groups, (*_, width) = self._tables(x.dtype)
    probs = self._group_probs(groups, self._network_inputs(flat) if turn else None, turn, False, condition)
    width = tf.gather(tf.reshape(width, (self._size, self._bins)), entries)
    probs = tf.gather(probs, self._group, axis=-1) * width
    return entries, tf.broadcast_to(probs, (tf.shape(flat)[0], *width.shape))

  def fit(self, values: tf.Tensor, inverse: bool = False) -> None:
    """Counts the histograms of images `[n, *event_shape]` in [0, 1].

    In a bin with few images, a pixel's histogram borrows from the histogram of all pixels, and no bin is empty.

    Raises:
      UsageError: If there are no images, they have another shape, or a value is not in [0, 1].
    """
    del inverse  # Images are always what the forward direction gets.
    shape = np.shape(values)
    check('values', f'shape {shape}', f'images [n, *{self._event_shape}]', shape[1:] == self._event_shape and shape[0])
    low, high = np.min(values), np.max(values)
    check('values', f'{low:g} to {high:g}', 'images in [0, 1]', low >= 0 and high <= 1)
    images, firsts = np.asarray(values), self._bins * np.arange(self._size)
    counts = np.zeros(self._size * self._bins)
    for i in range(0, len(images), _PER_CALL):
      rows = images[i : i + _PER_CALL].reshape(-1, self._size)
      levels = np.minimum(np.floor(rows * self._bins), self._bins - 1)
      counts += np.bincount((levels.astype(int) + firsts).ravel(), minlength=len(counts))
    counts = counts.reshape(-1, self._bins)
    probs = (counts + _BORROWED * counts.mean(axis=0) / len(images)) / (len(images) + _BORROWED)
    probs = (1 - _EQUAL) * probs + _EQUAL / self._bins
    self._probs.assign(probs.reshape(self._probs.shape))

  @property
  def is_new(self) -> bool:
    """Whether all bins are still equally probable."""
    return bool(tf.reduce_all(self._probs == self._probs[..., :1]))

  def _tables(self, dtype):
    """Returns what depends on the histograms alone.

    `Q_g`, `[size, groups]`, and of each bin, `[size bins]`: where it begins within its group, how far from the end of
    the group it ends, and its width, as parts of the group.
    """
    probs = tf.reshape(tf.cast(self._probs, dtype), (self._size, self._bins))
    probs /= tf.reduce_sum(probs, axis=-1, keepdims=True)  # float32 histograms sum to 1 only in float32.
    group = self._group
    of_group = group[:, np.newaxis] == np.arange(len(self._edges) - 1)
    same, number = group[:, np.newaxis] == group, np.arange(self._bins)
    before = tf.constant(same & (number[:, np.newaxis] < number), dtype)
    groups = probs @ tf.constant(of_group, dtype)
    whole = tf.gather(groups, group, axis=1)
    bins = (probs @ before, tf.linalg.matmul(probs, before, transpose_b=True), probs)
    return groups, [tf.reshape(part / whole, [-1]) for part in bins]

  def _network_inputs(self, x):
    """Returns what networks may see of `x`, rows in [0, 1]: images of the scaled levels and of their logits."""
    x = tf.reshape(x, (-1, *self._event_shape))
    levels = tf.stop_gradient((tf.minimum(tf.floor(x * self._bins), self._bins - 1) + 0.5) / self._bins)
    logits = tf.math.log(levels) - tf.math.log(1 - levels)  # They tell levels near black and near white apart.
    if self.surrogate_gradients:
      levels += x - tf.stop_gradient(x)
    return tf.concat([4 * levels - 2, logits / 2], axis=-1)

  def _group_probs(self, groups, inputs, turn, training, condition):
    """Returns `P_g`, `[n, entries, groups]`, of the entries whose turn it is, given the inputs of networks."""
    groups = tf.gather(groups, self._entries[turn])[tf.newaxis]
    if turn == 0:
      return groups
    grid = self._grids[turn - 1]
    seen = inputs * tf.constant(grid.seen[..., np.newaxis], inputs.dtype)
    output = self._conditioners[-turn](seen, training=training, condition=condition)[:, *grid.pixels]
    output = tf.reshape(output, (-1, *groups.shape[1:]))
    return (1 - _LEAST_SHARE) * tf.nn.softmax(tf.math.log(groups) + output) + _LEAST_SHARE * groups

  def _flat(self, x, condition):
    """Returns events as rows, and their conditions."""
    check_event_shape(x, self._event_shape, self.name)
    has_condition, expected = condition is not None, 'given if and only if there is a `condition_shape`'
    check('condition', 'a condition' if has_condition else None, expected, has_condition == self.accepts_condition)
    if has_condition:
      shape = self._conditioners[0].condition_shape
      check_event_shape(condition, shape, self.name)
      condition = tf.reshape(tf.broadcast_to(condition, tf.concat([self._batch(x), shape], 0)), (-1, *shape))
    return tf.reshape(x, (-1, self._size)), condition

  def _batch(self, x):
    return tf.shape(x)[: tf.rank(x) - len(self._event_shape)]

  def _chosen(self, probs, k):
    """Returns the probability of the group that holds bin `k`, and the sums over the groups below and above it."""
    chosen, groups = tf.gather(self._group, k)[..., tf.newaxis], np.arange(len(self._edges) - 1)
    masks = groups == chosen, groups < chosen, groups > chosen  # Several times faster than `tf.cumsum` on a CPU.
    return [tf.reduce_sum(tf.where(mask, probs, tf.zeros((), probs.dtype)), axis=-1) for mask in masks]

  def _least(self, dtype):
    """Returns the smallest `f` and `1 - f` with a density: far above the rounding of sums with alpha."""
    return tf.constant(self._alpha * self._rounding(dtype), dtype)

  @staticmethod
  def _rounding(dtype):
    return 16 * float(np.finfo(dtype.as_numpy_dtype).eps)

  def _index(self, k, entries):
    return k + tf.constant(self._bins * entries, tf.int32)

  def _join(self, parts):
    """Returns `[n, size]` from the entries of each turn."""
    return tf.gather(tf.concat(parts, axis=-1), self._places, axis=-1)

  def _forward_and_log_det(self, x, training=False, condition=None):
    flat, condition = self._flat(x, condition)
    least, shrink = self._least(x.dtype), 1 - 2 * self._alpha
    inside = tf.clip_by_value(flat, 0, 1)
    k = tf.floor(inside * self._bins)
    k = tf.where(k > 0, tf.minimum(k, self._bins - 1), tf.zeros_like(k))  # NaN has no bin.
    part, beyond, k = inside * self._bins - k, flat - inside, tf.cast(k, tf.int32)
    groups, bins = self._tables(x.dtype)
    before, after, width = (tf.gather(table, self._index(k, np.arange(self._size))) for table in bins)
    inputs, chosen = self._network_inputs(inside) if self.has_networks else None, []
    for turn, entries in enumerate(self._entries):
      probs = self._group_probs(groups, inputs, turn, training, condition)
      chosen.append(self._chosen(probs, tf.gather(k, entries, axis=-1)))
    prob, below, above = (self._join(parts) for parts in zip(*chosen, strict=True))
    f = self._alpha + shrink * (below + prob * (before + width * part) + beyond)
    q = self._alpha + shrink * (above + prob * (after + width * (1 - part)) - beyond)
    outside = (f < least) | (q < least)
    log_f, log_q = (tf.math.log(tf.where(v < least, least, tf.where(v > 1, tf.ones_like(v), v))) for v in (f, q))
    log_density = tf.math.log(prob) + tf.math.log(width) + math.log(self._bins)
    log_density = tf.where(tf.math.is_nan(flat) | (beyond == 0), log_density, tf.zeros_like(log_density))
    log_det = log_density + math.log(shrink) - log_f - log_q
    log_det = tf.where(outside, tf.constant(-math.inf, x.dtype), log_det)
    return tf.reshape(log_f - log_q, tf.shape(x)), self._sum(log_det, x)

  def _inverse_and_log_det(self, y, training=False, condition=None):
    flat, condition = self._flat(y, condition)
    groups, bins = self._tables(y.dtype)
    parts, unknown = [], tf.zeros_like(flat)
    for turn, entries in enumerate(self._entries):
      known = self._join([*(tf.clip_by_value(x, 0, 1) for x, _ in parts), unknown])
      inputs = self._network_inputs(known) if turn else None
      probs = self._group_probs(groups, inputs, turn, training, condition)
      parts.append(self._pixels(tf.gather(flat, entries, axis=-1), probs, bins, entries))
      unknown = unknown[:, len(entries) :]
    x, log_det = (self._join(found) for found in zip(*parts, strict=True))
    return tf.reshape(x, tf.shape(y)), self._sum(log_det, y)

  def _pixels(self, y, probs, bins, entries):
    """Returns the entries whose logits are `y`, and the log-derivative of each."""
    least, shrink = self._least(y.dtype), 1 - 2 * self._alpha
    f, q = ((tf.maximum(v, 2 * least) - self._alpha) / shrink for v in (tf.sigmoid(y), tf.sigmoid(-y)))
    # The smaller of two numbers that sum to 1 is the more exact one, here and below.
    groups = np.arange(len(self._edges) - 1)
    before = tf.constant(groups[:, np.newaxis] < groups[1:], probs.dtype)
    lower, upper = (tf.linalg.matmul(probs, mask) for mask in (before, 1 - before))
    low = y < 0
    passed = tf.where(low[..., tf.newaxis], f[..., tf.newaxis] >= lower, q[..., tf.newaxis] <= upper)
    group = tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)
    first, last = tf.gather(self._edges[:-1], group), tf.gather(self._edges[1:] - 1, group)
    prob, below, above = self._chosen(probs, first)
    from_start, from_end = f - below, q - above
    from_start, from_end = tf.where(low, from_start, prob - from_end), tf.where(low, prob - from_start, from_end)
    widest = int(np.diff(self._edges).max())
    k, step = first, 2 ** (widest - 1).bit_length() // 2
    while step:
      ahead = tf.minimum(k + step, last)
      before, after, width = (prob * tf.gather(table, self._index(ahead, entries)) for table in bins)
      k = tf.where(tf.where(2 * from_start < prob, from_start >= before, from_end <= after + width), ahead, k)
      step //= 2
    before, after, width = (prob * tf.gather(table, self._index(k, entries)) for table in bins)
    divide = self._divide if self.surrogate_gradients else tf.divide
    part = tf.where(2 * from_start < prob, divide(from_start - before, width), 1 - divide(from_end - after, width))
    part = tf.clip_by_value(part, 0, 1)
    # Rounding must not reach another bin.
    margin = tf.constant(min(self._bins * float(np.finfo(y.dtype.as_numpy_dtype).eps), 0.5), y.dtype)
    part = tf.where((k > 0) & (part < margin), margin, part)
    part = tf.where((k < self._bins - 1) & (part > 1 - margin), 1 - margin, part)
    x = (tf.cast(k, y.dtype) + part) / self._bins
    # Near 1, numbers are too far apart for a small alpha.
    most = max(self._alpha - 2 * (self._alpha + 1) * self._rounding(y.dtype), 0) / shrink
    below, above = f < -least, q < -least  # Less than this is rounding, which the forward direction does not see.
    x = tf.where(below, f, tf.where(above, 1 + tf.minimum(-q, most), x))
    log_density = tf.math.log(width) + math.log(self._bins)
    log_density = tf.where(below | above, tf.zeros_like(log_density), log_density)
    return x, -tf.nn.softplus(-y) - tf.nn.softplus(y) - log_density - math.log(shrink)

  def _divide(self, numerator, width):
    """Returns the quotient, with the gradient of a bin whose density is at least `_LEAST_DENSITY`."""

    @tf.custom_gradient
    def quotient(numerator, width):
      part = numerator / width

      def gradient(upstream):
        scaled = upstream / tf.maximum(width, _LEAST_DENSITY / self._bins)
        return scaled, -scaled * part

      return part, gradient

    return quotient(numerator, width)

  def _sum(self, log_dets, x):
    return tf.reshape(tf.reduce_sum(log_dets, axis=-1), self._batch(x))


def _group_edges(bins: int) -> np.ndarray:
  """Returns the first bin of each group, and `bins`."""
  lower = np.round(np.array(_GROUP_EDGES) / 256 * bins)
  return np.unique(np.concatenate([[0, 1, bins - 1, bins], lower, bins - lower]).astype(np.int32))
