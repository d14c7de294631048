"""Space-to-depth as a bijector."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp

__all__ = ['Squeeze']


class Squeeze(tfp.bijectors.Bijector):
  """Turns each 2x2 block of pixels into channels: `[h, w, c] -> [h/2, w/2, 4c]`.

  It only permutes the entries, so that `log|det dy/dx| = 0`.

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017, section 3.6.
  """

  def __init__(self, validate_args: bool = False, name: str = 'squeeze'):
    """Builds the bijector.

    Args:
      validate_args: Whether TFP checks its arguments at run time.
      name: Name of the bijector.
    """
    parameters = dict(locals())
    with tf.name_scope(name) as name:
      super().__init__(
        forward_min_event_ndims=3,
        is_constant_jacobian=True,
        validate_args=validate_args,
        parameters=parameters,
        name=name,
      )

  @classmethod
  def _parameter_properties(cls, dtype, num_classes=None):
    return {}

  @property
  def _is_permutation(self):
    return True

  def _forward(self, x):
    height, width, channels = _image_shape(x)
    _require(height % 2 == 0 and width % 2 == 0, 'an even height and width', x)
    blocks = tf.reshape(x, (-1, height // 2, 2, width // 2, 2, channels))
    squeezed = tf.transpose(blocks, (0, 1, 3, 2, 4, 5))
    return _with_batch_shape_of(x, squeezed, (height // 2, width // 2, 4 * channels))

  def _inverse(self, y):
    height, width, channels = _image_shape(y)
    _require(channels % 4 == 0, 'a number of channels divisible by 4', y)
    blocks = tf.reshape(y, (-1, height, width, 2, 2, channels // 4))
    unsqueezed = tf.transpose(blocks, (0, 1, 3, 2, 4, 5))
    return _with_batch_shape_of(y, unsqueezed, (2 * height, 2 * width, channels // 4))

  def _forward_log_det_jacobian(self, x):
    return tf.zeros([], x.dtype)

  def _inverse_log_det_jacobian(self, y):
    return tf.zeros([], y.dtype)

  def _forward_event_shape(self, shape):
    if shape.rank is None:
      return shape
    *front, height, width, channels = shape
    return tf.TensorShape([*front, height and height // 2, width and width // 2, channels and 4 * channels])

  def _inverse_event_shape(self, shape):
    if shape.rank is None:
      return shape
    *front, height, width, channels = shape
    return tf.TensorShape([*front, height and 2 * height, width and 2 * width, channels and channels // 4])

  def _forward_event_shape_tensor(self, shape):
    return tf.concat([shape[:-3], shape[-3:] // [2, 2, 1] * [1, 1, 4]], axis=0)

  def _inverse_event_shape_tensor(self, shape):
    return tf.concat([shape[:-3], shape[-3:] * [2, 2, 1] // [1, 1, 4]], axis=0)


def _image_shape(x: tf.Tensor) -> list[int]:
  _require((x.shape.rank or 0) >= 3 and x.shape[-3:].is_fully_defined(), 'a known height, width and channels', x)
  return x.shape[-3:].as_list()


def _require(holds: bool, what: str, x: tf.Tensor) -> None:
  if not holds:
    raise ValueError(f'`Squeeze` needs {what}. Got: an input of shape {x.shape}.')


def _with_batch_shape_of(x: tf.Tensor, flat: tf.Tensor, event_shape: tuple[int, ...]) -> tf.Tensor:
  if x.shape[:-3].is_fully_defined():
    return tf.reshape(flat, (*x.shape[:-3], *event_shape))
  return tf.reshape(flat, tf.concat([tf.shape(x)[:-3], event_shape], axis=0))
