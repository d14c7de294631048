"""How well samples match their conditions: labels, as a classifier sees them, and images, which are compared."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.metrics.arrays import binomial_error, map_batches
from flowgan_tf.metrics.scores import feature_statistics, frechet_distance

FEWEST_OF_A_CLASS = 50  # samples and training images for an FID within a class

_SMALLEST_ERROR = 1e-12  # mean squared error that counts as 0: no PSNR is above 120 dB
_SSIM_WINDOW = 11
_BATCH_SIZE = 500


def label_agreement(predicted: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, Any]:
  """Returns the share of samples that a classifier assigns to the class they were drawn for.

  Args:
    predicted: The classes that the classifier assigns the samples to, ints `[n]`.
    labels: The classes that the samples were drawn for, ints `[n]`.
    classes: Number of classes.

  Returns:
    `label_share`, the share of all samples; `label_share_error`, its binomial standard error `sqrt(p (1 - p) / n)`;
    `label_shares`, the share of the samples of each class, None for a class without samples; `worst_label`, the class
    with the smallest share; and `worst_label_share`, that share.
  """
  hit = predicted == labels
  shares = [float(hit[labels == label].mean()) if np.any(labels == label) else None for label in range(classes)]
  worst_share, worst = min((share, label) for label, share in enumerate(shares) if share is not None)
  return {
    'label_share': float(hit.mean()),
    'label_share_error': binomial_error(hit.mean(), len(hit)),
    'label_shares': shares,
    'worst_label': worst,
    'worst_label_share': worst_share,
  }


def class_distances(
  features: np.ndarray, labels: np.ndarray, references: Sequence[np.ndarray], fewest: int = FEWEST_OF_A_CLASS
) -> dict[str, Any]:
  """Measures the FID within each class, the intra-FID: its samples against real images of this class alone.

  An FID of few images is too high. So compare it only with an FID of as many images; see `frechet_distance`.

  Args:
    features: Features of the samples, real `[n, d]`.
    labels: The classes that the samples were drawn for, ints `[n]`.
    references: Features of real images, `[m, d]` for each class.
    fewest: A class that has fewer samples or fewer real images is left out.

  Returns:
    `class_fid`, the mean over classes; `class_fids`, the FID of each class, None for a class that is left out;
    `worst_fid_label`, the class with the highest FID; `worst_class_fid`, that FID; `class_fid_samples` and
    `class_fid_references`, the smallest numbers of samples and of real images in a class; and `class_fid_left_out`, the
    number of classes that are left out. If all classes are left out, only this number is returned.

  Source: Takeru Miyato, Masanori Koyama. cGANs with Projection Discriminator. ICLR 2018, section 5.
  """
  groups = [features[labels == label] for label in range(len(references))]
  distances = {
    label: frechet_distance(feature_statistics(group), feature_statistics(reference))
    for label, (group, reference) in enumerate(zip(groups, references, strict=True))
    if min(len(group), len(reference)) >= fewest
  }
  left_out = {'class_fid_left_out': len(references) - len(distances)}
  if not distances:
    return left_out
  worst = max(distances, key=distances.__getitem__)
  return {
    'class_fid': float(np.mean([*distances.values()])),
    'class_fids': [distances.get(label) for label in range(len(references))],
    'worst_fid_label': worst,
    'worst_class_fid': distances[worst],
    'class_fid_samples': min(len(groups[label]) for label in distances),
    'class_fid_references': min(len(references[label]) for label in distances),
  } | left_out


def psnr(images: np.ndarray, others: np.ndarray) -> float:
  """Peak signal-to-noise ratio in dB, `-10 log10 mean((x - x')^2)` for a full range of 1, averaged over pairs.

  Each pair counts as 120 dB at most, so that a pair without any difference does not make the mean infinite.

  Args:
    images: Floats `[n, ...]`.
    others: Floats of the same shape.

  Raises:
    UsageError: If they are not floats, or have different shapes.
  """
  _check_pairs(images, others)
  squares = np.square(np.subtract(images, others, dtype=np.float64)).reshape(len(images), -1).mean(axis=1)
  return float(np.mean(-10 * np.log10(np.maximum(squares, _SMALLEST_ERROR))))


def ssim(images: np.ndarray, others: np.ndarray) -> float:
  """Structural similarity for a full range of 1, by `tf.image.ssim`, averaged over pairs: 1 for equal images.

  The Gaussian window has a standard deviation of 1.5 pixels and 11 x 11 of them or, for smaller images, as many as fit.

  Args:
    images: Floats `[n, height, width, channels]`.
    others: Floats of the same shape.

  Raises:
    UsageError: If they are not floats, or have different shapes.

  Source: Zhou Wang, Alan C. Bovik, Hamid R. Sheikh, Eero P. Simoncelli. Image Quality Assessment: From Error Visibility
  to Structural Similarity. IEEE Transactions on Image Processing 13, 2004.
  """
  _check_pairs(images, others)
  smallest = min(images.shape[1:3])
  window = min(_SSIM_WINDOW, smallest - 1 + smallest % 2)  # odd, so that it has a centre

  def measure(a, b):
    return tf.image.ssim(tf.cast(a, tf.float32), tf.cast(b, tf.float32), 1.0, filter_size=window)

  return float(np.mean(map_batches(measure, images, min(_BATCH_SIZE, len(images)), others), dtype=np.float64))


def _check_pairs(images, others):
  images, others = np.asarray(images), np.asarray(others)
  if images.shape != others.shape or not all(np.issubdtype(x.dtype, np.floating) for x in (images, others)):
    raise UsageError(
      f'`images` and `others` must be floats of one shape. Got: {images.dtype} of shape {images.shape} and '
      f'{others.dtype} of shape {others.shape}.'
    )


def consistency(images: np.ndarray, conditions: np.ndarray, reduce: Callable[[np.ndarray], tf.Tensor]) -> float:
  """Reduces samples again, and returns the PSNR in dB between the results and what the samples were given.

  The pixels that a mask hides do not count.

  Args:
    images: Samples, floats `[n, height, width, channels]`.
    conditions: Floats `[n, ...]`.
    reduce: Function from images to what they would give, such as `Condition.reduce`.
  """
  shown = np.asarray(reduce(np.ones_like(images[:1])))[0] > 0
  starts = range(0, len(images), _BATCH_SIZE)
  again = np.concatenate([np.asarray(reduce(images[i : i + _BATCH_SIZE])) for i in starts])
  return psnr(again[:, shown], conditions[:, shown])


def sample_spread(images: np.ndarray) -> float:
  """How much samples for one condition differ: their standard deviation, averaged over pixels and conditions.

  It is 0 if a condition leaves only one image, or if a model ignores its noise.

  Args:
    images: Samples, floats `[conditions, samples, ...]`, with at least two samples for each condition.
  """
  return float(np.std(images, axis=1, ddof=1, dtype=np.float64).mean())
