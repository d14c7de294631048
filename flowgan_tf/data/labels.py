"""Trainings with few labels: which images keep their label, and how labels spread to others."""

import dataclasses
import math

import numpy as np
import threadpoolctl
from sklearn.decomposition import PCA
from sklearn.semi_supervised import LabelSpreading

from flowgan_tf.base.errors import check
from flowgan_tf.data.dataset import random_order
from flowgan_tf.data.split import Split

VERSION = 1  # Part of the name under which a training caches spread labels. Raise it with every change of these labels.
_SPREAD_TO = 50_000  # images, those with a label first
_SPREAD_VALUES = 2**28  # of these images, at most


def hide_labels(split: Split, labelled: int, classes: int) -> Split:
  """Returns a split in which only `labelled` images keep their labels; the others get -1.

  Each class keeps as many, or one more. Which images these are depends only on the data.

  Raises:
    UsageError: If there are fewer labels than classes, or a class has fewer images than it should keep.
  """
  check('labelled', labelled, f'0 or at least {classes}, one for each class', labelled >= classes)
  assert split.labels is not None
  order = random_order(len(split))
  kept = np.full(len(split), -1)
  for label in range(classes):
    rows, wanted = order[split.labels[order] == label], labelled // classes + (label < labelled % classes)
    expected = f'so small that each class has that many images; class {label} has {len(rows)}, not {wanted}'
    check('labelled', labelled, expected, wanted <= len(rows))
    kept[rows[:wanted]] = label
  return dataclasses.replace(split, labels=kept)


def spread_labels(split: Split) -> Split:
  """Returns a split whose images without a label, -1, have the label that spreads to them from their neighbours.

  The neighbours are the nine nearest other images in 50 principal components. Where no label has more than 70 % of the
  weight, -1 stays. Of a split with more than 50,000 images, or 1 GiB in float32, as many take part, those with a label
  first.

  Raises:
    UsageError: If the label spreads to no image, as may be if images are large.

  Source: Dengyong Zhou et al. Learning with Local and Global Consistency. NIPS 2003.
  """
  assert split.labels is not None
  order, most = random_order(len(split)), min(_SPREAD_TO, _SPREAD_VALUES // math.prod(split.images.shape[1:]))
  rows = np.sort(order[np.argsort(split.labels[order] < 0, kind='stable')][:most])
  images = np.reshape(split.images[rows], (len(rows), -1)).astype(np.float32)
  labels = split.labels.copy()
  with threadpoolctl.threadpool_limits(1):  # Threads would add numbers up in another order each time.
    features = PCA(min(50, *images.shape), random_state=0).fit_transform(images)
    neighbors = min(10, len(rows) - 1)
    found = LabelSpreading('knn', n_neighbors=neighbors, alpha=0.9, max_iter=200).fit(features, labels[rows])
  is_sure = found.label_distributions_.max(axis=1) > 0.7
  labels[rows] = np.where((labels[rows] < 0) & is_sure, found.transduction_, labels[rows])
  expected = 'False, or labels that spread to other images; here they reach none'
  check('spread_labels', True, expected, np.any(labels != split.labels))
  return dataclasses.replace(split, labels=labels)
