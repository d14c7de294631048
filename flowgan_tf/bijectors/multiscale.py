"""Factoring out half of the channels, as a bijector of the whole event."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp

from flowgan_tf.bijectors import masks
from flowgan_tf.bijectors.one_pass import OnePassBijector
from flowgan_tf.bijectors.shapes import as_event_shape
from flowgan_tf.bijectors.variables import VariableBijector
from flowgan_tf.errors import check

__all__ = ['FactorOut']


class FactorOut(VariableBijector, OnePassBijector):
  """Applies a bijector to the second half of the channels and passes the first half on.

  ```none
  y = [x_1, g(x_2)]         log|det dy/dx| = log|det dg/dx_2|
  ```

  In the multi-scale architecture the first half is noise that goes directly into this scale, and `g` is the flow of all
  coarser scales. The latent keeps the size of the image, and scales can be nested. `tfb.Blockwise`
  splits vectors only, and not images.

  #### References

  [1]: Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. ICLR 2017, section 3.6.
  """

  def __init__(
    self,
    bijector: tfp.bijectors.Bijector,
    event_shape: tuple[int, int, int],
    validate_args: bool = False,
    name: str = 'factor_out',
  ):
    """Builds the bijector.

    Args:
      bijector: `g` above, a bijector of events `[height, width, channels // 2]` that keeps their shape.
      event_shape: Shape of the event, `(height, width, channels)`.
      validate_args: Whether TFP checks its arguments at run time.
      name: Name of the bijector.

    Raises:
      ValueError: If `event_shape` is not `(height, width, channels)`, the number of channels is odd, or `bijector` is
        not a bijector that keeps the shape of its event.
    """
    parameters = dict(locals())
    height, width, channels = as_event_shape(event_shape, '(height, width, channels)', lambda sizes: len(sizes) == 3)
    if channels % 2:
      raise ValueError(f'`event_shape` must have an even number of channels. Got: {tuple(event_shape)}.')
    check('bijector', bijector, 'a `tfb.Bijector`', isinstance(bijector, tfp.bijectors.Bijector))
    half = (height, width, channels // 2)
    returned = bijector.forward_event_shape(half)
    if not returned.is_compatible_with(half):
      raise ValueError(
        f'`bijector` must keep the shape of its event, {half}. Got: {bijector.name!r}, which returns {tuple(returned)}.'
      )
    with tf.name_scope(name) as name:
      self._bijector = bijector
      self._mask = masks.channel(event_shape)
      super().__init__(
        forward_min_event_ndims=3,
        is_constant_jacobian=bijector.is_constant_jacobian,
        validate_args=validate_args,
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
