"""Couplings: a network reads one part of the event, and chooses a bijector of the other part."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.base.errors import UsageError, check, check_integer, check_range
from flowgan_tf.base.settings import LOG_SCALE_BOUNDS
from flowgan_tf.bijectors import masks
from flowgan_tf.bijectors.base import OnePassBijector, VariableBijector, has_argument
from flowgan_tf.networks.adapter import KerasModule


class Coupling(VariableBijector, OnePassBijector):
  """Changes each number of one part of the event by a bijector that a network chooses from the other part.

  ```none
  y_kept    = x_kept
  y_changed = f(x_changed; conditioner(x_kept))         log|det dy/dx| = sum log f'
  ```

  `inner` turns the output of the conditioner into `f`, a bijector of single numbers:

  ```python
  def arcsinh(params):
    skewness, tail = tf.split(params, 2, axis=-1)
    return tfp.bijectors.SinhArcsinh(skewness, tf.exp(tf.tanh(tail)))


  mask = fg.bijectors.masks.even_odd(5)  # keeps 3 numbers and changes 2
  coupling = fg.bijectors.Coupling(keras.layers.Dense(4), mask, arcsinh, outputs=2)
  y = coupling.forward(tf.zeros((8, 5)))
  ```

  A Keras network with two inputs makes a coupling given a condition `c`, here a vector of three numbers:

  ```python
  x, c = keras.Input((2,)), keras.Input((3,))
  shift = keras.layers.Dense(2)(keras.layers.Dense(32, 'relu')(keras.layers.Concatenate()([x, c])))
  mask = fg.bijectors.masks.even_odd(4)
  coupling = fg.bijectors.AdditiveCoupling(keras.Model([x, c], shift), mask, condition_shape=(3,))
  y = coupling.forward(tf.zeros((5, 4)), condition=tf.ones((5, 3)))
  ```
  """

  accepts_training = True

  def __init__(
    self,
    conditioner: keras.Layer | tf.Module,
    mask: masks.Mask | np.ndarray,
    inner: Callable[[tf.Tensor], tfp.bijectors.Bijector],
    outputs: int,
    name: str = 'coupling',
    condition_shape: Sequence[int] | None = None,
  ):
    """Builds the coupling.

    Args:
      conditioner: A Keras layer, or a `tf.Module` called as `conditioner(x, training=...)`. It gets the kept part,
        `[..., *mask.kept_shape]`, and returns `outputs` numbers for each entry of the changed part: the shape of that
        part, `[..., *mask.changed_shape]`, with a last axis that is `outputs` times as long.
      mask: A `masks.Mask`, or an array of the event's shape with 1 for the kept entries and 0 for the changed ones.
      inner: A function of what the conditioner returns; `tf.split(params, outputs, axis=-1)` makes `outputs` tensors
        of it, each of the shape of the changed part. It returns a `tfb.Bijector` of single numbers. Where the changed
        part has the shape of the event, the bijector also meets zeros in place of the kept part. It must be finite and
        smooth there, too, but its results there are left out. If it has variables, it must be a `tf.Module`.
      outputs: Number of outputs for each entry of the changed part.
      name: Name of the bijector, unique within a `tfb.Chain` that is called with `training`.
      condition_shape: Shape of a condition `c`, which the network then sees, too. The methods of the coupling then need
        the keyword `condition`, floats `[..., *condition_shape]`. A Keras layer is called as `conditioner([x, c])`. A
        `tf.Module` whose `__call__` takes a `condition` is called as `conditioner(x, condition=c, training=...)`, also
        without this argument.

    Raises:
      UsageError: If the conditioner has no trainable variables, or takes no condition although it has a shape. When the
        coupling is called: if the conditioner returns another shape, or if a conditioner that takes a condition gets
        none, or another conditioner gets one.
    """
    parameters = dict(locals())
    check_integer('outputs', outputs, 1)
    with tf.name_scope(name) as name:
      self._inner, self._outputs = inner, int(outputs)
      self._mask = mask if isinstance(mask, masks.Mask) else masks.BinaryMask(mask)
      if isinstance(conditioner, keras.Layer):
        conditioner = KerasModule(conditioner, self._mask.kept_shape, condition_shape=condition_shape)
      # TFP would not see the variables of a function or of a network that it cannot look into.
      trainable = isinstance(conditioner, tf.Module) and bool(conditioner.trainable_variables)
      check('conditioner', conditioner, 'a Keras layer or a tf.Module with trainable variables', trainable)
      self._conditioner = conditioner
      self.accepts_condition = has_argument(conditioner, 'condition')
      if condition_shape is not None:
        taken = getattr(conditioner, 'condition_shape', condition_shape) if self.accepts_condition else None
        suits = taken is not None and tuple(condition_shape) == tuple(taken)
        check('condition_shape', condition_shape, f'{taken}, as the conditioner takes it', suits)
      super().__init__(forward_min_event_ndims=len(self._mask.event_shape), parameters=parameters, name=name)

  @property
  def conditioner(self) -> tf.Module:
    """The network that reads the kept part."""
    return self._conditioner

  @property
  def mask(self) -> masks.Mask:
    """The mask that says which part is kept."""
    return self._mask

  def _forward_and_log_det(self, x, training=False, condition=None):
    return self._apply('forward', x, training, condition)

  def _inverse_and_log_det(self, y, training=False, condition=None):
    return self._apply('inverse', y, training, condition)

  def inner_bijector(
    self, kept: tf.Tensor, training: bool = False, condition: tf.Tensor | None = None
  ) -> tfp.bijectors.Bijector:
    """Returns what `inner` returns for a kept part `[..., *mask.kept_shape]`: the bijector `f` of the changed part.

    Raises:
      UsageError: If `inner` does not return a bijector of single numbers, or the conditioner returns another shape.
    """
    bijector = self._inner(self._output(kept, training, condition))
    suits = isinstance(bijector, tfp.bijectors.Bijector) and bijector.forward_min_event_ndims == 0
    check('inner', type(bijector).__name__, 'a function that returns a bijector of single numbers', suits)
    return bijector

  def _apply(self, direction, x, training, condition):
    if not x.dtype.is_floating:  # A shift would be rounded to an integer.
      raise UsageError(f'{self.name} expects floating-point numbers. Got: input of type {x.dtype.name}.')
    kept, changed = self._mask.split(x)
    bijector = self.inner_bijector(kept, training, condition)
    y = getattr(bijector, direction)(changed)
    log_det = getattr(bijector, f'{direction}_log_det_jacobian')(changed, event_ndims=0)
    expected = f'a function that returns a bijector of single numbers, which keeps the shape {changed.shape}'
    check('inner', y.shape, expected, y.shape.is_compatible_with(changed.shape))
    shape = self._mask.changed_shape
    if log_det.shape[-len(shape) :] != shape:  # A constant, for instance.
      log_det += tf.zeros(shape, log_det.dtype)
    axes = list(range(-len(shape), 0))
    log_det = tf.reduce_sum(self._mask.restrict(log_det), axis=axes)
    return self._mask.merge(kept, self._mask.restrict(y)), log_det

  def _output(self, kept, training, condition):
    # Checked at every call, because a wrong shape might broadcast and give a wrong log-det without an error.
    given = condition is not None
    expected = 'given' if self.accepts_condition else "None, because this coupling's network does not take it"
    check('condition', 'a condition' if given else None, expected, given == self.accepts_condition)
    output = self._conditioner(kept, training=training, **({'condition': condition} if given else {}))
    *front, channels = self._mask.changed_shape
    shape = (*front, self._outputs * channels)
    if output.shape.rank is not None and not output.shape[-len(shape) :].is_compatible_with(shape):
      parts = shape, self._mask.changed_shape, self._mask.kept_shape
      returned, changes, gets = (f'(batch, {", ".join(map(str, part))})' for part in parts)
      raise UsageError(
        f'`conditioner` must return shape {returned}, which is {self._outputs} for each number of the changed part, '
        f'{changes}. It gets the kept part, {gets}. Got: {tuple(output.shape)}.',
        'conditioner',
      )
    return tf.cast(output, kept.dtype)


class AdditiveCoupling(Coupling):
  """Shifts one part of the event by a function of the other part.

  ```none
  y_kept    = x_kept
  y_changed = x_changed + t(x_kept)         log|det dy/dx| = 0
  ```

  `is_constant_jacobian` is false: the determinant is constant, but the matrix is not. If it were true, TFP would take
  `forward(mean)` for the mean of a distribution.

  Source: Laurent Dinh, David Krueger, Yoshua Bengio. NICE: Non-linear Independent Components Estimation. 2014, section
  3.2.
  """

  def __init__(
    self,
    conditioner: keras.Layer | tf.Module,
    mask: masks.Mask | np.ndarray,
    name: str = 'additive_coupling',
    condition_shape: Sequence[int] | None = None,
  ):
    """Builds the coupling, whose conditioner returns one number, `t`, for each changed one; see `Coupling`."""
    super().__init__(conditioner, mask, tfp.bijectors.Shift, 1, name, condition_shape)


class _Affine(OnePassBijector):
  """Without the sums of log-determinants that a `tfb.Chain` of a shift and a scale would compute."""

  def __init__(self, shift, log_scale):
    self.shift, self.log_scale = shift, log_scale
    super().__init__(forward_min_event_ndims=0, name='affine')

  def _forward_and_log_det(self, x):
    return x * tf.exp(self.log_scale) + self.shift, self.log_scale

  def _inverse_and_log_det(self, y):
    return (y - self.shift) * tf.exp(-self.log_scale), -self.log_scale


class AffineCoupling(Coupling):
  """Scales and shifts one part of the event by functions of the other part.

  ```none
  y_kept    = x_kept
  y_changed = x_changed * exp(s(x_kept)) + t(x_kept)         log|det dy/dx| = sum s(x_kept)

  s = b tanh((a tanh(h) + d) / b)
  ```

  `t` and `h` are the two halves of the conditioner's output channels. `a` and `d` are learned scalars that start at
  `initial_scale` and 0, with the dtype of the conditioner's weights. `b` bounds the log-scale, because rounding would
  destroy the inverse of a stack of unbounded couplings.

  Source: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017, section 3.
  """

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
      conditioner, mask, name, condition_shape: As for a `Coupling`. The conditioner returns two numbers for each
        changed one, the shift `t` and `h`.
      log_scale_bound: `b` above, the largest absolute log-scale of an entry, in nats.
      initial_scale: Initial value of `a` above.

    Raises:
      UsageError: As for a `Coupling`, or if `log_scale_bound` or `initial_scale` is out of range.
    """
    check_range('log_scale_bound', log_scale_bound, *LOG_SCALE_BOUNDS)
    check_range('initial_scale', initial_scale, -1e30, 1e30)
    with tf.name_scope(name) as name:
      super().__init__(conditioner, mask, self._affine, 2, name, condition_shape)
      self._bound = float(log_scale_bound)
      # The precision of the network's weights, which are float32 under mixed policies.
      dtype = self._conditioner.trainable_variables[0].dtype
      self._scale = tf.Variable(tf.constant(initial_scale, dtype), name='scale')
      self._offset = tf.Variable(tf.zeros((), dtype), name='offset')

  def _affine(self, params):
    shift, h = tf.split(params, 2, axis=-1)
    scale, offset = tf.cast(self._scale, h.dtype), tf.cast(self._offset, h.dtype)
    log_scale = self._bound * tf.tanh((scale * tf.tanh(h) + offset) / self._bound)
    return _Affine(shift, log_scale)
