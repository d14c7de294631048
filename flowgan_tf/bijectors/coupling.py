"""Additive (NICE) and affine (Real-NVP) coupling layers."""

import inspect
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from flowgan_tf.bijectors import masks
from flowgan_tf.bijectors.base import OnePassBijector, VariableBijector
from flowgan_tf.errors import UsageError, check, check_number
from flowgan_tf.networks.adapter import KerasModule


class _Coupling(VariableBijector, OnePassBijector):
  """Base of both couplings: a mask, and a conditioner that sees the kept part of the event, and the condition."""

  accepts_training = True
  _outputs_per_entry: int

  def __init__(self, conditioner, mask, condition_shape, parameters, name):
    self._mask = mask if isinstance(mask, masks.Mask) else masks.BinaryMask(mask)
    *front, channels = self._mask.changed_shape
    self._output_shape = (*front, self._outputs_per_entry * channels)
    if isinstance(conditioner, keras.Layer):
      conditioner = KerasModule(conditioner, self._mask.kept_shape, condition_shape=condition_shape)
    # TFP would not see the variables of a function or of a network that it cannot look into.
    trainable = isinstance(conditioner, tf.Module) and bool(conditioner.trainable_variables)
    check('conditioner', conditioner, 'a Keras layer or a tf.Module with trainable variables', trainable)
    self._conditioner = conditioner
    if isinstance(conditioner, KerasModule):
      self.accepts_condition = conditioner.condition_shape is not None
    else:
      self.accepts_condition = 'condition' in inspect.signature(conditioner.__call__).parameters
    if condition_shape is not None:
      taken = getattr(conditioner, 'condition_shape', condition_shape) if self.accepts_condition else None
      expected = f'{taken}, as the conditioner takes it'
      check('condition_shape', condition_shape, expected, taken is not None and tuple(condition_shape) == tuple(taken))
    super().__init__(
      forward_min_event_ndims=len(self._mask.event_shape),
      parameters=parameters,
      name=name,
    )

  @property
  def conditioner(self) -> tf.Module:
    """The network that computes shift (and log-scale) from the kept part."""
    return self._conditioner

  @property
  def mask(self) -> masks.Mask:
    """The mask that says which part is kept."""
    return self._mask

  def _output(self, kept, training, condition):
    # Checked at every call, because a wrong shape might broadcast and give a wrong log-det without an error.
    given = condition is not None
    expected = 'given' if self.accepts_condition else "None, because this coupling's network does not take it"
    check('condition', 'a condition' if given else None, expected, given == self.accepts_condition)
    output = self._conditioner(kept, training=training, **({'condition': condition} if given else {}))
    shape = self._output_shape
    if output.shape.rank is not None and not output.shape[-len(shape) :].is_compatible_with(shape):
      raise UsageError(f'`conditioner` must return shape {shape} per event. Got: {tuple(output.shape)}.', 'conditioner')
    return tf.cast(output, kept.dtype)


class AdditiveCoupling(_Coupling):
  """Shifts one part of the event by a function of the other part.

  ```none
  y_kept    = x_kept
  y_changed = x_changed + t(x_kept)         log|det dy/dx| = 0
  ```

  A Keras network with two inputs makes a coupling given a condition `c`, here a vector of three numbers:

  ```python
  x, c = keras.Input((2,)), keras.Input((3,))
  shift = keras.layers.Dense(2)(keras.layers.Dense(32, 'relu')(keras.layers.Concatenate()([x, c])))
  mask = fg.bijectors.masks.even_odd(4)
  coupling = fg.bijectors.AdditiveCoupling(keras.Model([x, c], shift), mask, condition_shape=(3,))
  y = coupling.forward(tf.zeros((5, 4)), condition=tf.ones((5, 3)))
  ```

  `is_constant_jacobian` is false: the determinant is constant, but the matrix is not. If it were true, TFP would take
  `forward(mean)` for the mean of a distribution.

  Source: Laurent Dinh, David Krueger, Yoshua Bengio. NICE: Non-linear Independent Components Estimation. 2014, section
  3.2.
  """

  _outputs_per_entry = 1

  def __init__(
    self,
    conditioner: keras.Layer | tf.Module,
    mask: masks.Mask | np.ndarray,
    name: str = 'additive_coupling',
    condition_shape: Sequence[int] | None = None,
  ):
    """Builds the coupling.

    Args:
      conditioner: A Keras layer, or a `tf.Module` called as `conditioner(x, training=...)`, that maps
        `[..., *mask.kept_shape]` to `[..., *mask.changed_shape]`.
      mask: A `masks.Mask`, or an array of the event's shape with 1 for the kept entries and 0 for the changed ones.
      name: Name of the bijector, unique within a `tfb.Chain` that is called with `training`.
      condition_shape: Shape of a condition `c`, for a coupling with shift `t(x_kept, c)`. Its methods then need the
        keyword `condition`, floats `[..., *condition_shape]`. A Keras layer is called as `conditioner([x, c])`. A
        `tf.Module` whose `__call__` takes a `condition` is called as `conditioner(x, condition=c, training=...)`, also
        without this argument.

    Raises:
      UsageError: If the conditioner has no trainable variables, or takes no condition although it has a shape. When the
        coupling is called: if the conditioner returns another shape, or if a conditioner that takes a condition gets
        none, or another conditioner gets one.
    """
    parameters = dict(locals())
    with tf.name_scope(name) as name:
      super().__init__(conditioner, mask, condition_shape, parameters, name)

  def _forward_and_log_det(self, x, training=False, condition=None):
    return self._shift(x, 1.0, training, condition)

  def _inverse_and_log_det(self, y, training=False, condition=None):
    return self._shift(y, -1.0, training, condition)

  def _shift(self, x, sign, training, condition):
    kept, changed = self._mask.split(x)
    shift = self._mask.restrict(self._output(kept, training, condition))
    return self._mask.merge(kept, changed + sign * shift), tf.zeros([], x.dtype)


