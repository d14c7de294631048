"""Checks of the data that Keras is given: arrays and datasets before anything is traced, and batches in the steps."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.flows.checks import DEQUANTIZE, check_events, check_values
from flowgan_tf.flows.flow import Flow


class FlowData:
  """What a flow takes from Keras: images, and conditions for each.

  Attributes:
    takes_pairs: Whether nothing can be said of an image without its `y`.
    in_unit_cube: Whether its images lie in [0, 1]. A flow that was put together by hand may have another support, and
      so has a flow of vectors.
  """

  def __init__(self, flow: Flow):
    """Looks at the flow, whose data are checked."""
    self._flow = flow
    self.takes_pairs = flow.condition_shape is not None
    self.in_unit_cube = flow._build is not None and flow.event_shape.rank == 3

  def check(self, x: Any, y: Any = None, sample_weight: Any = None, predict: bool = False) -> None:
    """Checks arrays and datasets before anything is traced. Other kinds of data appear only in the steps.

    Raises:
      UsageError: If images, labels, conditions or weights have another type, shape or number than the flow takes, or
        values that it does not take; or if there is no image.
    """
    check('x', x, 'images, or a dataset of them', x is not None)
    for name, value in (('x', x), ('y', y), ('sample_weight', sample_weight)):
      expected = 'an array without masked values, as Keras drops the mask'
      check(name, 'a masked array', expected, not np.ma.is_masked(value))
    if isinstance(x, list | tuple | dict):
      self._check_batch(x, y, predict)
    if isinstance(x, tf.data.Dataset):
      check('x', x, 'a dataset with images in it', int(x.cardinality()) != 0)
      images, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
      if predict and self.takes_pairs and isinstance(images, list | tuple):
        images, y = images
      self._check_batch(images, y, predict)
    elif is_array(x):
      self._check_batch(x, y, predict)
      check('images', len(x), 'at least one image', len(x) > 0)
      if sample_weight is not None:
        _check_weights(sample_weight, len(x))
      if y is not None and self._flow._is_conditional:
        check('y', len(y), f'as many as the images, {len(x)}', len(x) == len(y))
      if not predict:
        self._check_values(x, y)

  def _check_values(self, x, y):
    if self.in_unit_cube:
      check_values(np.asarray(x))
    else:
      check('images', 'NaN or infinity', 'finite numbers', bool(np.isfinite(x).all()))
    if self.takes_pairs:
      check('y', 'NaN or infinity', 'finite numbers', bool(np.isfinite(y).all()))
    if self._flow.classes is not None:
      wrong = sorted(set(np.asarray(y).ravel().tolist()) - set(range(self._flow.classes)))
      check('y', ', '.join(map(str, wrong)), f'ints from 0 to {self._flow.classes - 1}', not wrong)

  def _check_batch(self, images, y, predict=False):
    if not is_array(images):
      found = f'a dict with {", ".join(map(repr, images))}' if isinstance(images, dict) else type(images).__name__
      raise UsageError(f'Batches must be images, (images, labels) or (images, labels, weights). Got: {found}.')
    check_events('images', images, self._flow.event_shape, 'batch')
    classes = self._flow.classes
    if not self.takes_pairs and (classes is None or predict):
      return
    kind = 'conditions' if classes is None else f'labels from 0 to {classes - 1}'
    check('y', None if y is None else type(y).__name__, f'an array of {kind}, one for each image', is_array(y))
    if classes is None:
      check_events('y', y, tf.TensorShape(self._flow.condition_shape), 'batch')
      return
    shape, dtype = tf.TensorShape(y.shape), tf.as_dtype(y.dtype)
    one_each = any(shape.is_compatible_with(expected) for expected in ([None], [None, 1]))
    expected = f'{kind}, ints of shape [batch]'
    check('y', f'{dtype.name} of shape {shape}', expected, dtype.is_integer and one_each)

  def checked(self, data: Any) -> tuple[Any, tf.Tensor | None, tf.Tensor | None]:
    """Returns the batch of a step: what the flow takes, with labels or conditions if it is conditional; y; and weights.

    Raises:
      UsageError: If images, labels or conditions have another type or shape than the flow takes.
      tf.errors.InvalidArgumentError: When the step runs, if a value is wrong. XLA leaves that check out.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    self._check_batch(x, y)
    x = tf.ensure_shape(x, (None, *self._flow.event_shape))  # Keras needs the shape, which a dataset may not know.
    finite = {'y': y} if self.takes_pairs else {}
    asserted = []
    if sample_weight is not None:
      finite['sample_weight'] = sample_weight
      message = '`sample_weight` must be numbers of at least 0. Got:'
      negative = tf.reduce_any(sample_weight < 0)
      asserted.append(tf.debugging.Assert(~negative, [message, tf.reduce_min(sample_weight)]))
    if not self.in_unit_cube:
      finite['images'] = x
    else:
      # TensorFlow's minimum may pass over a NaN.
      inside = tf.reduce_all((x >= 0) & (x <= 1))
      message = f'`images` must have values in [0, 1]; {DEQUANTIZE}. Got:'
      asserted.append(tf.debugging.Assert(inside, [message, tf.reduce_min(x), tf.reduce_max(x)]))
    if self._flow.classes is not None:
      y = tf.ensure_shape(tf.reshape(y, tf.shape(x)[:1]), x.shape[:1])  # Keras' data sets have labels [n, 1].
      exist = tf.reduce_all((y >= 0) & (y < self._flow.classes))
      message = f'`y` must be ints from 0 to {self._flow.classes - 1}. Got:'
      asserted.append(tf.debugging.Assert(exist, [message, tf.reduce_min(y), tf.reduce_max(y)]))
    elif (shape := self._flow.condition_shape) is not None:
      y = tf.ensure_shape(y, (None, *shape))
    for name, value in finite.items():
      is_finite = tf.reduce_all(tf.math.is_finite(tf.cast(value, self._flow.dtype)))
      asserted.append(tf.debugging.Assert(is_finite, [f'`{name}` must be finite numbers. Got: NaN or infinity.']))
    # An unconditional flow ignores labels, whatever they are.
    inputs = [x, y] if self._flow._is_conditional else x
    with tf.control_dependencies([operation for operation in asserted if operation is not None]):
      return tf.nest.map_structure(tf.identity, inputs), y, sample_weight


def is_array(x: Any) -> bool:
  return hasattr(x, 'shape') and hasattr(x, 'dtype')


def _check_weights(weights: Any, n: int) -> None:
  found = np.asarray(weights)
  held = is_array(weights) and np.issubdtype(found.dtype, np.number) and found.shape in ((n,), (n, 1))
  held = held and bool((np.isfinite(found) & (found >= 0)).all())
  expected = f'an array of {n} finite numbers of at least 0, one for each image'
  check('sample_weight', f'{found.dtype} of shape {found.shape}', expected, held)


def labels_for(x: Any, y: Any, sample_weight: Any) -> Any:
  """Returns labels for weights that come without labels: Keras would drop the weights."""
  return np.zeros(len(x)) if y is None and sample_weight is not None and is_array(x) else y
