"""Whitening of images by their power spectrum, a closed-form start for flows of photographs."""

from collections.abc import Sequence

import numpy as np
import scipy.fft
import tensorflow as tf

from flowgan_tf.bijectors.base import VariableBijector, check_event_shape
from flowgan_tf.errors import check

_LEAST = 1e-6  # Smallest variance, as a share of the mean one.


class SpectralWhitening(VariableBijector):
  """Makes white noise of images with the mean colour and the power spectrum of the data.

  ```none
  y_k = C_k^(-1/2) (DCT(x - m))_k,   then the inverse DCT of y      log|det dy/dx| = -1/2 sum_k log det C_k
  ```

  `DCT` is the orthonormal discrete cosine transform of each channel, `m` the mean colour, and `C_k` the covariance of
  the channels at frequency `k`, from the training images that reach the bijector (`fit`). So these are the Gaussian
  images with the largest likelihood among all whose frequencies are independent. Natural images have nearly this
  covariance, because what is typical of one place is typical of all others. A new bijector changes nothing.

  In a flow whose other parts are new, samples are clouds in the colours of the data, and the likelihood is that of the
  Gaussian. Neither mean nor covariances are trained.

  Source: David J. Field. Relations between the statistics of natural images and the response properties of cortical
  cells. JOSA A, 1987. For the transform: N. Ahmed, T. Natarajan, K. R. Rao. Discrete Cosine Transform. 1974.
  """

  fit_images = 5000  #: How many images `fit` asks for.

  def __init__(
    self,
    event_shape: Sequence[int],
    stddev: float = 1.0,
    dtype: tf.DType = tf.float32,
    name: str = 'spectral_whitening',
  ):
    """Builds the bijector.

    Args:
      event_shape: `(height, width, channels)` of the images.
      stddev: Standard deviation of the white noise, such as the prior's.
      dtype: Floating-point type of the variables. The computation uses the input's type.

    Raises:
      UsageError: If `event_shape` is not the shape of an image, or `stddev` is not positive.
    """
    parameters = dict(locals())
    check('event_shape', tuple(event_shape), '(height, width, channels)', len(event_shape) == 3)
    check('stddev', stddev, 'a positive number', stddev > 0)
    *sides, channels = self._shape = tuple(event_shape)
    self._stddev = float(stddev)
    with tf.name_scope(name) as name:
      # C_k^(1/2) and its inverse for each frequency; float64 is needed only to find them.
      identity = tf.eye(channels, batch_shape=sides, dtype=dtype)
      self._mean = tf.Variable(tf.zeros(channels, dtype), trainable=False, name='mean')
      self._root = tf.Variable(identity, trainable=False, name='root')
      self._inverse_root = tf.Variable(identity, trainable=False, name='inverse_root')
      self._log_det = tf.Variable(tf.zeros((), dtype), trainable=False, name='log_det')
      self._bases = [scipy.fft.dct(np.eye(side), axis=0, norm='ortho') for side in sides]
      super().__init__(forward_min_event_ndims=3, is_constant_jacobian=True, parameters=parameters, name=name)

  def fit(self, values: tf.Tensor, inverse: bool) -> None:
    """Takes mean and covariances from data, `[n, *event_shape]`, with more images than channels.

    Args:
      values: What reaches the bijector from the training images.
      inverse: Whether `values` are inputs of the inverse, which would be white noise.

    Raises:
      UsageError: If `inverse` is True.
    """
    check('inverse', inverse, 'False: the bijector maps data to noise', not inverse)
    images = np.asarray(values, np.float64)
    mean = images.mean(axis=(0, 1, 2))
    found = scipy.fft.dctn(images - mean, axes=(1, 2), norm='ortho')
    covariances = np.einsum('nhwc,nhwd->hwcd', found, found) / len(found)
    variances, vectors = np.linalg.eigh(covariances)
    variances = np.maximum(variances, _LEAST * variances.mean()) / self._stddev**2
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
    roots = tf.cast(roots, images.dtype)
    spectrum = tf.einsum('ih,jw,...hwc->...ijc', rows, columns, images, optimize='greedy')
    return tf.einsum('ih,jw,...ijc->...hwc', rows, columns, tf.einsum('ijcd,...ijd->...ijc', roots, spectrum))
