"""The two steps of the multi-scale architecture: space-to-depth, and factoring out half of the channels."""

import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.base.errors import UsageError, check
from flowgan_tf.bijectors import masks
from flowgan_tf.bijectors.base import OnePassBijector, VariableBijector
from flowgan_tf.networks.pixels import depth_to_space, space_to_depth


class Squeeze(tfp.bijectors.Bijector):
  """Turns each 2x2 block of pixels into channels: `[h, w, c] -> [h/2, w/2, 4c]`.

  It only permutes the entries, so that `log|det dy/dx| = 0`.

  Source: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017, section 3.6.
  """

  def __init__(self, name: str = 'squeeze'):
    parameters = dict(locals())
    with tf.name_scope(name) as name:
      super().__init__(forward_min_event_ndims=3, is_constant_jacobian=True, parameters=parameters, name=name)

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return {}

  @property
  def _is_permutation(self):  # So TFP knows the variance of a squeezed distribution.
    return True

  def _forward(self, x):
    _require_divisible(x.shape, (2, 2, 1), 'an even height and width')
    return space_to_depth(x, 2)

  def _inverse(self, y):
    _require_divisible(y.shape, (1, 1, 4), 'a number of channels divisible by 4')
    return depth_to_space(y, 2)

  def _forward_log_det_jacobian(self, x):
    return tf.zeros([], x.dtype)

  def _forward_event_shape(self, shape):
    if shape.rank is None:
      return shape
    _require_divisible(shape, (2, 2, 1), 'an even height and width')
    *front, height, width, channels = shape
    return tf.TensorShape([*front, height and height // 2, width and width // 2, channels and 4 * channels])

  def _inverse_event_shape(self, shape):
    if shape.rank is None:
      return shape
    _require_divisible(shape, (1, 1, 4), 'a number of channels divisible by 4')
    *front, height, width, channels = shape
    return tf.TensorShape([*front, height and 2 * height, width and 2 * width, channels and channels // 4])

  def _forward_event_shape_tensor(self, shape):
    return tf.concat([shape[:-3], shape[-3:] // [2, 2, 1] * [1, 1, 4]], axis=0)

  def _inverse_event_shape_tensor(self, shape):
    return tf.concat([shape[:-3], shape[-3:] * [2, 2, 1] // [1, 1, 4]], axis=0)


def _require_divisible(shape: tf.TensorShape, divisors: tuple[int, ...], what: str) -> None:
  sizes = (None,) * 3 if shape.rank is None else shape[-3:]
  if any(size is not None and size % divisor for size, divisor in zip(sizes, divisors, strict=True)):
    raise UsageError(f'`Squeeze` needs {what}. Got: an input of shape {shape}.')


class FactorOut(VariableBijector, OnePassBijector):
  """Applies a bijector to the second half of the channels and passes the first half on.

  ```none
  y = [x_1, g(x_2)]         log|det dy/dx| = log|det dg/dx_2|
  ```

  In the multi-scale architecture the first half is noise that goes directly into this scale, and `g` is the flow of all
  coarser scales. The latent keeps the size of the image, and scales can be nested. `tfb.Blockwise` splits vectors, but
  not images.

  Source: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017, section 3.6.
  """

  def __init__(self, bijector: tfp.bijectors.Bijector, event_shape: tuple[int, int, int], name: str = 'factor_out'):
    """Builds the bijector.

    Args:
      bijector: `g` above, a bijector of events `[height, width, channels // 2]` that keeps their shape.
      event_shape: Shape of the event, `(height, width, channels)`.

    Raises:
      UsageError: If the number of channels is odd, or `bijector` changes the shape of its event.
    """
    parameters = dict(locals())
    suits = len(event_shape) == 3 and event_shape[-1] % 2 == 0
    check('event_shape', event_shape, '(height, width, an even number of channels)', suits)
    half = (*event_shape[:2], event_shape[2] // 2)
    returned = bijector.forward_event_shape(half)
    if not returned.is_compatible_with(half):
      raise UsageError(
        f'`bijector` must keep the shape of its event, {half}. Got: {bijector.name!r}, which returns {returned}.',
        'bijector',
      )
    with tf.name_scope(name) as name:
      self._bijector = bijector
      self._mask = masks.channel(event_shape)
      super().__init__(
        forward_min_event_ndims=3,
        is_constant_jacobian=bijector.is_constant_jacobian,
        parameters=parameters,
        name=name,
      )

  @property
  def bijector(self) -> tfp.bijectors.Bijector:
    """The bijector of the second half of the channels."""
    return self._bijector

  def _forward_and_log_det(self, x, **kwargs):
    first, second = self._mask.split(x)
    y = self._bijector.forward(second, **kwargs)
    return self._mask.merge(first, y), self._bijector.forward_log_det_jacobian(second, event_ndims=3, **kwargs)

  def _inverse_and_log_det(self, y, **kwargs):
    first, second = self._mask.split(y)
    x = self._bijector.inverse(second, **kwargs)
    return self._mask.merge(first, x), self._bijector.inverse_log_det_jacobian(second, event_ndims=3, **kwargs)