class AffineCoupling(_Coupling):
  """Scales and shifts one part of the event by functions of the other part.

  ```none
  y_kept    = x_kept
  y_changed = x_changed * exp(s(x_kept)) + t(x_kept)         log|det dy/dx| = sum s(x_kept)

  s = b tanh((a tanh(h) + d) / b)
  ```

  `t` and `h` are the two halves of the conditioner's output channels. With a `condition_shape`, both also depend on the
  condition `c`: the coupling has `s(x_kept, c)` and `t(x_kept, c)`. `a` and `d` are learned scalars that start at
  `initial_scale` and 0, with the dtype of the conditioner's weights. `b` bounds the log-scale, because rounding would
  destroy the inverse of a stack of unbounded couplings.

  Source: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017, section 3.
  """

  _outputs_per_entry = 2

  def __init__(
    self,
    conditioner: keras.Layer | tf.Module,
    mask: masks.Mask | np.ndarray,
    log_scale_bound: float = 2.0,
    initial_scale: float = 1.0,
    name: str = 'affine_coupling',
    condition_shape: Sequence[int] | None = None,
  ):
    """Builds the coupling.

    Args:
      conditioner, mask, name, condition_shape: As for an `AdditiveCoupling`. The last axis of the
        conditioner's output is twice as long, and holds first the shift and then the log-scale.
      log_scale_bound: `b` above, the largest absolute log-scale of an entry, in nats.
      initial_scale: Initial value of `a` above.

    Raises:
      UsageError: If the conditioner has no trainable variables, `log_scale_bound` or `initial_scale` is out of range,
        or the conditioner returns another shape when it is called.
    """
    parameters = dict(locals())
    check_number('log_scale_bound', log_scale_bound, 'a number from 1e-30 to 1e30', lambda v: 1e-30 <= v <= 1e30)
    check_number('initial_scale', initial_scale, 'a number from -1e30 to 1e30', lambda v: abs(v) <= 1e30)
    with tf.name_scope(name) as name:
      super().__init__(conditioner, mask, condition_shape, parameters, name)
      self._bound = float(log_scale_bound)
      # The precision of the network's weights, which are float32 under mixed policies.
      dtype = self._conditioner.trainable_variables[0].dtype
      self._scale = tf.Variable(tf.constant(initial_scale, dtype), name='scale')
      self._offset = tf.Variable(tf.zeros((), dtype), name='offset')

  def _forward_and_log_det(self, x, training=False, condition=None):
    kept, changed = self._mask.split(x)
    shift, log_scale = self._shift_and_log_scale(kept, training, condition)
    return self._mask.merge(kept, changed * tf.exp(log_scale) + shift), self._sum(log_scale)

  def _inverse_and_log_det(self, y, training=False, condition=None):
    kept, changed = self._mask.split(y)
    shift, log_scale = self._shift_and_log_scale(kept, training, condition)
    return self._mask.merge(kept, (changed - shift) * tf.exp(-log_scale)), -self._sum(log_scale)

  def _shift_and_log_scale(self, kept, training, condition):
    shift, h = tf.split(self._output(kept, training, condition), 2, axis=-1)
    scale, offset = tf.cast(self._scale, h.dtype), tf.cast(self._offset, h.dtype)
    log_scale = self._bound * tf.tanh((scale * tf.tanh(h) + offset) / self._bound)
    return self._mask.restrict(shift), self._mask.restrict(log_scale)

  def _sum(self, log_scale):
    return tf.reduce_sum(log_scale, axis=list(range(-len(self._mask.event_shape), 0)))
