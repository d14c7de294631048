"""Bijectors that compute their value and log-determinant in one pass."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp

# This module is private to TFP. tfb.FFJORD uses it in the same way, to keep the value and log-det of one solve.
from tensorflow_probability.python.internal import cache_util

__all__ = ['OnePassBijector', 'clear_caches']


class OnePassBijector(tfp.bijectors.Bijector):
  """A bijector that computes `y` and `log|det dy/dx|` together.

  A plain `tfb.Bijector` computes the value in `_forward` and the log-det in `_forward_log_det_jacobian`, so that a
  coupling would run its network twice for each `log_prob`. And TFP may ask for the log-det at the value instead of at
  the argument, where what distinguished the argument is lost. A subclass of this one implements

  ```none
  _forward_and_log_det(x, training)  ->  y, log|det dy/dx|
  _inverse_and_log_det(y, training)  ->  x, log|det dx/dy|
  ```

  and TFP's cache keeps both results. The log-determinants have the batch shape of the input, or are scalars if they are
  constant. `training` reaches these methods as a keyword argument (see `training_kwargs`).
  """

  _cache = cache_util.BijectorCacheWithGreedyAttrs(forward_name='_cached_forward', inverse_name='_cached_inverse')

  def _forward_and_log_det(self, x: tf.Tensor, **kwargs) -> tuple[tf.Tensor, tf.Tensor]:
    raise NotImplementedError

  def _inverse_and_log_det(self, y: tf.Tensor, **kwargs) -> tuple[tf.Tensor, tf.Tensor]:
    raise NotImplementedError

  # TFP stores the log-dets of both directions under one key, 'ildj', as that of the inverse.

  def _cached_forward(self, x, **kwargs):
    y, fldj = self._forward_and_log_det(x, **kwargs)
    return y, {'ildj': -fldj}

  def _cached_inverse(self, y, **kwargs):
    x, ildj = self._inverse_and_log_det(y, **kwargs)
    return x, {'ildj': ildj}

  def _forward(self, x, **kwargs):
    return self._forward_and_log_det(x, **kwargs)[0]

  def _inverse(self, y, **kwargs):
    return self._inverse_and_log_det(y, **kwargs)[0]

  # TFP calls these only if the log-det is asked for before the value.

  def _forward_log_det_jacobian(self, x, **kwargs):
    return self._forward_and_log_det(x, **kwargs)[1]

  def _inverse_log_det_jacobian(self, y, **kwargs):
    return self._inverse_and_log_det(y, **kwargs)[1]


def clear_caches() -> None:
  """Clears the caches of TFP's bijectors, which would otherwise keep every graph and its flow alive for ever.

  The caches belong to classes, not to instances. They hold weak references to outputs, but strong references to
  log-determinants. A log-determinant that is a graph's tensor refers to the graph, and the graph owns the very tensors
  that would have to be deleted for their entries to be cleared.
  """
  for owner in (tfp.bijectors.Bijector, OnePassBijector):
    vars(owner)['_cache'].clear()  # Called on the class's cache, this clears the entries of all instances.
