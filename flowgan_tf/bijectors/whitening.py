"""Whitening of images by their power spectrum, a closed-form start for flows of photographs."""

from collections.abc import Sequence

import numpy as np
import scipy.fft
import tensorflow as tf

from flowgan_tf.base.errors import check, check_integers, check_range
from flowgan_tf.bijectors.base import VariableBijector, check_event_shape

_LEAST = 1e-6  # Smallest variance, as a share of the mean one, which is 1 if all are 0.


class SpectralWhitening(VariableBijector):
  """Makes white noise of logits that have the mean colour and the power spectrum of the data.

  ```none
  y = DCT^-1(s C_k^(-1/2) DCT(x - m)_k)         log|det dy/dx| = d log s - 1/2 sum_k log det C_k,   x in R^d
  ```

  `DCT` is the orthonormal discrete cosine transform of each channel, `m` the mean colour, `C_k` the covariance of the
  channels at frequency `k`, and `s` the standard deviation of the noise. `fit` takes `m` and `C_k` from data. With
  normal noise, `x` is then Gaussian with one mean colour and independent frequencies. No other such Gaussian gives the
  data a larger likelihood, but for a floor of the variances. The frequencies of photographs are nearly independent,
  because their statistics are the same everywhere in the image. A new bijector changes nothing, and training does not
  change `m` and `C_k`.

  Source: David J. Field. Relations between the statistics of natural images and the response properties of cortical
  cells. JOSA A, 1987. For the transform: N. Ahmed, T. Natarajan, K. R. Rao. Discrete Cosine Transform. 1974.
  """

  fit_images = 5000  #: How many images `fit` asks for.

  def __init__(self, event_shape: Sequence[int], stddev: float = 1.0, name: str = 'spectral_whitening'):
    """Builds the bijector.

    Args:
      event_shape: `(height, width, channels)` of the images.
      stddev: `s` above, such as the standard deviation of a prior.

    Raises:
      UsageError: If `event_shape` is not the shape of an image, or `stddev` is out of range.
    """
    parameters = dict(locals())
    check_integers('event_shape', event_shape)
    check('event_shape', tuple(event_shape), '(height, width, channels)', len(event_shape) == 3)
    check_range('stddev', stddev, 1e-6, 1e6)
    *sides, channels = self._shape = tuple(event_shape)
    self._stddev = float(stddev)
    with tf.name_scope(name) as name:
      # In float64, so that C_k^(1/2), its inverse and the log-determinant also agree for inputs in float64.
      identity = tf.eye(channels, batch_shape=sides, dtype=tf.float64)
      self._mean = tf.Variable(tf.zeros(channels, tf.float64), trainable=False, name='mean')
      self._root = tf.Variable(identity, trainable=False, name='root')
      self._inverse_root = tf.Variable(identity, trainable=False, name='inverse_root')
      self._log_det = tf.Variable(tf.zeros((), tf.float64), trainable=False, name='log_det')
      self._bases = [scipy.fft.dct(np.eye(side), axis=0, norm='ortho') for side in sides]
      super().__init__(forward_min_event_ndims=3, is_constant_jacobian=True, parameters=parameters, name=name)

  def fit(self, values: tf.Tensor, inverse: bool) -> None:
    """Takes mean and covariances from data.

    Args:
      values: What reaches the bijector from the training images, `[n, *event_shape]` with n greater than the number of
        channels.
      inverse: Whether `values` are inputs of the inverse, which would be white noise.

    Raises:
      UsageError: If the values have another shape, there are too few, or `inverse` is True.
    """
    check('inverse', inverse, 'False: the bijector maps data to noise', not inverse)
    images = np.asarray(values, np.float64)
    expected = f'[n, *{self._shape}] with n above {self._shape[-1]}'
    fits = images.shape[1:] == self._shape and len(images) > self._shape[-1]
    check('values', f'shape {images.shape}', expected, fits)
    mean = images.mean(axis=(0, 1, 2))
    found = scipy.fft.dctn(images - mean, axes=(1, 2), norm='ortho')
    covariances = np.einsum('nhwc,nhwd->hwcd', found, found) / len(found)
    variances, vectors = np.linalg.eigh(covariances)
    variances = np.maximum(variances, _LEAST * (variances.mean() or 1.0)) / self._stddev**2
    for variable, power in ((self._root, 0.5), (self._inverse_root, -0.5)):
      variable.assign(np.einsum('hwck,hwk,hwdk->hwcd', vectors, variances**power, vectors))
    self._mean.assign(mean)
    self._log_det.assign(-0.5 * np.log(variances).sum())

  def _forward(self, x):
    check_event_shape(x, self._shape, self.name)
    return self._filter(x - tf.cast(self._mean, x.dtype), self._inverse_root)

  def _inverse(self, y):
    check_event_shape(y, self._shape, self.name)
    return self._filter(y, self._root) + tf.cast(self._mean, y.dtype)

  def _forward_log_det_jacobian(self, x):
    return tf.cast(self._log_det, x.dtype)

  def _filter(self, images, roots):
    rows, columns = (tf.constant(basis, images.dtype) for basis in self._bases)
    spectrum = tf.einsum('ih,jw,...hwc->...ijc', rows, columns, images, optimize='greedy')
    spectrum = tf.einsum('ijcd,...ijd->...ijc', tf.cast(roots, images.dtype), spectrum)
    return tf.einsum('ih,jw,...ijc->...hwc', rows, columns, spectrum, optimize='greedy')
