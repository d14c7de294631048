"""How well samples keep to their conditions, against loops, SciPy and TensorFlow."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import tensorflow as tf

from flowgan_tf.base.errors import UsageError
from flowgan_tf.data import conditions
from flowgan_tf.metrics.conditional import class_distances, consistency, label_agreement, psnr, sample_spread, ssim


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def test_shares_of_labels_by_hand():
  """No sample was asked for classes 1 and 4."""
  labels, predicted = np.array([0, 0, 0, 0, 2, 2, 3]), np.array([0, 0, 1, 2, 2, 3, 3])
  assert label_agreement(predicted, labels, 5) == {
    'label_share': pytest.approx(4 / 7),
    'label_share_error': pytest.approx(math.sqrt(4 / 7 * 3 / 7 / 7)),
    'label_shares': [0.5, None, 0.5, 1.0, None],
    'worst_label': 0,
    'worst_label_share': 0.5,
  }


def test_shuffled_labels_are_met_by_chance(rng):
  labels = np.arange(2000) % 10
  assert label_agreement(labels, labels, 10)['label_share'] == 1.0
  found = label_agreement(labels, rng.permutation(labels), 10)
  assert scipy.stats.binomtest(round(2000 * found['label_share']), 2000, 0.1).pvalue > 1e-3


def test_fid_within_classes(rng):
  """The means of class 1 are further apart. Class 2 has too few samples, and class 3 too few real images."""
  counts, real_counts = (80, 60, 49, 90), (70, 200, 300, 49)
  features = np.concatenate([rng.normal(label, 1, (n, 3)) for label, n in enumerate(counts)])
  labels = np.repeat(range(4), counts)
  references = [rng.normal(4 * label, 2, (n, 3)) for label, n in enumerate(real_counts)]
  order = rng.permutation(len(labels))
  found = class_distances(features[order], labels[order], references)
  distances = []
  for label in range(2):
    x, y = features[labels == label], references[label]
    a, b = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(a @ b).real
    distances.append(np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + np.trace(a + b - 2 * root))
  assert found == {
    'class_fid': pytest.approx(np.mean(distances), rel=1e-6),
    'class_fids': [pytest.approx(distances[0], rel=1e-6), pytest.approx(distances[1], rel=1e-6), None, None],
    'worst_fid_label': 1,
    'worst_class_fid': pytest.approx(distances[1], rel=1e-6),
    'class_fid_samples': 60,
    'class_fid_references': 70,
    'class_fid_left_out': 2,
  }
  assert class_distances(features, labels, [reference[:9] for reference in references]) == {'class_fid_left_out': 4}


def test_psnr_is_tensorflow_s(rng):
  images, others = rng.random((2, 7, 4, 5, 3)).astype(np.float32)
  assert psnr(images, others) == pytest.approx(tf.image.psnr(images, others, 1.0).numpy().mean(), rel=1e-5)
  # 20 dB are a difference of a tenth everywhere; no difference counts as 120 dB.
  assert psnr(np.zeros((2, 3)), np.array([[0.1] * 3, [0.0] * 3])) == pytest.approx((20 + 120) / 2)


@pytest.mark.parametrize('measure', [psnr, ssim])
@pytest.mark.parametrize(('dtype', 'shape'), [(np.uint8, (2, 4, 4, 1)), (np.float32, (1, 4, 4, 1))])
def test_grey_levels_and_other_shapes_are_rejected(measure, dtype, shape):
  got = rf'{np.dtype(dtype)} of shape \({", ".join(map(str, shape))}\)'
  with pytest.raises(UsageError, match=rf'^`images` and `others` must be floats .* \(2, 4, 4, 1\) and {got}\.$'):
    measure(np.zeros((2, 4, 4, 1), np.float32), np.zeros(shape, dtype))


def ssim_in_loops(a, b, size):
  """Wang et al., equations 13 to 16, of one channel."""
  axis = np.arange(size) - size // 2
  weights = np.exp(-(axis[:, np.newaxis] ** 2 + axis**2) / (2 * 1.5**2))
  weights /= weights.sum()
  values = []
  for i in range(a.shape[0] - size + 1):
    for j in range(a.shape[1] - size + 1):
      x, y = a[i : i + size, j : j + size], b[i : i + size, j : j + size]
      mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
      var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
      both = (weights * (x - mean_x) * (y - mean_y)).sum()
      c1, c2 = 0.01**2, 0.03**2
      values.append(
        (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
      )
  return np.mean(values)


@pytest.mark.parametrize(('shape', 'size'), [((8, 8, 1), 7), ((3, 5, 1), 3), ((14, 13, 3), 11)])
def test_ssim_with_a_window_that_fits(rng, shape, size):
  images = rng.random((3, *shape))
  others = np.clip(images + rng.normal(0, 0.2, images.shape), 0, 1)
  pairs = [(a[..., c], b[..., c]) for a, b in zip(images, others, strict=True) for c in range(shape[-1])]
  expected = np.mean([ssim_in_loops(a, b, size) for a, b in pairs])
  assert 0.1 < expected < 0.99 and ssim(images, others) == pytest.approx(expected, abs=1e-5)
  assert ssim(images, images) == pytest.approx(1.0, abs=1e-6)


def test_samples_reduced_again_are_compared_with_their_conditions(rng):
  samples = rng.random((6, 4, 6, 2)).astype(np.float32)
  shape = samples.shape[1:]
  smaller = samples.reshape(6, 2, 2, 3, 2, 2).mean(axis=(2, 4))
  low = conditions.LowResolution('low_resolution:2', 256, shape, shape=(2, 3, 2))
  assert consistency(samples, smaller + 0.01, low.reduce) == pytest.approx(40, abs=1e-3)
  # What the mask hides does not count, and neither does what samples show there.
  known = np.where(np.arange(4)[:, np.newaxis, np.newaxis] < 2, samples + 0.01, 0)
  masked = conditions.UpperHalf('mask:half', 256, shape, shape=shape)
  assert consistency(samples, known.astype(np.float32), masked.reduce) == pytest.approx(40, abs=1e-3)


def test_spread_is_of_samples_for_one_condition(rng):
  """Conditions differ by far more."""
  samples = rng.normal(0, 1, (5, 8, 2, 3, 1)) + 100 * np.arange(5).reshape(5, 1, 1, 1, 1)
  variances = [((pixel - pixel.mean()) ** 2).sum() / 7 for given in samples for pixel in given.reshape(8, -1).T]
  assert sample_spread(samples) == pytest.approx(np.mean(np.sqrt(variances)))
